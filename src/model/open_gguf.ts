/**
 * A GGUF file as a Hugging Face model: its config and its weights, by Hugging Face's names and in their order and shape.
 *
 * @module
 */

import { dequantize, ggmlBytes, type GgmlType } from "./ggml_types.ts";
import { type GgufFile, type GgufTensor, readGguf } from "./gguf.ts";
import { ggufArchitecture, ggufConfig } from "./gguf_config.ts";
import { huggingFaceName, type Naming, type StoredTensor, storedTensor } from "./gguf_names.ts";
import { ROPE_FACTORS } from "./gguf_rope.ts";
import type { JsonObject } from "./json_file.ts";
import { findTensor, type TensorInfo, type Weights } from "./safetensors.ts";

/** Weights of a GGUF file by Hugging Face's names. */
export interface GgufWeights extends Weights {
  tensors: ReadonlyMap<string, TensorInfo<GgmlType>>;
  /**
   * The blocks of some rows of a matrix [outputs, inputs], or of a vector's elements, for dequantisation elsewhere, in memory of their own or where there is room in `into`. Rows are in Hugging
   * Face's order, blocks run along the inputs. GPT-2's matrices, [inputs, outputs] in Hugging Face's, are [outputs, inputs] here too. Not
   * for Gemma's norms, which are stored with 1 added.
   */
  readBlocks(
    name: string,
    firstRow: number,
    rows: number,
    into?: Uint8Array<ArrayBuffer>,
  ): { type: GgmlType; bytes: Uint8Array<ArrayBuffer> };
}

/** A model in a GGUF file. */
export interface GgufModel {
  /** As in a `config.json`. */
  config: JsonObject;
  /** As in a `generation_config.json`. */
  generation: JsonObject;
  /** No tensor is in memory. */
  weights: GgufWeights;
}

/**
 * Opens a model in a GGUF file.
 *
 * @throws {Error} when the file lies about its contents, or has an architecture, a type or a tensor that is not understood.
 */
export function openGguf(path: string): GgufModel {
  const file = readGguf(path);
  const { config, generation } = ggufConfig(file);
  return { config, generation, weights: ggufWeights(file, config) };
}

/** A tensor's place in the file and what differs from Hugging Face's. */
interface Entry {
  tensor: GgufTensor;
  stored: StoredTensor;
}

function ggufWeights(file: GgufFile, config: JsonObject): GgufWeights {
  const { source } = file;
  const heads = Number(config.num_attention_heads ?? config.n_head);
  const naming: Naming = {
    architecture: ggufArchitecture(file),
    heads,
    kvHeads: Number(config.num_key_value_heads ?? heads),
  };
  const entries = new Map<string, Entry>();
  const tensors = new Map<string, TensorInfo<GgmlType>>();
  for (const [name, tensor] of file.tensors) {
    if (name === ROPE_FACTORS) continue;
    const ours = huggingFaceName(name, naming.architecture);
    if (ours === undefined) {
      throw new Error(
        `Cannot read ${source}: tensor ${
          JSON.stringify(name)
        } has no place in the architecture ${naming.architecture}.`,
      );
    }
    const stored = storedTensor(ours, naming)!;
    const { type: dtype, shape, ...place } = tensor;
    if (stored.rowsOf !== undefined && shape[0] % stored.rowsOf !== 0) {
      throw new Error(
        `Cannot read ${source}: tensor ${JSON.stringify(name)} has ${
          shape[0]
        } rows. Expected a multiple of ${stored.rowsOf}, whole heads.`,
      );
    }
    entries.set(ours, { tensor, stored });
    tensors.set(ours, { dtype, shape: stored.transposed ? [...shape].reverse() : shape, ...place });
  }
  const find = (name: string): Entry => {
    findTensor(source, tensors, name);
    return entries.get(name)!;
  };
  return {
    source,
    tensors,
    metadata: Object.fromEntries(
      [...file.metadata].filter(([, value]) => typeof value === "string"),
    ) as Record<
      string,
      string
    >,
    read: (name) => {
      const { tensor, stored } = find(name);
      const rows = stored.fileRow ? tensor.shape[0] : tensor.elements / tensor.shape[tensor.shape.length - 1];
      const values = dequantize(tensor.type, readRows(file, find(name), 0, rows));
      if (stored.plusOne) { for (let i = 0; i < values.length; i++) values[i] -= 1; }
      return stored.transposed ? transpose(values, tensor.shape[0]) : values;
    },
    readIntegers: (name) => {
      const { tensor } = find(name);
      throw new Error(`Cannot read ${source}: tensor "${name}" holds ${tensor.type}. Expected integers.`);
    },
    readBlocks: (name, firstRow, rows, into) => {
      const entry = find(name);
      if (entry.stored.plusOne) {
        throw new Error(
          `Cannot read the blocks of tensor "${name}" of ${source}: it is stored with 1 added.`,
        );
      }
      return { type: entry.tensor.type, bytes: readRows(file, entry, firstRow, rows, into) };
    },
  };
}

/** Blocks of some rows, in our order. A vector whose elements are reordered has a row for each. */
function readRows(
  file: GgufFile,
  { tensor, stored: { name, fileRow } }: Entry,
  firstRow: number,
  rows: number,
  into?: Uint8Array<ArrayBuffer>,
): Uint8Array<ArrayBuffer> {
  if (fileRow === undefined) return file.readBlocks(name, firstRow, rows, into);
  const all = tensor.shape[0], width = ggmlBytes(tensor.type, tensor.elements / all);
  if (!(firstRow >= 0 && rows >= 0 && firstRow + rows <= all)) {
    throw new Error(
      `Cannot read rows ${firstRow} to ${
        firstRow + rows
      } of tensor "${name}" of ${file.source}: it has ${all}.`,
    );
  }
  const from = Array.from({ length: rows }, (_, i) => fileRow(firstRow + i, all));
  const vector = tensor.shape.length === 1;
  const first = vector ? 0 : from.reduce((a, b) => Math.min(a, b), all);
  const last = from.reduce((a, b) => Math.max(a, b), first);
  const read = vector
    ? file.readBlocks(name)
    : file.readBlocks(name, first, rows === 0 ? 0 : last - first + 1);
  const bytes = new Uint8Array(rows * width);
  for (const [i, row] of from.entries()) {
    bytes.set(read.subarray((row - first) * width, (row - first + 1) * width), i * width);
  }
  return bytes;
}

/** [rows, columns] to [columns, rows]. */
export function transpose(values: Float32Array, rows: number): Float32Array<ArrayBuffer> {
  const columns = values.length / rows;
  const result = new Float32Array(values.length);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      result[column * rows + row] = values[row * columns + column];
    }
  }
  return result;
}
