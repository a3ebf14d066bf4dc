/**
 * Frozen weights in GPU memory in the form they are stored in, or in another: matrices by slot, vectors in an arena of float32.
 *
 * A slot is one or more runs of rows of one form each, because the weights inside may be stored differently (a GGUF file's values
 * often have more bits than its queries and keys), and because a kernel can only be given so many bytes at once.
 *
 * @module
 */
import { canStore, type Storage, STORAGES, storedWords } from "../../kernels/storage.ts";
import { allocate, flush, slice, write } from "../gpu/buffers.ts";
import type { Gpu, GpuWindow } from "../gpu/device.ts";
import { ggmlBytes, quantizeQ80 } from "./ggml_types.ts";
import { type Layout, type Part, place, rowsOf, sizesOf, type Slot } from "./layout.ts";
import type { GgufWeights } from "./open_gguf.ts";
import { type HostTensor, type Params, uploadParams } from "./params.ts";
import { findTensor, type Weights } from "./safetensors.ts";
import { toBrainHalf, toHalf } from "./stored_types.ts";

/** How frozen weights are held. */
export type Dtype = "f32" | "f16" | "bf16" | "q8_0" | "as-stored";

/** A run of rows of a slot. */
export interface StoredRows {
  /** Their form. */
  storage: Storage;
  /** How many. */
  rows: number;
  /** Where they lie. */
  window: GpuWindow;
}

/** Windows of a stored matrix begin at a multiple of this many rows, which is a multiple of 256 bytes. */
const ALIGNED_ROWS = 64;

/** Uploads the weights of a model that is not trained. */
export function uploadFrozen(gpu: Gpu, layout: Layout, weights: Weights | GgufWeights, dtype: Dtype): Params {
  const kept = new Map<string, StoredRows[]>(), plain: Slot[] = [];
  const scratch: Scratch = { read: new Uint8Array(CHUNK), packed: new Uint8Array(CHUNK) };
  for (const slot of layout.slots.values()) {
    const forms = slot.parts.map((part) => formOf(slot, part, weights, dtype));
    if (forms.every((form) => form === "F32")) plain.push(slot);
    else {kept.set(
        slot.label,
        slot.parts.flatMap((part, i) => uploadRows(gpu, slot, part, forms[i], weights, scratch)),
      );}
  }
  const arena = place(plain);
  const params = uploadParams(gpu, arena, (name) => hostTensor(weights, name));
  const slots = new Map([...layout.slots].map(([label, slot]) => [label, arena.slots.get(label) ?? slot]));
  return { ...params, layout: { ...arena, slots, parameters: layout.parameters }, stored: kept };
}

/** Bytes that {@linkcode uploadFrozen} takes. */
export function frozenBytes(layout: Layout, weights: Weights | GgufWeights, dtype: Dtype): number {
  const plain: Slot[] = [];
  let bytes = 0;
  for (const slot of layout.slots.values()) {
    const forms = slot.parts.map((part) => formOf(slot, part, weights, dtype));
    if (forms.every((form) => form === "F32")) plain.push(slot);
    else {
      slot.parts.forEach((part, i) =>
        bytes += storedWords(forms[i], rowsOf(slot, part).rows, slot.shape[1]) * 4
      );
    }
  }
  return bytes + place(plain).count * 4;
}

/** A tensor of a model's files as float32. */
export function hostTensor(weights: Weights, name: string): HostTensor {
  const { source, tensors } = weights;
  return { shape: findTensor(source, tensors, name).shape, data: weights.read(name), source };
}

/** The form in which a weight is held: the one asked for, where its rows can be cut into such blocks, else float32. */
function formOf(slot: Slot, part: Part, weights: Weights | GgufWeights, dtype: Dtype): Storage {
  if (slot.shape.length !== 2 || slot.label === "score") return "F32";
  const { dtype: type } = findTensor(weights.source, weights.tensors, part.name);
  const wanted = dtype === "as-stored" ? type : dtype.toUpperCase();
  const form = (Object.hasOwn(STORAGES, wanted) ? wanted : "F32") as Storage;
  const { inputs } = sizesOf(part), moved = inputs !== slot.shape[1];
  return canStore(form, slot.shape[1]) && !(moved && STORAGES[form].elements > 4) ? form : "F32";
}

/** Bytes that are packed and written at once; a row has fewer. */
const CHUNK = 1 << 20;

/** Memory that is used again for every chunk: what the garbage collector has not seen yet counts as used. */
interface Scratch {
  read: Uint8Array<ArrayBuffer>;
  packed: Uint8Array<ArrayBuffer>;
}

