import assert from "node:assert/strict";
import { join } from "node:path";
import { randomStream } from "../../src/random/stream.ts";
import { readSafetensors, writeSafetensors } from "../../src/model/safetensors.ts";
import { golden, withDirectory } from "../assets.ts";

/** A file with the given header text and data, with no checks. */
function rawFile(directory: string, header: string, data: Uint8Array, headerLength?: bigint): string {
  const path = join(directory, "hostile.safetensors");
  const text = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + text.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, headerLength ?? BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(data, 8 + text.length);
  Deno.writeFileSync(path, bytes);
  return path;
}

/** A file with one tensor per entry. */
function described(directory: string, entries: Record<string, unknown>, bytes: number): string {
  return rawFile(directory, JSON.stringify(entries), new Uint8Array(bytes));
}

Deno.test("tensors of odd shapes come back bit for bit, with their metadata, and no temporary file stays", () =>
  withDirectory((directory) => {
    const rng = randomStream(1, "safetensors");
    const tensors = new Map([[3, 5], [1], [], [0, 4], [2, 3, 7]].map((shape, index) => {
      const size = shape.reduce((a, b) => a * b, 1);
      return [`tensor.${index}`, {
        shape,
        data: Float32Array.from({ length: size }, () => rng.normal()),
      }] as const;
    }));
    const path = join(directory, "a.safetensors");
    writeSafetensors(path, tensors, { step: "3" });
    const file = readSafetensors(path);
    assert.deepEqual(file.metadata, { format: "pt", step: "3" });
    assert.deepEqual([...file.tensors.keys()], [...tensors.keys()]);
    for (const [name, { shape, data }] of tensors) {
      assert.deepEqual(file.tensors.get(name)!.shape, shape);
      assert.deepEqual(file.read(name), data);
    }
    writeSafetensors(path, [["again", { shape: [1], data: Float32Array.of(2) }]]);
    assert.deepEqual([...readSafetensors(path).tensors.keys()], ["again"]);
    assert.deepEqual([...Deno.readDirSync(directory)].map((entry) => entry.name), ["a.safetensors"]);
    assert.throws(() => file.read("tensor.0"), /a\.safetensors: it changed since it was opened/);
  }));

Deno.test("f16 storage rounds to nearest and refuses what would become infinite", () =>
  withDirectory((directory) => {
    const path = join(directory, "half.safetensors");
    const data = Float32Array.of(1, -0.1, 65504, 6e-8, 1 + 2 ** -11, Infinity, -0);
    writeSafetensors(path, [["x", { shape: [7], data }]], {}, "F16");
    assert.equal(readSafetensors(path).tensors.get("x")!.dtype, "F16");
    assert.deepEqual(readSafetensors(path).read("x"), Float32Array.from(data, Math.f16round));
    const big = { shape: [1], data: Float32Array.of(70000) };
    assert.throws(
      () => writeSafetensors(path, [["big", big]], {}, "F16"),
      /tensor "big" holds 70000\. Expected at most 65504/,
    );
    assert.deepEqual([...Deno.readDirSync(directory)].map((entry) => entry.name), ["half.safetensors"]);
  }));

