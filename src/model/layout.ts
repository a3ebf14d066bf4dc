/**
 * Where each weight lies in the parameter arena.
 *
 * Parameters, gradients and optimiser moments are buffers of this one layout. A slot is a matrix as the kernels want it:
 * rows padded to multiples of four floats, q, k, v in one matrix and gate, up in another, heads padded to multiples of four.
 * A part is a weight under its Hugging Face name and shape, and knows where its rows and columns lie in the slot. Padding is
 * zero and stays zero, so results do not depend on it. Which parts a slot has is in `weight_names.ts`.
 *
 * @module
 */
import { isGated } from "../../kernels/activation.ts";
import { padded, rowStride } from "../../kernels/kernel.ts";
import type { ModelConfig } from "./config.ts";
import { FAMILIES } from "./families.ts";
import { layerNames, modelNames } from "./weight_names.ts";

/** A weight by its Hugging Face name, inside a slot. */
export interface Part {
  /** Hugging Face name. */
  name: string;
  /** As in the file: [out, in], [in, out] where it is transposed, or [n]. */
  shape: number[];
  /** The file holds [in, out]. */
  transposed?: boolean;
  /** Where output (row, or element of a vector) `out` of the file lies in the slot; itself by default. */
  place?: (out: number) => number;
  /** Inputs come in groups (heads) of `size`, `stride` apart. */
  columnGroups?: { size: number; stride: number };
}

/** A matrix or vector of the arena. */
export interface Slot {
  /** Name of the slot, e.g. `0.qkv`. */
  label: string;
  /** [rows, cols] (rows rowStride(cols) apart) or [n]. */
  shape: number[];
  /** First float in the arena, a multiple of 64. */
  offset: number;
  /** The weights inside. */
  parts: Part[];
}

/** A slot that has no place yet. */
export type Unplaced = Omit<Slot, "offset">;

/** The arena's layout. Slots that weight decay leaves alone (norms, biases) come last, from float `decayEnd` on. */
export interface Layout {
  /** By label. */
  slots: Map<string, Slot>;
  /** Floats of the arena, a multiple of 64. */
  count: number;
  /** First float that weight decay leaves alone. */
  decayEnd: number;
  /** Trainable numbers, padding not counted. */
  parameters: number;
}

const ALIGN = 64;

/** Lays out the weights of a decoder and of its head. */
export function layoutOf(config: ModelConfig): Layout {
  const matrices: Unplaced[] = [], vectors: Unplaced[] = [];
  const add = (slot: Unplaced) => (slot.shape.length === 2 ? matrices : vectors).push(slot);
  const { hiddenSize: width, vocabSize, maxPositions } = config;
  const names = modelNames(config);
  const whole = (label: string, name: string, shape: number[]) =>
    add({ label, shape, parts: [{ name, shape }] });
  const norm = (label: string, name: string, size = width) => {
    whole(label, `${name}.weight`, [size]);
    if (FAMILIES[config.family].norm === "layer") whole(`${label}_bias`, `${name}.bias`, [size]);
  };
  whole("embed", names.embedding, [vocabSize, width]);
  if (names.positions) whole("positions", names.positions, [maxPositions, width]);
  for (let layer = 0; layer < config.layers; layer++) addLayer(config, layer, add, norm);
  norm("norm", names.norm);
  if (config.architecture === "reward") whole("score", "score.weight", [1, width]);
  else if (!config.tied) whole("head", names.head, [vocabSize, width]);
  return place([...matrices, ...vectors]);
}

/** Rows of a slot that a part takes when nothing is said. */
const SAME = (out: number) => out;

