/**
 * The safetensors format: an 8-byte little-endian header length, a JSON header, then the tensors without gaps.
 *
 * Files come from strangers. Everything that the header says is checked against the size of the file before anything is
 * allocated, and tensors are read one at a time when they are asked for.
 *
 * @module
 */

import { writeFileAtomically } from "./atomic_file.ts";
import type { GgmlType } from "./ggml_types.ts";
import { fileSize, isJsonObject, type JsonObject } from "./json_file.ts";
import {
  isFloat,
  ITEM_BYTES,
  type StoredType,
  toBrainHalf,
  toFloats,
  toHalf,
  toIntegers,
} from "./stored_types.ts";

/** What a header says of one tensor; `Type` is its element type, in a GGUF file one of ggml's. */
export interface TensorInfo<Type extends string = StoredType | GgmlType> {
  dtype: Type;
  shape: number[];
  /** Number of elements. */
  elements: number;
  /** First byte and size in the file. */
  offset: number;
  bytes: number;
}

/** A set of tensors by name, in one file or several; no data is in memory. */
export interface Weights {
  /** The file, or the directory of the shards, for messages. */
  source: string;
  metadata: Record<string, string>;
  tensors: ReadonlyMap<string, TensorInfo>;
  /** Reads a floating-point tensor as float32, row-major; f16 and bf16 are widened exactly, f64 is rounded. */
  read(name: string): Float32Array<ArrayBuffer>;
  /** Reads an integer or boolean tensor; a value outside int32 is an error. */
  readIntegers(name: string): Int32Array<ArrayBuffer>;
}

/** Limits of {@linkcode readSafetensors}. */
export interface ReadLimits {
  /** Largest header in bytes, 100 MB if not given. */
  headerBytes?: number;
}

/** The first name that occurs twice in one object of a valid JSON text; `JSON.parse` would keep only the last. */
function duplicateKey(text: string): string | undefined {
  const scopes: Set<string>[] = [];
  for (let at = 0; at < text.length; at++) {
    if (text[at] === "{") scopes.push(new Set());
    else if (text[at] === "}") scopes.pop();
    else if (text[at] === '"') {
      const begin = at;
      for (at++; text[at] !== '"'; at++) if (text[at] === "\\") at++;
      let after = at + 1;
      while (after < text.length && text.charCodeAt(after) <= 0x20) after++;
      if (text[after] !== ":") continue;
      const key: string = JSON.parse(text.slice(begin, at + 1));
      const scope = scopes[scopes.length - 1];
      if (scope.has(key)) return key;
      scope.add(key);
    }
  }
}

/** A value from a header as it stands in a message, not longer than a line. */
function show(value: unknown): string {
  const text = JSON.stringify(value) ?? "missing";
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

function isSize(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

/** Checks one entry of the header on its own; `dataStart` is where the tensors begin in the file. */
function parseTensor(entry: unknown, dataStart: number, dataBytes: number): TensorInfo<StoredType> | string {
  if (!isJsonObject(entry)) return "is not described by a JSON object";
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== "string" || !Object.hasOwn(ITEM_BYTES, dtype)) {
    return `has type ${show(dtype)}. Expected one of ${Object.keys(ITEM_BYTES).join(", ")}`;
  }
  if (!Array.isArray(shape) || !shape.every(isSize)) {
    return `has shape ${show(shape)}. Expected a list of whole numbers from 0`;
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize) || offsets[0] > offsets[1]) {
    return `has data_offsets ${show(offsets)}. Expected [begin, end] with begin <= end`;
  }
  const [begin, end] = offsets as [number, number];
  if (end > dataBytes) {
    return `ends at byte ${end} of the data, but the file has only ${dataBytes}; it may be truncated`;
  }
  // A product beyond 2^53 is inexact but far larger than any file, so the comparison still refuses it.
  const elements = shape.reduce((product: number, size: number) => product * size, 1);
  const itemBytes = ITEM_BYTES[dtype as StoredType];
  if (elements * itemBytes !== end - begin) {
    return `has ${end - begin} bytes. Expected ${elements * itemBytes} for ${dtype} ${show(shape)}`;
  }
  return { dtype: dtype as StoredType, shape, elements, offset: dataStart + begin, bytes: end - begin };
}

