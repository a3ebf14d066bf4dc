/**
 * Writing a model as a GGUF file, with its tokenizer: what llama.cpp and what builds on it reads.
 *
 * @module
 */

import { basename } from "node:path";
import { writeFileAtomically } from "./atomic_file.ts";
import { GGML_TYPES, ggmlBytes, quantizeQ80 } from "./ggml_types.ts";
import { DEFAULT_ALIGNMENT } from "./gguf.ts";
import { type StoredTensor, storedTensor } from "./gguf_names.ts";
import { ROPE_FACTORS } from "./gguf_rope.ts";
import type { JsonObject } from "./json_file.ts";
import { transpose } from "./open_gguf.ts";
import { toHalf } from "./stored_types.ts";
import { type DescribedModel, describeGguf, type GgufEntry, text, u32 } from "./write_gguf_config.ts";
import { describeTokenizer } from "./write_gguf_tokenizer.ts";

/** Types that a model can be written in. */
export type WrittenType = "F32" | "F16" | "Q8_0";

/** Weights to be written; {@linkcode Weights} of a model directory are such. */
export interface WeightSource {
  /** Names of Hugging Face and sizes, in the order to be written. */
  tensors: Iterable<[string, { shape: number[] }]>;
  /** One of them, row-major. */
  read(name: string): Float32Array;
}

/** What was written. */
export interface WrittenGguf {
  /** Number of tensors. */
  tensors: number;
  /** Matrices that are F16 because their rows are no multiple of 32. */
  storedAsHalf: number;
  /** What other readers will not take from the file, as sentences. */
  notes: string[];
}

/** Numbers of the types in the metadata. */
const ENTRY_CODES = { u32: 4, i32s: 5, f32: 6, f32s: 6, bool: 7, string: 8, strings: 8 } as const;
const LIST = 9;

/** What `general.file_type` calls a file of mostly that type. */
const FILE_TYPES: Record<WrittenType, number> = { F32: 0, F16: 1, Q8_0: 7 };

/** A tensor that is about to be written; `shape` is as in the file, outermost first. */
interface Planned {
  stored: StoredTensor;
  shape: number[];
  type: WrittenType;
  /** Its values in Hugging Face's order. */
  read: () => Float32Array;
}

/**
 * Writes a GGUF file, tensor by tensor, to a temporary name that is renamed when it is safe on disk. Matrices are stored as `type`, vectors
 * as F32; matrices whose rows do not fill blocks of Q8_0 as F16. `config` is as in a `config.json`, with the token ids of a
 * `generation_config.json` where they are others. `tokenizerFrom` is a directory with `tokenizer.json`.
 *
 * @throws {Error} when a GGUF file cannot say what the config says, or has no place for a tensor.
 */
export function writeGguf(
  path: string,
  { config, weights, tokenizerFrom, type }: {
    config: JsonObject;
    weights: WeightSource;
    tokenizerFrom?: string;
    type: WrittenType;
  },
): WrittenGguf {
  const model = describeGguf(config, path);
  const { entries, note } = describeTokenizer(config, path, model.vocabSize, tokenizerFrom);
  const planned = [...weights.tensors].flatMap(([name, { shape }]) =>
    plan(path, name, shape, model, type, () => weights.read(name))
  );
  const metadata = new Map<string, GgufEntry>([
    ...model.metadata,
    ["general.name", text(basename(path).replace(/\.gguf$/, ""))],
    ["general.file_type", u32(FILE_TYPES[type])],
    ...(type === "Q8_0" ? [["general.quantization_version", u32(2)] as const] : []),
    ...entries,
  ]);
  const factors = model.ropeFactors;
  const all: Planned[] = factors === undefined ? planned : [
    { stored: { name: ROPE_FACTORS }, shape: [factors.length], type: "F32", read: () => factors },
    ...planned,
  ];
  writeFileAtomically(path, chunks());
  return {
    tensors: all.length,
    storedAsHalf: all.filter((one) => type === "Q8_0" && one.type === "F16").length,
    notes: note === undefined ? model.notes : [...model.notes, note],
  };

  function* chunks(): Generator<Uint8Array> {
    const header = encodeHeader(metadata, all);
    yield header;
    yield padding(header.length);
    for (const tensor of all) {
      const bytes = encodeTensor(tensor);
      yield bytes;
      yield padding(bytes.length);
    }
  }
}

/** Whether a tensor is a mask or a table that some models' files carry and that no reader needs. */
function isTable(name: string): boolean {
  return /\.(attn|attention)\.(bias|masked_bias)$|\.rotary_emb\.inv_freq$/.test(name);
}

