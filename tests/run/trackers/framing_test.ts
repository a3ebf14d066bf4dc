import assert from "node:assert/strict";
import { LOG_HEADER, logRecord } from "../../../src/run/trackers/leveldb_log.ts";
import { bytes, double, float, integer, message, text } from "../../../src/run/trackers/protobuf.ts";
import { crc32c } from "../../../src/run/trackers/tf_record.ts";
import { concat } from "../../../src/run/trackers/tracker.ts";
import { withDirectory } from "../../assets.ts";
import { random } from "../../kernels/helpers.ts";
import { asText, at, readMessage, readWandb } from "./readers.ts";

Deno.test("CRC-32C of the examples in RFC 3720, B.4", () => {
  const filled = (byte: (i: number) => number) => Uint8Array.from({ length: 32 }, (_, i) => byte(i));
  const command = [
    ...[0x01, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x14, 0, 0, 0, 0, 0, 0x04, 0],
    ...[0, 0, 0, 0x14, 0, 0, 0, 0x18, 0x28, 0, 0, 0, 0, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0],
  ];
  for (
    const [data, crc] of [
      [filled(() => 0), 0x8a9136aa],
      [filled(() => 0xff), 0x62a8ab43],
      [filled((i) => i), 0x46dd794e],
      [filled((i) => 31 - i), 0x113fdb5c],
      [Uint8Array.from(command), 0xd9963a56],
      [new TextEncoder().encode("123456789"), 0xe3069283],
    ] as const
  ) assert.equal(crc32c(data), crc);
});

Deno.test("fields of protocol buffers are as the encoding's description has them", () => {
  // The examples of that description: 150 in field 1, "testing" in field 2, both in a message in field 3.
  assert.deepEqual([...integer(1, 150)], [0x08, 0x96, 0x01]);
  assert.deepEqual([...text(2, "testing")], [0x12, 0x07, ...new TextEncoder().encode("testing")]);
  assert.deepEqual([...message(3, integer(1, 150))], [0x1a, 0x03, 0x08, 0x96, 0x01]);
  for (const value of [0, 1, 127, 128, 2 ** 31 - 1, 2 ** 31, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
    assert.equal(at(integer(17, value), 17), value);
  }
  for (const value of [0.1, -0, NaN, Infinity, -1e300]) {
    const wide = new DataView(Uint8Array.from(at(double(1, value), 1) as Uint8Array).buffer);
    assert.ok(Object.is(wide.getFloat64(0, true), value));
    const narrow = new DataView(Uint8Array.from(at(float(100, value), 100) as Uint8Array).buffer);
    assert.ok(Object.is(narrow.getFloat32(0, true), Math.fround(value)));
  }
  const long = new Uint8Array(300).fill(7);
  const both = concat([bytes(5, long), text(5, "Grüße"), bytes(6, new Uint8Array())]);
  const fields = readMessage(both);
  assert.deepEqual([...fields.keys()], [5, 6]);
  assert.deepEqual(fields.get(5)![0], long);
  assert.equal(asText(fields.get(5)![1]), "Grüße");
});

Deno.test("records of every length come back, wherever they begin and end in their blocks", () =>
  withDirectory((directory) => {
    const { below } = random(3), path = `${directory}/log`;
    // A block has 32768 bytes, the head of a piece 7; the file's header takes 7 of the first block.
    const near = [32754, 32755, 32748, 32747, 7, 14, 32761, 32762, 98304, 65522];
    const lengths = [
      ...near,
      ...Array.from({ length: 60 }, () => below(2) ? below(40) : below(40000)),
      32768,
    ];
    const sent = lengths.map((length) => bytes(9, Uint8Array.from({ length }, () => below(256))));
    const parts = [LOG_HEADER];
    let at = LOG_HEADER.length;
    // Each that ends close to the end of a block leaves another rest there.
    for (const record of sent.flatMap((one) => [one, integer(1, below(1000))])) {
      const part = logRecord(record, at);
      parts.push(part);
      at += part.length;
    }
    for (let left = 0; left < 20; left++) {
      const filler = bytes(9, new Uint8Array((32768 - at % 32768 + 32768 - 7 - left - 11) % 32768 + 1));
      for (const record of [filler, integer(1, left)]) {
        const part = logRecord(record, at);
        parts.push(part);
        at += part.length;
      }
    }
    Deno.writeFileSync(path, concat(parts));
    const found = readWandb(path);
    assert.equal(found.length, 2 * sent.length + 40);
    sent.forEach((record, i) => assert.deepEqual(found[2 * i].get(9), readMessage(record).get(9)));
  }));