function readBytes(file: Deno.FsFile, offset: number, length: number, path: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  file.seekSync(offset, Deno.SeekMode.Start);
  for (let at = 0; at < length;) {
    const count = file.readSync(bytes.subarray(at));
    if (count === null) throw new Error(`Cannot read ${path}: it ended early at byte ${offset + at}.`);
    at += count;
  }
  return bytes;
}

function parseHeader(path: string, text: string): JsonObject {
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch (error) {
    throw new Error(`Cannot read ${path}: its header is not valid JSON (${(error as Error).message}).`);
  }
  if (!isJsonObject(header)) throw new Error(`Cannot read ${path}: its header is not a JSON object.`);
  const twice = duplicateKey(text);
  if (twice !== undefined) throw new Error(`Cannot read ${path}: its header has "${twice}" twice.`);
  return header;
}

function parseMetadata(path: string, value: unknown): Record<string, string> {
  if (value === undefined) return {};
  if (!isJsonObject(value) || !Object.values(value).every((item) => typeof item === "string")) {
    throw new Error(`Cannot read ${path}: its __metadata__ is not a map from text to text.`);
  }
  return value as Record<string, string>;
}

/** Tensors must cover the data from its first to its last byte, each byte once. */
function checkCoverage(
  path: string,
  tensors: ReadonlyMap<string, TensorInfo>,
  dataStart: number,
  size: number,
): void {
  let expected = dataStart;
  const sorted = [...tensors].sort(([, a], [, b]) => a.offset - b.offset || a.bytes - b.bytes);
  for (const [name, { offset, bytes }] of sorted) {
    if (offset < expected) {
      throw new Error(`Cannot read ${path}: tensor "${name}" overlaps the one before it.`);
    }
    if (offset > expected) {
      throw new Error(
        `Cannot read ${path}: there are ${offset - expected} unused bytes before tensor "${name}".`,
      );
    }
    expected += bytes;
  }
  if (expected !== size) {
    throw new Error(`Cannot read ${path}: there are ${size - expected} bytes after the last tensor.`);
  }
}

/** Opens a safetensors file: reads and checks its header. */
export function readSafetensors(path: string, { headerBytes = 100e6 }: ReadLimits = {}): Weights {
  const size = fileSize(path);
  if (size < 10) {
    throw new Error(`Cannot read ${path}: it has only ${size} bytes, too few for a safetensors file.`);
  }
  const file = Deno.openSync(path);
  let header: JsonObject;
  let dataStart: number;
  try {
    const length = new DataView(readBytes(file, 0, 8, path).buffer).getBigUint64(0, true);
    if (length > BigInt(headerBytes)) {
      throw new Error(
        `Cannot read ${path}: its header says ${length} bytes. Expected at most ${headerBytes}; is it a safetensors file?`,
      );
    }
    if (length > BigInt(size - 8)) {
      throw new Error(
        `Cannot read ${path}: its header says ${length} bytes, but the file has only ${size}; it may be truncated.`,
      );
    }
    dataStart = 8 + Number(length);
    const bytes = readBytes(file, 8, Number(length), path);
    let text: string;
    try {
      text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    } catch {
      throw new Error(`Cannot read ${path}: its header is not UTF-8 text.`);
    }
    header = parseHeader(path, text);
  } finally {
    file.close();
  }
  const tensors = new Map<string, TensorInfo<StoredType>>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const tensor = parseTensor(entry, dataStart, size - dataStart);
    if (typeof tensor === "string") throw new Error(`Cannot read ${path}: tensor ${show(name)} ${tensor}.`);
    tensors.set(name, tensor);
  }
  checkCoverage(path, tensors, dataStart, size);
  return {
    source: path,
    metadata: parseMetadata(path, header["__metadata__"]),
    tensors,
    read: (name) => {
      const info = find(name, isFloat, "F32, F16, BF16 or F64");
      return toFloats(info.dtype, readTensor(info));
    },
    readIntegers: (name) => {
      const info = find(name, (dtype) => !isFloat(dtype), "integers");
      return toIntegers(info.dtype, readTensor(info), `Cannot read ${path}: tensor "${name}"`);
    },
  };

  function find(
    name: string,
    accepts: (dtype: StoredType) => boolean,
    expected: string,
  ): TensorInfo<StoredType> {
    const info = findTensor(path, tensors, name);
    if (accepts(info.dtype)) return info;
    throw new Error(`Cannot read ${path}: tensor "${name}" holds ${info.dtype}. Expected ${expected}.`);
  }

  function readTensor(info: TensorInfo): ArrayBuffer {
    if (fileSize(path) !== size) throw new Error(`Cannot read ${path}: it changed since it was opened.`);
    const file = Deno.openSync(path);
    try {
      return readBytes(file, info.offset, info.bytes, path).buffer;
    } finally {
      file.close();
    }
  }
}