function plan(
  path: string,
  name: string,
  shape: number[],
  { naming, tied }: DescribedModel,
  type: WrittenType,
  read: () => Float32Array,
): Planned[] {
  if (isTable(name)) return [];
  const stored = storedTensor(name, naming);
  if (stored === undefined || shape.length < 1 || shape.length > 2) {
    throw new Error(
      `Cannot write ${path}: tensor "${name}" [${
        shape.join(", ")
      }] has no place in a GGUF file of the architecture ${naming.architecture}.`,
    );
  }
  // A file without a head has the embedding for one.
  if (tied && stored.name === "output.weight") return [];
  const inFile = stored.transposed ? [...shape].reverse() : shape;
  if (stored.rowsOf !== undefined && inFile[0] % stored.rowsOf !== 0) {
    throw new Error(
      `Cannot write ${path}: tensor "${name}" has ${
        inFile[0]
      } rows. Expected a multiple of ${stored.rowsOf}, whole heads.`,
    );
  }
  const vector = shape.length === 1;
  const fills = inFile[inFile.length - 1] % GGML_TYPES[type].elements === 0;
  return [{ stored, shape: inFile, type: vector ? "F32" : fills ? type : "F16", read }];
}

/** A tensor's bytes. Errors are completed by {@linkcode writeFileAtomically}. */
function encodeTensor({ stored, shape, type, read }: Planned): Uint8Array {
  const values = read();
  const elements = shape.reduce((product, size) => product * size, 1);
  const what = `tensor "${stored.name}"`;
  if (values.length !== elements) {
    throw new Error(`${what} has ${values.length} values. Expected ${elements}.`);
  }
  let data = stored.transposed ? transpose(values, shape[1]) : values;
  if (stored.plusOne) data = data.map((value) => value + 1);
  if (stored.fileRow !== undefined) {
    const width = elements / shape[0], moved = new Float32Array(elements);
    for (let row = 0; row < shape[0]; row++) {
      moved.set(data.subarray(row * width, (row + 1) * width), stored.fileRow(row, shape[0]) * width);
    }
    data = moved;
  }
  switch (type) {
    case "F32":
      return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    case "F16":
      return toHalf(data, what);
    case "Q8_0":
      return quantizeQ80(data, what);
  }
}

/** What brings some bytes to a multiple of the alignment. */
function padding(bytes: number): Uint8Array {
  return new Uint8Array(Math.ceil(bytes / DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT - bytes);
}

/** Everything before the tensors. */
function encodeHeader(metadata: Map<string, GgufEntry>, tensors: Planned[]): Uint8Array {
  const parts: Uint8Array[] = [];
  const encoder = new TextEncoder();
  const number = (bytes: number, set: (view: DataView) => void) => {
    const part = new Uint8Array(bytes);
    set(new DataView(part.buffer));
    parts.push(part);
  };
  const putU32 = (value: number) => number(4, (view) => view.setUint32(0, value, true));
  const putU64 = (value: number) => number(8, (view) => view.setBigUint64(0, BigInt(value), true));
  const putText = (value: string) => {
    const bytes = encoder.encode(value);
    putU64(bytes.length);
    parts.push(bytes);
  };
  const putValue = (entry: GgufEntry) => {
    const code = ENTRY_CODES[entry.type];
    if (typeof entry.value === "object") {
      putU32(LIST);
      putU32(code);
      putU64(entry.value.length);
    } else putU32(code);
    switch (entry.type) {
      case "u32":
        return putU32(entry.value);
      case "f32":
        return number(4, (view) => view.setFloat32(0, entry.value, true));
      case "bool":
        return parts.push(Uint8Array.of(entry.value ? 1 : 0));
      case "string":
        return putText(entry.value);
      case "strings":
        return entry.value.forEach(putText);
      case "i32s":
        return parts.push(new Uint8Array(Int32Array.from(entry.value).buffer));
      case "f32s":
        return parts.push(new Uint8Array(Float32Array.from(entry.value).buffer));
    }
  };
  parts.push(encoder.encode("GGUF"));
  putU32(3);
  putU64(tensors.length);
  putU64(metadata.size);
  for (const [key, entry] of metadata) {
    putText(key);
    putValue(entry);
  }
  let offset = 0;
  for (const { stored, shape, type } of tensors) {
    putText(stored.name);
    putU32(shape.length);
    for (const size of [...shape].reverse()) putU64(size);
    putU32(GGML_TYPES[type].code);
    putU64(offset);
    const bytes = ggmlBytes(type, shape.reduce((product, size) => product * size, 1));
    offset += bytes + padding(bytes).length;
  }
  const header = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    header.set(part, at);
    at += part.length;
  }
  return header;
}
