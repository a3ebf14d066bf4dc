/**
 * Weights on the GPU: one buffer in the layout of `layout.ts`, and for training three more of the same shape.
 *
 * @module
 */
import { allocate, copy, flush, readFloats, slice, write } from "../gpu/buffers.ts";
import type { Gpu, GpuWindow } from "../gpu/device.ts";
import type { Tape, Tensor } from "../tape/tape.ts";
import type { StoredRows } from "./frozen.ts";
import { forEachRun, type Layout, type Slot, slotFloats } from "./layout.ts";
import { padded, rowStride } from "../../kernels/kernel.ts";

/** A weight on the host: Hugging Face shape, row-major. */
export interface HostTensor {
  /** As in the file. */
  shape: number[];
  /** Row-major. */
  data: Float32Array;
  /** The file it was read from, for messages. */
  source?: string;
}

/** Weights on the host by their Hugging Face names. */
export type HostWeights = Record<string, HostTensor>;

/** Weights on the GPU. */
export interface Params {
  /** Where each weight lies. */
  layout: Layout;
  /** The weights. */
  values: GpuWindow;
  /** Frozen matrices that are not in the arena, by slot: runs of rows, one after the other. */
  stored?: Map<string, StoredRows[]>;
  /** Most bytes that a kernel can be given at once. */
  maxBinding: number;
  /** Present while the weights are trained. */
  training?: { gradients: GpuWindow; moment1: GpuWindow; moment2: GpuWindow };
}

/** Parts of a slot begin at a multiple of this many rows: bindings begin at multiples of 256 bytes, a row has a multiple of 16. */
const ALIGNED_ROWS = 16;

/** Bytes that are written to the GPU before they are submitted. */
const MOST_WAITING = 1 << 26;

/** Fills `memory`, which begins at float `from` of the arena, with the weights of a slot. */
function fillSlot(
  slot: Slot,
  weight: (name: string) => HostTensor,
  memory: Float32Array,
  from: number,
): void {
  for (const part of slot.parts) {
    const { shape, data, source } = weight(part.name);
    if (shape.join() !== part.shape.join()) {
      throw new Error(
        `Cannot use ${
          source ?? "these weights"
        }: tensor "${part.name}" has the shape [${shape}]. Expected [${part.shape}] as config.json says; are both of one model?`,
      );
    }
    forEachRun(slot, part, (logical, physical, length) => {
      if (length === 1) memory[physical - from] = data[logical];
      else memory.set(data.subarray(logical, logical + length), physical - from);
    });
  }
}

/** Packs host weights into the arena's layout. `weight` returns a tensor of the given name. */
export function packWeights(layout: Layout, weight: (name: string) => HostTensor): Float32Array<ArrayBuffer> {
  const arena = new Float32Array(layout.count);
  for (const slot of layout.slots.values()) fillSlot(slot, weight, arena, 0);
  return arena;
}

/** The reverse of {@linkcode packWeights}. */
export function unpackWeights(layout: Layout, arena: Float32Array): HostWeights {
  const out: HostWeights = {};
  for (const slot of layout.slots.values()) {
    for (const part of slot.parts) {
      const data = new Float32Array(part.shape.reduce((a, b) => a * b));
      forEachRun(
        slot,
        part,
        (logical, physical, length) => {
          if (length === 1) data[logical] = arena[physical];
          else data.set(arena.subarray(physical, physical + length), logical);
        },
      );
      out[part.name] = { shape: part.shape, data };
    }
  }
  return out;
}

/** Uploads host weights, slot by slot, so that no second copy of the whole is in memory. */
export function uploadParams(gpu: Gpu, layout: Layout, weight: (name: string) => HostTensor): Params {
  const values = allocate(gpu, layout.count * 4, "parameters");
  writeSlots(gpu, layout, values, weight);
  return { layout, values, maxBinding: gpu.maxBinding };
}

/** A copy of the same weights in a new buffer. */
export function cloneParams(gpu: Gpu, params: Params): Params {
  const values = allocate(gpu, params.values.size, "parameters");
  copy(gpu, params.values, values);
  return { ...params, values, training: undefined };
}

/** Adds gradients and moments, all zero. */
export function makeTrainable(gpu: Gpu, params: Params): Params & Required<Pick<Params, "training">> {
  const bytes = params.layout.count * 4;
  return {
    ...params,
    training: {
      gradients: allocate(gpu, bytes, "gradients"),
      moment1: allocate(gpu, bytes, "first moments"),
      moment2: allocate(gpu, bytes, "second moments"),
    },
  };
}

/** Reads the weights back. */
export async function readParams(gpu: Gpu, params: Params): Promise<HostWeights> {
  if (params.stored?.size) {
    throw new Error("Weights that are held as they are stored are not read back: they are in their file.");
  }
  return unpackWeights(params.layout, await readFloats(gpu, params.values));
}

/** Overwrites the weights. */
export function writeParams(gpu: Gpu, params: Params, weight: (name: string) => HostTensor): void {
  writeSlots(gpu, params.layout, params.values, weight);
}

function writeSlots(gpu: Gpu, layout: Layout, to: GpuWindow, weight: (name: string) => HostTensor): void {
  let waiting = 0;
  for (const slot of layout.slots.values()) {
    const memory = new Float32Array(slotFloats(slot));
    fillSlot(slot, weight, memory, slot.offset);
    write(gpu, slice(to, slot.offset * 4, memory.byteLength), memory);
    waiting += memory.byteLength;
    if (waiting < MOST_WAITING) continue;
    flush(gpu);
    waiting = 0;
  }
  flush(gpu);
}

/** The slot called `label` as a tensor of the tape; differentiable where the weights are trained and `frozen` is not set. */
export function slotTensor(tape: Tape, params: Params, label: string, frozen = false): Tensor {
  const parts = slotParts(tape, params, label, frozen);
  if (parts.length === 1) return parts[0];
  throw new Error(
    `The weight "${label}" is larger than the ${params.maxBinding} bytes that this GPU gives a kernel at once.`,
  );
}

/** The slot called `label` in as many parts of whole rows as it takes to bind each at once. */
export function slotParts(tape: Tape, params: Params, label: string, frozen = false): Tensor[] {
  const slot = params.layout.slots.get(label);
  if (!slot) throw new Error(`The model has no weight "${label}".`);
  const stored = params.stored?.get(label);
  if (stored) {
    return stored.map(({ rows, window, storage }) =>
      tape.stored(label, [rows, slot.shape[1]], window, storage)
    );
  }
  const [rows, ld] = slot.shape.length === 2
    ? [slot.shape[0], rowStride(slot.shape[1])]
    : [1, padded(slot.shape[0])];
  const most = Math.floor(params.maxBinding / 4 / ld / ALIGNED_ROWS) * ALIGNED_ROWS;
  const parts: Tensor[] = [];
  for (let first = 0; first < rows; first += most) {
    const count = Math.min(most, rows - first);
    const at = (window: GpuWindow) => slice(window, (slot.offset + first * ld) * 4, count * ld * 4);
    const gradient = params.training && !frozen ? at(params.training.gradients) : undefined;
    const shape = slot.shape.length === 2 ? [count, slot.shape[1]] : slot.shape;
    parts.push(tape.external(label, shape, at(params.values), gradient));
  }
  return parts;
}

/** Frees the buffers. */
export function destroyParams(params: Params): void {
  params.values.buffer.destroy();
  for (const { window } of [...params.stored?.values() ?? []].flat()) window.buffer.destroy();
  if (params.training) { for (const window of Object.values(params.training)) window.buffer.destroy(); }
}