/** The named tensor, or an error that names the file. */
export function findTensor<Type extends string>(
  source: string,
  tensors: ReadonlyMap<string, TensorInfo<Type>>,
  name: string,
): TensorInfo<Type> {
  const info = tensors.get(name);
  if (info === undefined) throw new Error(`Cannot read ${source}: it has no tensor "${name}".`);
  return info;
}

/** One tensor to be written, row-major. */
export interface TensorData {
  /** Sizes, outermost first. */
  shape: number[];
  /** Row-major. */
  data: Float32Array;
}

/** The same, made when its turn has come, so that not all are in memory at once. */
export interface LazyTensor {
  /** Sizes, outermost first. */
  shape: number[];
  /** Returns the values, row-major. */
  data: () => Float32Array;
}

/**
 * Writes tensors in the order given, all as F32, F16 or BF16 (rounded to nearest even), to a temporary name that is
 * renamed when it is safe on disk. `metadata` gets `format: "pt"` unless it says otherwise: transformers asks for it.
 */
export function writeSafetensors(
  path: string,
  tensors: Iterable<readonly [string, TensorData | LazyTensor]>,
  metadata: Record<string, string> = {},
  storage: "F32" | "F16" | "BF16" = "F32",
): void {
  const header: Record<string, unknown> = { __metadata__: { format: "pt", ...metadata } };
  const all = [...tensors];
  let end = 0;
  for (const [name, { shape, data }] of all) {
    const elements = shape.reduce((product, size) => product * size, 1);
    if (typeof data !== "function") checkCount(name, shape, data);
    if (Object.hasOwn(header, name)) {
      throw new Error(`Cannot write ${path}: there are two tensors "${name}".`);
    }
    const begin = end;
    end += elements * ITEM_BYTES[storage];
    header[name] = { dtype: storage, shape, data_offsets: [begin, end] };
  }
  const text = JSON.stringify(header);
  const bytes = new TextEncoder().encode(text);
  // Padded with blanks so that the data begins at a multiple of 8.
  const padded = new Uint8Array(Math.ceil(bytes.length / 8) * 8).fill(0x20);
  padded.set(bytes);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(padded.length), true);
  writeFileAtomically(path, chunks());

  function checkCount(name: string, shape: number[], data: Float32Array): void {
    const elements = shape.reduce((product, size) => product * size, 1);
    if (elements === data.length) return;
    throw new Error(
      `Cannot write ${path}: tensor "${name}" has ${data.length} values. Expected ${elements} for [${
        shape.join(", ")
      }].`,
    );
  }

  function* chunks(): Generator<Uint8Array> {
    yield length;
    yield padded;
    for (const [name, { shape, data: given }] of all) {
      const data = typeof given === "function" ? given() : given;
      checkCount(name, shape, data);
      yield storage === "F16"
        ? toHalf(data, `Cannot write ${path} in f16: tensor "${name}"`)
        : storage === "BF16"
        ? toBrainHalf(data)
        : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    }
  }
}
