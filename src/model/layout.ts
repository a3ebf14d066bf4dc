/**
 * Where each weight lies in the parameter arena.
 *
 * Parameters, gradients and optimiser moments are buffers of this one layout. A slot is a matrix as the kernels want it:
 * rows padded to multiples of four floats, q, k, v in one matrix and gate, up in another, heads padded to multiples of four.
 * A part is a weight under its Hugging Face name and shape, and knows where its rows and columns lie in the slot. Padding is
 * zero and stays zero, so results do not depend on it.
 *
 * @module
 */
import { padded, rowStride } from "../../kernels/kernel.ts";
import type { ModelConfig } from "./config.ts";

/** A weight by its Hugging Face name, inside a slot. */
export interface Part {
  /** Hugging Face name. */
  name: string;
  /** As in the file: [out, in], or [n]. */
  shape: number[];
  /** First row in the slot. */
  row: number;
  /** Rows come in groups (heads) of `size`, `stride` apart; likewise columns. */
  rowGroups?: { size: number; stride: number };
  /** Likewise for columns. */
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

/** The arena's layout. Slots that weight decay leaves alone (norms) come last, from float `decayEnd` on. */
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

/** Lays out the weights of a decoder; `head` adds a reward or value head of one output. */
export function layoutOf(config: ModelConfig): Layout {
  const { hiddenSize: width, heads, kvHeads, headDim, intermediateSize: inner, vocabSize } = config;
  const stride = padded(headDim), innerStride = padded(inner);
  const perHead = { size: headDim, stride };
  const matrices: Omit<Slot, "offset">[] = [{
    label: "embed",
    shape: [vocabSize, width],
    parts: [{ name: "model.embed_tokens.weight", shape: [vocabSize, width], row: 0 }],
  }];
  const vectors: Omit<Slot, "offset">[] = [];
  const vector = (label: string, name: string) =>
    vectors.push({ label, shape: [width], parts: [{ name, shape: [width], row: 0 }] });

  for (let layer = 0; layer < config.layers; layer++) {
    const name = (rest: string) => `model.layers.${layer}.${rest}.weight`;
    const projection = (rest: string, count: number, row: number): Part => ({
      name: name(`self_attn.${rest}`),
      shape: [count * headDim, width],
      row,
      rowGroups: perHead,
    });
    matrices.push(
      {
        label: `${layer}.qkv`,
        shape: [(heads + 2 * kvHeads) * stride, width],
        parts: [
          projection("q_proj", heads, 0),
          projection("k_proj", kvHeads, heads * stride),
          projection("v_proj", kvHeads, (heads + kvHeads) * stride),
        ],
      },
      {
        label: `${layer}.o`,
        shape: [width, heads * stride],
        parts: [{
          name: name("self_attn.o_proj"),
          shape: [width, heads * headDim],
          row: 0,
          columnGroups: perHead,
        }],
      },
      {
        label: `${layer}.gate_up`,
        shape: [2 * innerStride, width],
        parts: [
          { name: name("mlp.gate_proj"), shape: [inner, width], row: 0 },
          { name: name("mlp.up_proj"), shape: [inner, width], row: innerStride },
        ],
      },
      {
        label: `${layer}.down`,
        shape: [width, inner],
        parts: [{ name: name("mlp.down_proj"), shape: [width, inner], row: 0 }],
      },
    );
    vector(`${layer}.attn_norm`, name("input_layernorm"));
    vector(`${layer}.mlp_norm`, name("post_attention_layernorm"));
  }
  vector("norm", "model.norm.weight");
  if (config.architecture === "reward") {
    matrices.push({
      label: "score",
      shape: [1, width],
      parts: [{ name: "score.weight", shape: [1, width], row: 0 }],
    });
  } else if (!config.tied) {
    matrices.push({
      label: "head",
      shape: [vocabSize, width],
      parts: [{ name: "lm_head.weight", shape: [vocabSize, width], row: 0 }],
    });
  }
  return place(matrices, vectors);
}

function place(matrices: Omit<Slot, "offset">[], vectors: Omit<Slot, "offset">[]): Layout {
  const slots = new Map<string, Slot>();
  let count = 0, decayEnd = 0, parameters = 0;
  for (const group of [matrices, vectors]) {
    for (const slot of group) {
      slots.set(slot.label, { ...slot, offset: count });
      const size = slot.shape.length === 2 ? slot.shape[0] * rowStride(slot.shape[1]) : padded(slot.shape[0]);
      count += Math.ceil(size / ALIGN) * ALIGN;
      for (const part of slot.parts) parameters += part.shape.reduce((a, b) => a * b);
    }
    if (group === matrices) decayEnd = count;
  }
  return { slots, count, decayEnd, parameters };
}

/** Calls `copy(logical, physical, length)` for each contiguous run of a part: offsets in the part and in the arena. */
export function forEachRun(
  slot: Slot,
  part: Part,
  copy: (logical: number, physical: number, length: number) => void,
): void {
  const [rows, cols] = part.shape.length === 2 ? part.shape : [1, part.shape[0]];
  const ld = slot.shape.length === 2 ? rowStride(slot.shape[1]) : 0;
  const down = part.rowGroups ?? { size: rows, stride: rows };
  const across = part.columnGroups ?? { size: cols, stride: cols };
  for (let r = 0; r < rows; r++) {
    const row = part.row + Math.floor(r / down.size) * down.stride + r % down.size;
    for (let c = 0; c < cols; c += across.size) {
      copy(r * cols + c, slot.offset + row * ld + c / across.size * across.stride, across.size);
    }
  }
}
