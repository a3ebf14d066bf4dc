/**
 * The GGUF format, versions 2 and 3, little-endian: a header of counts, typed metadata and descriptions of tensors, then the tensors, each
 * at a multiple of an alignment.
 *
 * Files come from strangers. Every count and length of the header is checked against what is left of the file before anything of that
 * size is allocated, and tensors are read when they are asked for, whole or some rows of them.
 *
 * @module
 */

import { GGML_TYPES, ggmlBytes, type GgmlType, ggmlType } from "./ggml_types.ts";
import { GgufCursor } from "./gguf_cursor.ts";
import { fileSize } from "./json_file.ts";

/**
 * A value of the metadata. Whole numbers of 64 bits are numbers where that is exact, else bigints; lists of numbers are typed arrays.
 */
export type GgufValue = number | bigint | boolean | string | GgufList;

/** A list in the metadata. */
export type GgufList =
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | Float32Array
  | Float64Array
  | BigInt64Array
  | BigUint64Array
  | boolean[]
  | string[]
  | GgufList[];

/** What a header says of one tensor. */
export interface GgufTensor {
  /** Element type. */
  type: GgmlType;
  /** Sizes, outermost first: the reverse of their order in the file. */
  shape: number[];
  /** Number of elements. */
  elements: number;
  /** First byte in the file. */
  offset: number;
  /** Size in bytes. */
  bytes: number;
}