Deno.test("bf16, f64 and integers of every width are read", () =>
  withDirectory((directory) => {
    const parts: [string, string, ArrayBufferView][] = [
      ["bf16", "BF16", Uint16Array.of(0x3f80, 0xc049, 0x0000, 0x7f80)],
      ["f64", "F64", Float64Array.of(0.1, -3)],
      ["i64", "I64", BigInt64Array.of(-5n, 2147483647n)],
      ["u64", "U64", BigUint64Array.of(2n ** 40n)],
      ["i32", "I32", Int32Array.of(-100, 7)],
      ["u32", "U32", Uint32Array.of(4000000000)],
      ["u8", "U8", Uint8Array.of(0, 255)],
      ["bool", "BOOL", Uint8Array.of(1, 0)],
    ];
    const header: Record<string, unknown> = {};
    const bytes: number[] = [];
    for (const [name, dtype, { buffer, byteLength }] of parts) {
      const itemBytes = { BF16: 2, F64: 8, I64: 8, U64: 8, I32: 4, U32: 4, U8: 1, BOOL: 1 }[dtype]!;
      header[name] = {
        dtype,
        shape: [byteLength / itemBytes],
        data_offsets: [bytes.length, bytes.length + byteLength],
      };
      bytes.push(...new Uint8Array(buffer));
    }
    const file = readSafetensors(rawFile(directory, JSON.stringify(header), Uint8Array.from(bytes)));
    assert.deepEqual([...file.read("bf16")], [1, -3.140625, 0, Infinity]);
    assert.deepEqual(file.read("f64"), Float32Array.of(0.1, -3));
    assert.deepEqual([...file.readIntegers("i64")], [-5, 2147483647]);
    assert.deepEqual([...file.readIntegers("i32")], [-100, 7]);
    assert.deepEqual([...file.readIntegers("u8")], [0, 255]);
    assert.deepEqual([...file.readIntegers("bool")], [1, 0]);
    assert.throws(() => file.readIntegers("u64"), /"u64" holds 1099511627776, which does not fit 32 bits/);
    assert.throws(() => file.readIntegers("u32"), /"u32" holds 4000000000, which does not fit 32 bits/);
    assert.throws(() => file.readIntegers("bf16"), /"bf16" holds BF16\. Expected integers/);
    assert.throws(() => file.read("i64"), /"i64" holds I64\. Expected F32, F16, BF16 or F64/);
    assert.throws(() => file.read("none"), /hostile\.safetensors: it has no tensor "none"/);
  }));

Deno.test("files that are missing, cut short or not safetensors are refused by name", () =>
  withDirectory((directory) => {
    assert.throws(
      () => readSafetensors(join(directory, "none.safetensors")),
      /none\.safetensors: the file does not exist/,
    );
    assert.throws(() => readSafetensors(directory), /it is not a file/);
    const good = golden("models/tiny-llama/model.safetensors");
    const bytes = Deno.readFileSync(good);
    const path = join(directory, "cut.safetensors");
    for (
      const [length, message] of [
        [0, /it has only 0 bytes/],
        [9, /it has only 9 bytes/],
        [500, /its header says \d+ bytes, but the file has only 500; it may be truncated/],
        [bytes.length - 1, /ends at byte \d+ of the data, but the file has only \d+; it may be truncated/],
      ] as const
    ) {
      Deno.writeFileSync(path, bytes.subarray(0, length));
      assert.throws(() => readSafetensors(path), message);
      assert.throws(() => readSafetensors(path), /^Error: Cannot read .*cut\.safetensors/);
    }
    Deno.writeFileSync(path, new Uint8Array([...bytes, 0]));
    assert.throws(() => readSafetensors(path), /there are 1 bytes after the last tensor/);
    for (const length of [2n ** 64n - 1n, 2n ** 53n, 100_000_001n]) {
      assert.throws(
        () => readSafetensors(rawFile(directory, "{}", new Uint8Array(0), length)),
        /Expected at most 100000000/,
      );
    }
    assert.throws(() => readSafetensors(rawFile(directory, "{}", new Uint8Array(0), 3n)), /may be truncated/);
    assert.throws(() => readSafetensors(good, { headerBytes: 100 }), /Expected at most 100/);
  }));

