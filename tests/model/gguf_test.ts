import assert from "node:assert/strict";
import { dequantize } from "../../src/model/ggml_types.ts";
import { readGguf } from "../../src/model/gguf.ts";
import { golden, withDirectory } from "../assets.ts";
import { goldenFloats, goldens, MAGIC, type Part, writeParts } from "./gguf_goldens.ts";

Deno.test("every type of metadata and several of tensors are read from a file that Python's gguf wrote", () => {
  const file = readGguf(golden("gguf/every_type.gguf"));
  const tenth = Math.fround(0.1);
  assert.deepEqual(Object.fromEntries(file.metadata), {
    "general.architecture": "test",
    "a.uint8": 200,
    "a.int8": -100,
    "a.uint16": 60000,
    "a.int16": -30000,
    "a.uint32": 4_000_000_000,
    "a.int32": -2_000_000_000,
    "a.uint64": 2n ** 63n + 1n,
    "a.int64": -(2 ** 40),
    "a.float32": tenth,
    "a.float64": 0.1,
    "a.bool": true,
    "a.string": "\ufeffhällo ▁",
    "a.strings": ["one", "", "\ufeff"],
    "a.int32s": Int32Array.of(1, -2, 3),
    "a.float32s": Float32Array.of(0.5, -1.5),
    "a.bools": [true, false],
    "a.bytes": Uint8Array.of(1, 2, 255),
    "a.lists": [Int32Array.of(1, 2), Int32Array.of(3)],
    "general.alignment": 64,
  });
  const expected = goldens().every_type;
  assert.deepEqual([...file.tensors.keys()], Object.keys(expected));
  for (const [name, { shape, values }] of Object.entries(expected)) {
    const tensor = file.tensors.get(name)!;
    assert.deepEqual(tensor.shape, shape);
    assert.equal(tensor.offset % 64, 0);
    assert.deepEqual(dequantize(tensor.type, file.readBlocks(name)), goldenFloats(values));
    const rows = shape.slice(0, -1).reduce((a, b) => a * b, 1), width = shape[shape.length - 1];
    for (let row = 0; row < rows; row++) {
      assert.deepEqual(
        dequantize(tensor.type, file.readBlocks(name, row, 1)),
        goldenFloats(values).slice(row * width, row * width + width),
      );
    }
  }
  assert.throws(
    () => file.readBlocks("half", 2, 2),
    /Cannot read rows 2 to 4 of tensor "half".*: it has 3\./,
  );
  assert.throws(() => file.readBlocks("nothing"), /it has no tensor "nothing"/);
});

Deno.test("a file that changed since it was opened is refused", () =>
  withDirectory((directory) => {
    const path = `${directory}/copy.gguf`;
    Deno.copyFileSync(golden("gguf/every_type.gguf"), path);
    const file = readGguf(path);
    Deno.truncateSync(path, 2000);
    assert.throws(() => file.readBlocks("vector"), /copy\.gguf: it changed since it was opened/);
  }));

/** A header of version 3 with no metadata and one tensor of the given name, sizes, type and offset. */
function oneTensor(sizes: bigint[], type = 0, offset = 0n, name = "x"): Part[] {
  return [MAGIC, 3, 1n, 0n, name, sizes.length, ...sizes, type, offset];
}

/** A header with one entry of metadata. */
function oneEntry(...value: Part[]): Part[] {
  return [MAGIC, 3, 0n, 1n, "k", ...value];
}

const nested = (
  depth: number,
): Part[] => [9, ...Array.from({ length: depth - 1 }, () => [9, 1n]).flat(), 4, 0n];