/** An opened file; no tensor is in memory. */
export interface GgufFile {
  /** The file, for messages. */
  source: string;
  /** Metadata by key, in the file's order. */
  metadata: ReadonlyMap<string, GgufValue>;
  /** Tensors by the names that GGUF gives them. */
  tensors: ReadonlyMap<string, GgufTensor>;
  /** Reads the blocks of a tensor, or those of some of its rows. */
  readBlocks(
    name: string,
    firstRow?: number,
    rows?: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Uint8Array<ArrayBuffer>;
}

/** Key under which a file states the alignment of its tensors. */
export const ALIGNMENT_KEY = "general.alignment";

/** Alignment in bytes of a file that does not state it. */
export const DEFAULT_ALIGNMENT = 32;

/** ggml has no more dimensions, and no longer names. */
const MAX_DIMENSIONS = 4;
const MAX_NAME_BYTES = 64;
const MAX_KEY_BYTES = 65535;
/** Lists within lists; files in use have none. */
const MAX_DEPTH = 4;
/** Fewest bytes of an entry of the metadata (a key of one character, a type, a value) and of a tensor's description. */
const LEAST_ENTRY = 8 + 1 + 4 + 1;
const LEAST_TENSOR = 8 + 1 + 4 + 8 + 4 + 8;

/** Types of metadata by number, with the fewest bytes of a value. */
const LEAST_BYTES = [1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8];
const STRING = 8;
const LIST = 9;

/** Opens a GGUF file: reads and checks its header. */
export function readGguf(path: string): GgufFile {
  const size = fileSize(path);
  const file = Deno.openSync(path);
  try {
    const cursor = new GgufCursor(file, path, size);
    const { entries, tensorCount } = readPreamble(cursor);
    const metadata = new Map<string, GgufValue>();
    for (let i = 0; i < entries; i++) {
      const key = cursor.text("a metadata key", MAX_KEY_BYTES);
      if (metadata.has(key)) cursor.fail(`its metadata has ${JSON.stringify(key)} twice`);
      metadata.set(key, readValue(cursor, cursor.u32(), key, 0));
    }
    const parts = metadata.get("split.count");
    if (parts !== undefined && parts !== 0 && parts !== 1) {
      cursor.fail(
        `it is one of ${parts} parts of a model. Expected a whole one; \`llama-gguf-split --merge\` joins parts`,
      );
    }
    const tensors = readTensors(cursor, tensorCount, readAlignment(cursor, metadata));
    return { source: path, metadata, tensors, readBlocks: blockReader(path, size, tensors) };
  } finally {
    file.close();
  }
}

/** Magic, version and counts. */
function readPreamble(cursor: GgufCursor): { entries: number; tensorCount: number } {
  if (cursor.size < 24) cursor.fail(`it has only ${cursor.size} bytes, too few for a GGUF file`);
  if (cursor.u32() !== 0x46554747) cursor.fail(`it does not begin with "GGUF"; is it a GGUF file?`);
  const version = cursor.u32();
  // A small number with its bytes the other way round.
  if ((version & 0xffff) === 0) cursor.fail("it is big-endian. Expected a little-endian GGUF file");
  if (version !== 2 && version !== 3) cursor.fail(`it has version ${version} of GGUF. Expected 2 or 3`);
  const tensorCount = cursor.count(LEAST_TENSOR, "tensors");
  return { tensorCount, entries: cursor.count(LEAST_ENTRY, "metadata entries") };
}

function readValue(cursor: GgufCursor, type: number, key: string, depth: number): GgufValue {
  switch (type) {
    case 0:
      return cursor.u8();
    case 1:
      return cursor.u8() << 24 >> 24;
    case 2:
      return cursor.u16();
    case 3:
      return cursor.u16() << 16 >> 16;
    case 4:
      return cursor.u32();
    case 5:
      return cursor.u32() | 0;
    case 6:
      return cursor.f32();
    case 7:
      return toBoolean(cursor, cursor.u8(), key);
    case STRING:
      return cursor.text(`the value of ${JSON.stringify(key)}`);
    case LIST:
      return readList(cursor, key, depth + 1);
    case 10:
      return narrow(cursor.u64());
    case 11:
      return narrow(BigInt.asIntN(64, cursor.u64()));
    case 12:
      return cursor.f64();
    default:
      return cursor.fail(`${JSON.stringify(key)} has a value of the unknown type ${type}`);
  }
}

function toBoolean(cursor: GgufCursor, value: number, key: string): boolean {
  if (value > 1) cursor.fail(`${JSON.stringify(key)} holds ${value}. Expected a boolean, 0 or 1`);
  return value === 1;
}

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

function readList(cursor: GgufCursor, key: string, depth: number): GgufList {
  if (depth > MAX_DEPTH) cursor.fail(`${JSON.stringify(key)} has more than ${MAX_DEPTH} lists in each other`);
  const type = cursor.u32();
  if (type >= LEAST_BYTES.length) cursor.fail(`${JSON.stringify(key)} is a list of the unknown type ${type}`);
  const length = cursor.count(LEAST_BYTES[type], `elements of ${JSON.stringify(key)}`);
  if (type === STRING) return cursor.texts(length, `an element of ${JSON.stringify(key)}`);
  if (type === LIST) return Array.from({ length }, () => readList(cursor, key, depth + 1));
  const bytes = cursor.bytes(length * LEAST_BYTES[type]).buffer;
  switch (type) {
    case 0:
      return new Uint8Array(bytes);
    case 1:
      return new Int8Array(bytes);
    case 2:
      return new Uint16Array(bytes);
    case 3:
      return new Int16Array(bytes);
    case 4:
      return new Uint32Array(bytes);
    case 5:
      return new Int32Array(bytes);
    case 6:
      return new Float32Array(bytes);
    case 10:
      return new BigUint64Array(bytes);
    case 11:
      return new BigInt64Array(bytes);
    case 12:
      return new Float64Array(bytes);
    default:
      return Array.from(new Uint8Array(bytes), (value) => toBoolean(cursor, value, key));
  }
}

function readAlignment(cursor: GgufCursor, metadata: ReadonlyMap<string, GgufValue>): number {
  const value = metadata.get(ALIGNMENT_KEY) ?? DEFAULT_ALIGNMENT;
  // A power of two has one bit.
  if (typeof value !== "number" || !(value > 0 && value <= 2 ** 30) || (value & value - 1) !== 0) {
    cursor.fail(`"${ALIGNMENT_KEY}" is ${value}. Expected a power of two`);
  }
  return value;
}

/** The descriptions of all tensors, each within the file and none over another. */
function readTensors(cursor: GgufCursor, count: number, alignment: number): Map<string, GgufTensor> {
  const tensors = new Map<string, GgufTensor>();
  for (let i = 0; i < count; i++) {
    const name = cursor.text("the name of a tensor", MAX_NAME_BYTES);
    const what = `tensor ${JSON.stringify(name)}`;
    if (tensors.has(name)) cursor.fail(`there are two of ${what}`);
    const dimensions = cursor.u32();
    if (dimensions < 1 || dimensions > MAX_DIMENSIONS) {
      cursor.fail(`${what} has ${dimensions} dimensions. Expected 1 to ${MAX_DIMENSIONS}`);
    }
    const sizes = Array.from({ length: dimensions }, () => narrow(cursor.u64()));
    const type = ggmlType(cursor.u32(), `Cannot read ${cursor.path}: ${what}`);
    const offset = narrow(cursor.u64());
    if (!sizes.every((size) => typeof size === "number" && size > 0)) {
      cursor.fail(`${what} has the sizes ${sizes.join(", ")}. Expected whole numbers from 1 to 2^53`);
    }
    const shape = (sizes as number[]).reverse();
    const block = GGML_TYPES[type].elements;
    if (shape[shape.length - 1] % block !== 0) {
      cursor.fail(
        `${what} has rows of ${shape[shape.length - 1]}. Expected a multiple of ${block}, a block of ${type}`,
      );
    }
    // A product beyond 2^53 is inexact but far larger than any file, so that it is refused below.
    const elements = shape.reduce((product, size) => product * size, 1);
    if (typeof offset !== "number" || offset % alignment !== 0) {
      cursor.fail(`${what} begins at byte ${offset} of the data. Expected a multiple of ${alignment}`);
    }
    tensors.set(name, { type, shape, elements, offset, bytes: ggmlBytes(type, elements) });
  }
  const dataStart = Math.ceil(cursor.position / alignment) * alignment;
  let end = dataStart, last = "";
  for (const [name, tensor] of [...tensors].sort(([, a], [, b]) => a.offset - b.offset)) {
    tensor.offset += dataStart;
    if (tensor.offset < end) {
      cursor.fail(`tensor ${JSON.stringify(name)} overlaps ${JSON.stringify(last)}`);
    }
    end = tensor.offset + tensor.bytes;
    if (end > cursor.size) {
      cursor.fail(
        `tensor ${
          JSON.stringify(name)
        } ends at byte ${end}, but the file has only ${cursor.size}; it may be truncated`,
      );
    }
    last = name;
  }
  return tensors;
}

function blockReader(
  path: string,
  size: number,
  tensors: ReadonlyMap<string, GgufTensor>,
): GgufFile["readBlocks"] {
  return (name, firstRow = 0, rows, into) => {
    const tensor = tensors.get(name);
    if (tensor === undefined) {
      throw new Error(`Cannot read ${path}: it has no tensor ${JSON.stringify(name)}.`);
    }
    const rowCount = tensor.elements / tensor.shape[tensor.shape.length - 1];
    const rowBytes = tensor.bytes / rowCount;
    const count = rows ?? rowCount - firstRow;
    if (!(firstRow >= 0 && count >= 0 && firstRow + count <= rowCount)) {
      throw new Error(
        `Cannot read rows ${firstRow} to ${firstRow + count} of tensor ${
          JSON.stringify(name)
        } of ${path}: it has ${rowCount}.`,
      );
    }
    if (fileSize(path) !== size) throw new Error(`Cannot read ${path}: it changed since it was opened.`);
    const file = Deno.openSync(path);
    try {
      const length = count * rowBytes, bytes = into?.subarray(0, length) ?? new Uint8Array(length);
      readFully(file, path, tensor.offset + firstRow * rowBytes, bytes);
      return bytes;
    } finally {
      file.close();
    }
  };
}

function readFully(file: Deno.FsFile, path: string, offset: number, bytes: Uint8Array): void {
  file.seekSync(offset, Deno.SeekMode.Start);
  for (let at = 0; at < bytes.length;) {
    const count = file.readSync(bytes.subarray(at));
    if (count === null) throw new Error(`Cannot read ${path}: it ended early at byte ${offset + at}.`);
    at += count;
  }
}