Deno.test("hostile headers are refused with what is wrong", () =>
  withDirectory((directory) => {
    const refuse = (entries: Record<string, unknown>, bytes: number, message: RegExp) =>
      assert.throws(() => readSafetensors(described(directory, entries, bytes)), message);
    const one = (entry: Record<string, unknown>, message: RegExp) =>
      refuse({ x: { dtype: "F32", shape: [2], data_offsets: [0, 8], ...entry } }, 8, message);
    one({ dtype: "F8_E4M3" }, /tensor "x" has type "F8_E4M3"\. Expected one of F64, F32/);
    one({ dtype: "toString" }, /has type "toString"/);
    one({ dtype: 7 }, /has type 7/);
    one({ shape: [-2] }, /has shape \[-2\]\. Expected a list of whole numbers/);
    one({ shape: [2.5] }, /has shape \[2\.5\]/);
    one({ shape: ["2"] }, /has shape \["2"\]/);
    one({ shape: "2" }, /has shape "2"/);
    one({ shape: [1e300] }, /has shape/);
    one({ shape: [2 ** 50, 2 ** 50, 0.5] }, /has shape/);
    one({ shape: [3] }, /has 8 bytes\. Expected 12 for F32 \[3\]/);
    one({ shape: [2 ** 31, 2 ** 31, 2 ** 31] }, /has 8 bytes\. Expected/);
    one({ shape: new Array(200).fill(2 ** 52).concat([0]) }, /has 8 bytes\. Expected NaN/);
    one({ data_offsets: [0, 16] }, /ends at byte 16 of the data, but the file has only 8/);
    one({ data_offsets: [8, 0] }, /has data_offsets \[8,0\]/);
    one({ data_offsets: [-8, 0] }, /has data_offsets/);
    one({ data_offsets: [0, 8, 9] }, /has data_offsets/);
    one({ data_offsets: undefined }, /has data_offsets missing/);
    refuse({ x: 3 }, 0, /tensor "x" is not described by a JSON object/);
    const f32 = (begin: number, end: number) => ({
      dtype: "F32",
      shape: [(end - begin) / 4],
      data_offsets: [begin, end],
    });
    refuse({ a: f32(0, 8), b: f32(4, 12) }, 12, /tensor "b" overlaps the one before it/);
    refuse({ a: f32(0, 8), b: f32(0, 8) }, 8, /overlaps/);
    refuse({ a: f32(0, 4), b: f32(8, 12) }, 12, /there are 4 unused bytes before tensor "b"/);
    refuse({ a: f32(4, 8) }, 8, /there are 4 unused bytes before tensor "a"/);
    refuse({ a: f32(0, 4) }, 8, /there are 4 bytes after the last tensor/);
    refuse({ a: f32(0, 4), __metadata__: { step: 3 } }, 4, /__metadata__ is not a map from text to text/);
    const text = (header: string, message: RegExp) =>
      assert.throws(() => readSafetensors(rawFile(directory, header, new Uint8Array(4))), message);
    const entry = JSON.stringify(f32(0, 4));
    text(`{"a":${entry},"a":${entry}}`, /its header has "a" twice/);
    text(`{"a":${entry},"\\u0061" :${entry}}`, /its header has "a" twice/);
    text(
      `{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}`,
      /its header has "dtype" twice/,
    );
    text(`{"a":${entry}`, /its header is not valid JSON/);
    text("[1, 2, 3, 4]", /its header is not a JSON object/);
    text("[".repeat(200_000), /its header is not valid JSON/);
    assert.throws(
      () => readSafetensors(rawFile(directory, "  ", Uint8Array.of(0xff, 0xfe, 0, 0))),
      /not valid JSON/,
    );
    const bad = rawFile(directory, "xx", new Uint8Array(4));
    const bytes = Deno.readFileSync(bad);
    bytes.set([0xff, 0xfe], 8);
    Deno.writeFileSync(bad, bytes);
    assert.throws(() => readSafetensors(bad), /its header is not UTF-8 text/);
    // The same word as name and as a value, and a quoted brace, are not duplicates.
    const fine = readSafetensors(
      rawFile(directory, `{"F32":${entry},"__metadata__":{"a\\"}{":"F32","b":"a"}}`, new Uint8Array(4)),
    );
    assert.deepEqual([...fine.tensors.keys()], ["F32"]);
  }));

Deno.test("writing refuses a wrong number of values and two tensors of one name", () =>
  withDirectory((directory) => {
    const path = join(directory, "bad.safetensors");
    const tensor = { shape: [2, 3], data: new Float32Array(5) };
    assert.throws(
      () => writeSafetensors(path, [["x", tensor]]),
      /tensor "x" has 5 values\. Expected 6 for \[2, 3\]/,
    );
    const fine = { shape: [1], data: new Float32Array(1) };
    assert.throws(() => writeSafetensors(path, [["x", fine], ["x", fine]]), /there are two tensors "x"/);
    assert.throws(() => writeSafetensors(join(directory, "none", "x"), [["x", fine]]), /Cannot write .*none/);
  }));