function addLayer(
  config: ModelConfig,
  layer: number,
  add: (slot: Unplaced) => void,
  norm: (label: string, name: string, size?: number) => void,
): void {
  const { hiddenSize: width, heads, kvHeads, headDim, intermediateSize: inner, biases } = config;
  const names = layerNames(config, layer);
  const stride = padded(headDim), innerStride = padded(inner);
  /** A slot of one or more modules, each with `outputs` outputs, and their biases. */
  const modules = (
    label: string,
    rows: number,
    inputs: number,
    bias: boolean,
    parts: { module: string; outputs: number; place?: Part["place"] }[],
    columnGroups?: Part["columnGroups"],
  ) => {
    const transposed = config.family === "gpt2";
    add({
      label,
      shape: [rows, columnGroups ? inputs / columnGroups.size * columnGroups.stride : inputs],
      parts: parts.map(({ module, outputs, place }) => ({
        name: `${module}.weight`,
        shape: transposed ? [inputs, outputs] : [outputs, inputs],
        ...(transposed && { transposed }),
        ...(place && { place }),
        ...(columnGroups && { columnGroups }),
      })),
    });
    if (!bias) return;
    add({
      label: `${label}_bias`,
      shape: [rows],
      parts: parts.map(({ module, outputs, place }) => ({
        name: `${module}.bias`,
        shape: [outputs],
        ...(place && { place }),
      })),
    });
  };
  const byHead = (first: number) => (out: number) =>
    first + Math.floor(out / headDim) * stride + out % headDim;
  const all = heads + 2 * kvHeads;
  modules(
    `${layer}.qkv`,
    all * stride,
    width,
    biases.qkv,
    "qkv" in names ? [{ module: names.qkv, outputs: all * headDim, place: fusedPlace(config) }] : [
      { module: names.q, outputs: heads * headDim, place: byHead(0) },
      { module: names.k, outputs: kvHeads * headDim, place: byHead(heads * stride) },
      { module: names.v, outputs: kvHeads * headDim, place: byHead((heads + kvHeads) * stride) },
    ],
  );
  modules(`${layer}.o`, width, heads * headDim, biases.out, [{ module: names.out, outputs: width }], {
    size: headDim,
    stride,
  });
  if (!isGated(config.activation)) {
    modules(`${layer}.up`, inner, width, biases.mlp, [{ module: names.up, outputs: inner }]);
  } else {
    modules(
      `${layer}.gate_up`,
      2 * innerStride,
      width,
      biases.mlp,
      names.gate === undefined
        ? [{
          module: names.up,
          outputs: 2 * inner,
          place: (out) => out < inner ? out : innerStride + out - inner,
        }]
        : [
          { module: names.gate, outputs: inner, place: SAME },
          { module: names.up, outputs: inner, place: (out) => innerStride + out },
        ],
    );
  }
  modules(`${layer}.down`, width, inner, biases.mlp, [{ module: names.down, outputs: width }]);
  norm(`${layer}.attn_norm`, names.attnNorm);
  norm(`${layer}.mlp_norm`, names.mlpNorm);
  if (names.postAttnNorm) norm(`${layer}.post_attn_norm`, names.postAttnNorm);
  if (names.postMlpNorm) norm(`${layer}.post_mlp_norm`, names.postMlpNorm);
  if (names.qNorm) norm(`${layer}.q_norm`, names.qNorm, headDim);
  if (names.kNorm) norm(`${layer}.k_norm`, names.kNorm, headDim);
}

/** Where output `out` of one module for q, k and v lies: q, k, v in turn, or in GPT-NeoX (q, k, v) of one head in turn. */
function fusedPlace({ family, heads, headDim }: ModelConfig): (out: number) => number {
  const stride = padded(headDim);
  return (out) => {
    const group = Math.floor(out / headDim);
    const head = family === "gpt_neox" ? group % 3 * heads + Math.floor(group / 3) : group;
    return head * stride + out % headDim;
  };
}

/** Gives each slot its place, in the order given: matrices first, then vectors. */
export function place(unplaced: Unplaced[]): Layout {
  const slots = new Map<string, Slot>();
  let count = 0, decayEnd = 0, parameters = 0;
  for (const slot of unplaced) {
    slots.set(slot.label, { ...slot, offset: count });
    count += Math.ceil(slotFloats(slot) / ALIGN) * ALIGN;
    if (slot.shape.length === 2) decayEnd = count;
    for (const part of slot.parts) parameters += part.shape.reduce((a, b) => a * b);
  }
  return { slots, count, decayEnd, parameters };
}

/** Floats of a slot, padding included. */
export function slotFloats({ shape }: Unplaced): number {
  return shape.length === 2 ? shape[0] * rowStride(shape[1]) : padded(shape[0]);
}

/** Calls `copy(logical, physical, length)` for each contiguous run of a part: offsets in the part and in the arena. */
export function forEachRun(
  slot: Slot,
  part: Part,
  copy: (logical: number, physical: number, length: number) => void,
): void {
  const at = part.place ?? SAME;
  if (part.shape.length === 1) {
    const [count] = part.shape;
    if (!part.place) return copy(0, slot.offset, count);
    for (let out = 0; out < count; out++) copy(out, slot.offset + at(out), 1);
    return;
  }
  const { outputs, inputs } = sizesOf(part);
  const ld = rowStride(slot.shape[1]);
  const across = part.columnGroups ?? { size: inputs, stride: inputs };
  for (let out = 0; out < outputs; out++) {
    const row = slot.offset + at(out) * ld;
    for (let c = 0; c < inputs; c += across.size) {
      const to = row + c / across.size * across.stride;
      if (!part.transposed) copy(out * inputs + c, to, across.size);
      else for (let i = 0; i < across.size; i++) copy((c + i) * outputs + out, to + i, 1);
    }
  }
}

/** Outputs and inputs of a matrix. */
export function sizesOf({ shape: [rows, cols], transposed }: Part): { outputs: number; inputs: number } {
  return transposed ? { outputs: cols, inputs: rows } : { outputs: rows, inputs: cols };
}

/** The rows of a slot that a part takes, from its first to its last, completed to a multiple of four. */
export function rowsOf(slot: Slot, part: Part): { first: number; rows: number } {
  const { outputs } = sizesOf(part);
  if (!part.place) return { first: 0, rows: slot.shape[0] };
  let first = Infinity, last = 0;
  for (let out = 0; out < outputs; out++) {
    first = Math.min(first, part.place(out));
    last = Math.max(last, part.place(out));
  }
  return { first, rows: Math.min(padded(last + 1 - first), slot.shape[0] - first) };
}
