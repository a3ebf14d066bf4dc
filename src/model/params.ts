/**
 * Weights on the GPU: one buffer in the layout of `layout.ts`, and for training three more of the same shape.
 *
 * @module
 */
import { allocate, copy, readFloats, slice, upload, write } from "../gpu/buffers.ts";
import type { Gpu, GpuWindow } from "../gpu/device.ts";
import type { Tape, Tensor } from "../tape/tape.ts";
import { forEachRun, type Layout } from "./layout.ts";
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
  /** Present while the weights are trained. */
  training?: { gradients: GpuWindow; moment1: GpuWindow; moment2: GpuWindow };
}

/** Packs host weights into the arena's layout. `weight` returns a tensor of the given name. */
export function packWeights(layout: Layout, weight: (name: string) => HostTensor): Float32Array<ArrayBuffer> {
  const arena = new Float32Array(layout.count);
  for (const slot of layout.slots.values()) {
    for (const part of slot.parts) {
      const { shape, data, source } = weight(part.name);
      if (shape.join() !== part.shape.join()) {
        throw new Error(
          `Cannot use ${
            source ?? "these weights"
          }: tensor "${part.name}" has the shape [${shape}]. Expected [${part.shape}] as config.json says; are both of one model?`,
        );
      }
      forEachRun(
        slot,
        part,
        (logical, physical, length) => arena.set(data.subarray(logical, logical + length), physical),
      );
    }
  }
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
        (logical, physical, length) => data.set(arena.subarray(physical, physical + length), logical),
      );
      out[part.name] = { shape: part.shape, data };
    }
  }
  return out;
}

/** Uploads host weights. */
export function uploadParams(gpu: Gpu, layout: Layout, weight: (name: string) => HostTensor): Params {
  return { layout, values: upload(gpu, packWeights(layout, weight), "parameters") };
}

/** A copy of the same weights in a new buffer. */
export function cloneParams(gpu: Gpu, params: Params): Params {
  const values = allocate(gpu, params.values.size, "parameters");
  copy(gpu, params.values, values);
  return { layout: params.layout, values };
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
  return unpackWeights(params.layout, await readFloats(gpu, params.values));
}

/** Overwrites the weights. */
export function writeParams(gpu: Gpu, params: Params, weight: (name: string) => HostTensor): void {
  write(gpu, params.values, packWeights(params.layout, weight));
}

/** The slot called `label` as a tensor of the tape; differentiable where the weights are trained and `frozen` is not set. */
export function slotTensor(tape: Tape, params: Params, label: string, frozen = false): Tensor {
  const slot = params.layout.slots.get(label);
  if (!slot) throw new Error(`The model has no weight "${label}".`);
  const [rows, cols] = slot.shape.length === 2 ? slot.shape : [1, slot.shape[0]];
  const bytes = (slot.shape.length === 2 ? rows * rowStride(cols) : padded(cols)) * 4;
  const window = slice(params.values, slot.offset * 4, bytes);
  const gradient = params.training && !frozen
    ? slice(params.training.gradients, slot.offset * 4, bytes)
    : undefined;
  return tape.external(label, slot.shape, window, gradient);
}

/** Frees the buffers. */
export function destroyParams(params: Params): void {
  params.values.buffer.destroy();
  if (params.training) { for (const window of Object.values(params.training)) window.buffer.destroy(); }
}
