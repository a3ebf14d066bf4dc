/** Damaged Parquet files: rows or a clear error, in bounded time and memory, never a crash. */
import assert from "node:assert/strict";
import { randomStream } from "../../src/random/stream.ts";
import { readRows } from "../../src/data/rows.ts";
import { golden, withDirectory } from "../assets.ts";

const MUTATIONS = 1000;

/** Changes some bytes, more often in the metadata at the end, or cuts a part out. */
function mutate(bytes: Uint8Array, random: ReturnType<typeof randomStream>): Uint8Array {
  const copy = bytes.slice();
  const metadata = new DataView(bytes.buffer, bytes.byteOffset).getUint32(bytes.length - 8, true) + 8;
  if (random.integer(10) === 0) {
    const from = random.integer(bytes.length), count = 1 + random.integer(bytes.length - from);
    return Uint8Array.from([...copy.subarray(0, from), ...copy.subarray(from + count)]);
  }
  for (let change = 0; change <= random.integer(4); change++) {
    const at = random.integer(2) === 0
      ? copy.length - 1 - random.integer(Math.min(metadata, copy.length))
      : random.integer(copy.length);
    const value = [0, 0xff, 0x7f, 0x80, copy[at] ^ (1 << random.integer(8)), random.integer(256)];
    copy[at] = random.choice(value);
  }
  return copy;
}

for (const codec of ["none", "snappy", "zstd", "gzip", "lz4", "v2", "delta"]) {
  Deno.test(`${MUTATIONS} damaged files (${codec})`, () =>
    withDirectory(async (directory) => {
      const original = Deno.readFileSync(
        golden(`datasets/files/${codec === "delta" ? codec : `chats-${codec}`}.parquet`),
      );
      const random = randomStream(11, "parquet fuzz", codec);
      const path = `${directory}/x.parquet`;
      let refused = 0, slowest = 0, largest = 0;
      for (let i = 0; i < MUTATIONS; i++) {
        Deno.writeFileSync(path, mutate(original, random));
        const began = performance.now();
        try {
          let rows = 0;
          for await (const _ of readRows(path)) assert.ok(++rows <= 1e6);
        } catch (error) {
          refused++;
          assert.match(
            String((error as Error).message),
            /^Cannot read .*x\.parquet/s,
            (error as Error).stack,
          );
          assert.ok((error as Error).message.length < 600);
        }
        slowest = Math.max(slowest, performance.now() - began);
        largest = Math.max(largest, Deno.memoryUsage().rss);
      }
      assert.ok(refused > MUTATIONS / 10 && refused < MUTATIONS, `${refused} refused`);
      assert.ok(slowest < 3000, `one took ${slowest} ms`);
      assert.ok(largest < 1.5e9, `${largest} bytes`);
    }));
}
