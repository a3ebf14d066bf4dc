/** Reads the files of trackers, written from the formats' descriptions and not from what writes them. */
import assert from "node:assert/strict";

/** A CRC of 32 bits with a reversed polynomial, bit by bit. */
function crc(polynomial: number, data: Uint8Array): number {
  let register = 0xffffffff;
  for (const byte of data) {
    for (let bit = 0; bit < 8; bit++) {
      const carry = (register ^ (byte >> bit)) & 1;
      register >>>= 1;
      if (carry) register ^= polynomial;
    }
  }
  return ~register >>> 0;
}

/** A field of a protocol buffer: a number for a varint, bytes for everything else. */
export type Field = number | Uint8Array;

/** The fields of a message by their number, each as often as it is there. */
export function readMessage(data: Uint8Array): Map<number, Field[]> {
  const fields = new Map<number, Field[]>();
  let at = 0;
  const varint = (): number => {
    let value = 0n;
    for (let shift = 0n;; shift += 7n) {
      const byte = data[at++];
      assert.ok(byte !== undefined, "a varint ends before its last byte");
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return Number(value);
    }
  };
  const slice = (length: number): Uint8Array => {
    assert.ok(at + length <= data.length, `a field of ${length} bytes ends after its message`);
    return data.subarray(at, at += length);
  };
  const read = (type: number): Field => {
    switch (type) {
      case 0:
        return varint();
      case 1:
        return slice(8);
      case 2:
        return slice(varint());
      case 5:
        return slice(4);
    }
    assert.fail(`wire type ${type}`);
  };
  while (at < data.length) {
    const key = varint(), number = Math.floor(key / 8);
    const value = read(key % 8);
    fields.set(number, [...fields.get(number) ?? [], value]);
  }
  return fields;
}

/** What stands at the end of a path of field numbers, the first of each. */
export function at(message: Uint8Array, ...path: number[]): Field | undefined {
  const [number, ...rest] = path, [field] = readMessage(message).get(number) ?? [];
  return rest.length && field !== undefined ? at(field as Uint8Array, ...rest) : field;
}

const view = (data: Field | undefined) => {
  const { buffer, byteOffset, byteLength } = data as Uint8Array;
  return new DataView(buffer, byteOffset, byteLength);
};

/** A field as text. */
export const asText = (field: Field | undefined) => new TextDecoder().decode(field as Uint8Array);

/** A scalar of TensorBoard. */
export interface Scalar {
  step: number;
  time: number;
  tag: string;
  value: number;
}

/** The events of an event file: its scalars, its texts by tag, and whether it begins a session. */
export function readEvents(path: string): {
  scalars: Scalar[];
  texts: { step: number; tag: string; text: string }[];
  version: string;
  starts: boolean;
} {
  const data = Deno.readFileSync(path), scalars = [], texts = [];
  let version = "", starts = false;
  const masked = (bytes: Uint8Array) => {
    const plain = crc(0x82f63b78, bytes);
    return (((plain >>> 15) | (plain << 17)) + 0xa282ead8) >>> 0;
  };
  for (let from = 0, first = true; from < data.length; first = false) {
    const head = data.subarray(from, from + 8), length = Number(view(head).getBigUint64(0, true));
    assert.equal(view(data.subarray(from + 8, from + 12)).getUint32(0, true), masked(head));
    const event = data.subarray(from + 12, from + 12 + length);
    assert.equal(event.length, length, "the last record is torn");
    from += 16 + length;
    assert.equal(view(data.subarray(from - 4, from)).getUint32(0, true), masked(event));
    const time = view(at(event, 1)).getFloat64(0, true), step = (at(event, 2) ?? 0) as number;
    if (first) version = asText(at(event, 3));
    starts ||= at(event, 7, 1) === 1;
    const summary = readMessage(event).get(5)?.[0] as Uint8Array | undefined;
    for (const value of (summary && readMessage(summary).get(1) || []) as Uint8Array[]) {
      const tag = asText(at(value, 1));
      if (at(value, 2)) scalars.push({ step, time, tag, value: view(at(value, 2)).getFloat32(0, true) });
      else {
        assert.deepEqual([asText(at(value, 9, 1, 1)), at(value, 8, 1), at(value, 8, 2, 2, 1)], [
          "text",
          7,
          1,
        ]);
        texts.push({ step, tag, text: asText(at(value, 8, 8)) });
      }
    }
  }
  return { scalars, texts, version, starts };
}

/** The records of a `.wandb` file. */
export function readWandb(path: string): Map<number, Field[]>[] {
  const data = Deno.readFileSync(path), records: Map<number, Field[]>[] = [];
  assert.deepEqual(
    [...data.subarray(0, 7)],
    [..."\x3aW&B"].map((c) => c.charCodeAt(0)).concat(0xe1, 0xbe, 0),
  );
  let pieces: number[] = [], inside = false;
  for (let from = 7; from < data.length;) {
    const left = 32768 - from % 32768;
    if (left < 7) {
      assert.ok(data.subarray(from, from + left).every((byte) => byte === 0));
      from += left;
      continue;
    }
    const length = view(data.subarray(from, from + 7)).getUint16(4, true), kind = data[from + 6];
    const piece = data.subarray(from + 7, from + 7 + length);
    assert.ok(7 + length <= left, "a piece crosses the end of its block");
    assert.equal(piece.length, length, "the last piece is torn");
    assert.equal(
      view(data.subarray(from, from + 4)).getUint32(0, true),
      crc(0xedb88320, data.subarray(from + 6, from + 7 + length)),
    );
    from += 7 + length;
    // A first piece may be empty, and it is the first all the same.
    assert.equal(inside, kind === 3 || kind === 4, `kind ${kind} after ${pieces.length} bytes`);
    pieces.push(...piece);
    inside = kind === 2 || kind === 3;
    if (inside) continue;
    records.push(readMessage(Uint8Array.from(pieces)));
    pieces = [];
  }
  assert.equal(inside, false, "the last record is torn");
  return records;
}

/** Keys and values of a repeated item, e.g. of a history record; `NaN` and `Infinity` stand bare. */
export function wandbItems(message: Uint8Array, field: number): Record<string, unknown> {
  return Object.fromEntries(
    ((readMessage(message).get(field) ?? []) as Uint8Array[]).map((item) => {
      const json = asText(at(item, 16));
      return [asText(at(item, 1)), /^-?(NaN|Infinity)$/.test(json) ? Number(json) : JSON.parse(json)];
    }),
  );
}

/** The history of a `.wandb` file, a row per step. */
export function wandbHistory(path: string): Record<string, unknown>[] {
  return readWandb(path).flatMap((record) => {
    const [history] = (record.get(2) ?? []) as Uint8Array[];
    return history ? [{ ...wandbItems(history, 1), step: at(history, 2, 1) ?? 0 }] : [];
  });
}

/** The files of a folder, and of those in it, with slashes. */
export function filesIn(folder: string): string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) =>
    isDirectory ? filesIn(`${folder}/${name}`).map((path) => `${name}/${path}`) : [name]
  ).sort();
}