const MALFORMED: [string, Part[], number, RegExp][] = [
  ["nothing", [], 0, /only 0 bytes, too few for a GGUF file/],
  ["another format", [new TextEncoder().encode("PK..")], 100, /does not begin with "GGUF"/],
  ["version 1", [MAGIC, 1], 100, /version 1 of GGUF\. Expected 2 or 3/],
  ["version 4", [MAGIC, 4], 100, /version 4 of GGUF/],
  ["big-endian", [MAGIC, 0x03000000], 100, /it is big-endian/],
  ["too many tensors", [MAGIC, 3, 2n ** 63n, 0n], 100, /it says 9223372036854775808 tensors, but only/],
  ["too many entries", [MAGIC, 3, 0n, 100n], 100, /it says 100 metadata entries, but only 76 bytes follow/],
  ["a long key", [MAGIC, 3, 0n, 1n, 2n ** 40n], 100, /bytes in a metadata key, but only/],
  ["a key that is no text", [MAGIC, 3, 0n, 1n, 1n, Uint8Array.of(255), 4, 0], 100, /key is not UTF-8 text/],
  ["a key twice", [MAGIC, 3, 0n, 2n, "k", 4, 1, "k", 4, 1], 100, /its metadata has "k" twice/],
  ["an unknown type", oneEntry(13, 0), 100, /"k" has a value of the unknown type 13/],
  ["a list of an unknown type", oneEntry(9, 200, 1n), 100, /"k" is a list of the unknown type 200/],
  ["a long list", oneEntry(9, 0, 2n ** 50n), 100, /it says 1125899906842624 elements of "k"/],
  ["a long list of texts", oneEntry(9, 8, 8n), 100, /it says 8 elements of "k", but only/],
  ["deep lists", oneEntry(...nested(5)), 200, /"k" has more than 4 lists in each other/],
  ["a boolean of 2", oneEntry(7, Uint8Array.of(2)), 100, /"k" holds 2\. Expected a boolean, 0 or 1/],
  [
    "a boolean of 2 in a list",
    oneEntry(9, 7, 1n, Uint8Array.of(2)),
    100,
    /"k" holds 2\. Expected a boolean/,
  ],
  [
    "a truncated value",
    oneEntry(12),
    40,
    /header needs 45 bytes, but the file has only 40; it may be truncated/,
  ],
  [
    "a split file",
    [MAGIC, 3, 0n, 1n, "split.count", 2, Uint8Array.of(3, 0)],
    100,
    /one of 3 parts of a model/,
  ],
  [
    "an alignment of 48",
    [MAGIC, 3, 0n, 1n, "general.alignment", 4, 48],
    100,
    /"general\.alignment" is 48\. Expected a power of two/,
  ],
  ["an alignment of 0", [MAGIC, 3, 0n, 1n, "general.alignment", 4, 0], 100, /"general\.alignment" is 0/],
  [
    "a long name",
    oneTensor([1n], 0, 0n, "x".repeat(65)),
    200,
    /name of a tensor has 65 bytes. Expected at most 64/,
  ],
  ["no dimensions", oneTensor([]), 100, /tensor "x" has 0 dimensions\. Expected 1 to 4/],
  ["five dimensions", oneTensor([1n, 1n, 1n, 1n, 1n]), 200, /tensor "x" has 5 dimensions/],
  ["a size of 0", oneTensor([4n, 0n]), 200, /tensor "x" has the sizes 4, 0\. Expected whole numbers/],
  ["a size of 2^63", oneTensor([2n ** 63n]), 200, /sizes 9223372036854775808/],
  [
    "a product of 2^106",
    oneTensor([2n ** 53n - 1n, 2n ** 53n - 1n]),
    200,
    /tensor "x" ends at byte .*truncated/,
  ],
  ["an unknown tensor type", oneTensor([32n], 39), 200, /tensor "x" has type MXFP4\. Expected one of/],
  [
    "part of a block",
    oneTensor([33n], 8),
    200,
    /has rows of 33\. Expected a multiple of 32, a block of Q8_0/,
  ],
  [
    "a crooked offset",
    oneTensor([1n], 0, 4n),
    200,
    /begins at byte 4 of the data\. Expected a multiple of 32/,
  ],
  ["an offset of 2^60", oneTensor([1n], 0, 2n ** 60n), 200, /begins at byte 1152921504606846976 of the data/],
  [
    "a tensor beyond the file",
    oneTensor([8n], 0, 64n),
    159,
    /"x" ends at byte 160, but the file has only 159/,
  ],
  [
    "a tensor twice",
    [MAGIC, 3, 2n, 0n, "x", 1, 1n, 0, 0n, "x", 1, 1n, 0, 32n],
    300,
    /there are two of tensor "x"/,
  ],
  [
    "overlapping tensors",
    [MAGIC, 3, 2n, 0n, "x", 1, 16n, 0, 0n, "y", 1, 1n, 0, 32n],
    300,
    /tensor "y" overlaps "x"/,
  ],
];

for (const [what, parts, size, message] of MALFORMED) {
  Deno.test(`a header with ${what} is refused`, () =>
    withDirectory((directory) => {
      const path = writeParts(directory, parts, size);
      assert.throws(() => readGguf(path), (error: Error) => {
        assert.match(error.message, /^Cannot read .*x\.gguf: /);
        assert.match(error.message, message);
        return true;
      });
    }));
}

Deno.test("gaps between tensors, other alignments and version 2 are fine", () =>
  withDirectory((directory) => {
    const path = writeParts(
      directory,
      [MAGIC, 2, 2n, 1n, "general.alignment", 4, 8, "x", 1, 2n, 0, 24n, "y", 2, 1n, 1n, 1, 0n],
      200,
    );
    const { tensors } = readGguf(path);
    assert.deepEqual(tensors.get("x")!.offset - tensors.get("y")!.offset, 24);
    assert.deepEqual(tensors.get("y")!.shape, [1, 1]);
  }));

Deno.test("a vocabulary of 200,000 tokens is read in a second", () =>
  withDirectory((directory) => {
    const tokens = Array.from({ length: 200_000 }, (_, i) => `▁t${i}`);
    const text = new TextEncoder();
    const bytes = tokens.map((token) => text.encode(token));
    const list = new Uint8Array(bytes.reduce((sum, one) => sum + 8 + one.length, 0));
    let at = 0;
    for (const one of bytes) {
      list[at] = one.length;
      list.set(one, at + 8);
      at += 8 + one.length;
    }
    const path = `${directory}/large.gguf`;
    const head = writeParts(directory, oneEntry(9, 8, 200_000n));
    Deno.writeFileSync(path, Deno.readFileSync(head));
    Deno.writeFileSync(path, list, { append: true });
    const begin = performance.now();
    assert.deepEqual(readGguf(path).metadata.get("k"), tokens);
    assert.ok(performance.now() - begin < 5000);
  }));