function uploadRows(
  gpu: Gpu,
  slot: Slot,
  part: Part,
  storage: Storage,
  weights: Weights | GgufWeights,
  scratch: Scratch,
): StoredRows[] {
  const { first, rows } = rowsOf(slot, part), [, columns] = slot.shape;
  const perRow = storedWords(storage, 1, columns) * 4;
  const window = allocate(gpu, rows * perRow, slot.label);
  const at = part.place ?? ((out: number) => out);
  const packRow = rowPacker(slot, part, storage, weights, scratch);
  const { outputs } = sizesOf(part), most = Math.max(1, Math.floor(CHUNK / perRow));
  for (let from = 0; from < outputs;) {
    // A run of outputs that lie one after the other in the slot, too.
    let count = 1;
    while (count < most && from + count < outputs && at(from + count) === at(from) + count) count++;
    const bytes = packRow(from, count);
    write(
      gpu,
      slice(window, (at(from) - first) * perRow),
      new Uint32Array(bytes.buffer, 0, bytes.length / 4),
    );
    from += count;
    flush(gpu);
  }
  const perWindow = Math.floor(gpu.maxBinding / perRow / ALIGNED_ROWS) * ALIGNED_ROWS;
  const runs: StoredRows[] = [];
  for (let row = 0; row < rows; row += perWindow) {
    const count = Math.min(perWindow, rows - row);
    runs.push({ storage, rows: count, window: slice(window, row * perRow, count * perRow) });
  }
  return runs;
}

/** Returns the bytes of some outputs' rows as they are held, from output `from` on, until it is called again. */
function rowPacker(
  slot: Slot,
  part: Part,
  storage: Storage,
  weights: Weights | GgufWeights,
  scratch: Scratch,
): (from: number, count: number) => Uint8Array<ArrayBuffer> {
  const [, columns] = slot.shape, { inputs, outputs } = sizesOf(part);
  const perRow = storedWords(storage, 1, columns) * 4;
  const { dtype: type } = findTensor(weights.source, weights.tensors, part.name);
  const { packed, read } = scratch;
  // Rows lie as in the file, unless they are to be completed with zeros.
  const asInFile = inputs === columns && columns % STORAGES[storage].elements === 0;
  if ("readBlocks" in weights && type === storage && asInFile) {
    return (from, count) => {
      const bytes = packed.subarray(0, count * perRow);
      padBlocks(storage, weights.readBlocks(part.name, from, count, read).bytes, bytes);
      return bytes;
    };
  }
  const { data } = hostTensor(weights, part.name), row = new Float32Array(perRow);
  const { size, stride } = part.columnGroups ?? { size: inputs, stride: inputs };
  const width = Math.ceil(columns / 4) * 4;
  const what = `Cannot hold tensor "${part.name}" of ${weights.source}`;
  return (from, count) => {
    const bytes = packed.subarray(0, count * perRow);
    for (let out = from; out < from + count; out++) {
      for (let c = 0; c < inputs; c++) {
        const column = Math.floor(c / size) * stride + c % size;
        row[column] = part.transposed ? data[c * outputs + out] : data[out * inputs + c];
      }
      const to = (out - from) * perRow;
      padBlocks(storage, encode(storage, row.subarray(0, width), what), bytes.subarray(to, to + perRow));
    }
    return bytes;
  };
}

/** A row in a form, as its blocks lie in files. */
function encode(storage: Storage, row: Float32Array, what: string): Uint8Array {
  switch (storage) {
    case "F32":
      return new Uint8Array(row.buffer, row.byteOffset, row.byteLength);
    case "F16":
      return toHalf(row, `${what} in f16: it`);
    case "BF16":
      return toBrainHalf(row);
    case "Q8_0":
      return quantizeQ80(row, what);
    default:
      throw new Error(`${what} as ${storage}; keel makes no such blocks.`);
  }
}

/** Copies blocks, each completed to whole words as `kernels/storage.ts` says. */
export function padBlocks(storage: Storage, blocks: Uint8Array, into: Uint8Array): void {
  const { elements, words } = STORAGES[storage];
  const length = ggmlBytes(storage, elements), size = words * 4;
  if (length === size) return into.set(blocks);
  const head = storage === "Q6_K" ? length : 2;
  for (let from = 0, to = 0; from < blocks.length; from += length, to += size) {
    into.set(blocks.subarray(from, from + head), to);
    if (head < length) into.set(blocks.subarray(from + head, from + length), to + 4);
  }
}
