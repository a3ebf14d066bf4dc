/**
 * The decoder: token ids in, final hidden states out. The same function records training, scoring and prefill; a step of
 * decoding with a cache is in `decode_step.ts`.
 *
 * @module
 */
import { upload } from "../gpu/buffers.ts";
import type { Gpu, GpuWindow } from "../gpu/device.ts";
import type { Tape, Tensor } from "../tape/tape.ts";
import { activation, attention, embedding, norm, rope } from "../tape/ops/block.ts";
import { linear } from "../tape/ops/linear.ts";
import { padded } from "../../kernels/kernel.ts";
import type { ModelConfig } from "./config.ts";
import { type Params, slotTensor } from "./params.ts";

/** A model on the GPU. */
export interface Model {
  /** Its shape. */
  config: ModelConfig;
  /** Its weights. */
  params: Params;
  /** Its rotary tables. */
  rope: RopeTables;
}

/** cos and sin of every position's angles, [maxPositions, headDim/2], computed in float64. */
export interface RopeTables {
  /** [maxPositions, headDim/2]. */
  cos: GpuWindow;
  /** [maxPositions, headDim/2]. */
  sin: GpuWindow;
}

/** Tensors of a packed batch, each [tokens]. */
export interface BatchTensors {
  ids: Tensor;
  /** Position inside the document. */
  positions: Tensor;
  /** First token that this one may see. */
  starts: Tensor;
  /** One past the last token that may see this one. */
  ends: Tensor;
  /** Tokens sorted by id; needed where the embedding is trained. */
  order?: Tensor;
}

/** Makes the rotary tables of a model. */
export function ropeTables(gpu: Gpu, config: ModelConfig): RopeTables {
  const half = config.headDim / 2;
  const frequencies = Float64Array.from({ length: half }, (_, d) => ropeFrequency(config, d));
  const cos = new Float32Array(config.maxPositions * half),
    sin = new Float32Array(config.maxPositions * half);
  for (let position = 0; position < config.maxPositions; position++) {
    for (let d = 0; d < half; d++) {
      const angle = position * frequencies[d];
      cos[position * half + d] = Math.cos(angle);
      sin[position * half + d] = Math.sin(angle);
    }
  }
  return { cos: upload(gpu, cos, "rope cos"), sin: upload(gpu, sin, "rope sin") };
}

/** Angle per position of pair `d`, in radians; with Llama 3's scaling, long wavelengths are stretched by its factor. */
function ropeFrequency({ ropeTheta, headDim, ropeScaling }: ModelConfig, d: number): number {
  const frequency = ropeTheta ** (-2 * d / headDim);
  if (!ropeScaling) return frequency;
  const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = ropeScaling;
  const turns = originalMaxPositions * frequency / (2 * Math.PI); // over the original context
  const kept = Math.min(1, Math.max(0, (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor)));
  return frequency * (kept + (1 - kept) / factor);
}

/** The inputs of a packed batch of `tokens` tokens. */
export function batchInputs(tape: Tape, tokens: number): Required<BatchTensors> {
  const input = (name: string) => tape.input(name, [tokens], "u32");
  return {
    ids: input("ids"),
    positions: input("positions"),
    starts: input("starts"),
    ends: input("ends"),
    order: input("order"),
  };
}

/** Options of {@linkcode decoder}. */
export interface DecoderOptions {
  /** Records no gradients for this model's weights. */
  frozen?: boolean;
  /** Computes each block's activations again in the backward pass instead of keeping them. */
  checkpointing?: boolean;
  /** Receives the residual stream before each layer and after the last. */
  onHidden?: (layer: number, hidden: Tensor) => void;
  /** Receives the rotated queries, keys and values of each layer, for filling a cache. */
  onKeys?: (layer: number, qkv: Tensor) => void;
}

/** Final hidden states [tokens, hiddenSize], after the last norm. */
export function decoder(
  tape: Tape,
  model: Model,
  batch: BatchTensors,
  options: DecoderOptions = {},
): Tensor {
  const { config, params } = model;
  const weight = (label: string) => slotTensor(tape, params, label, options.frozen);
  const tables = ropeTensors(tape, model);
  const normed = (x: Tensor, label: string) => norm(tape, x, weight(label), { eps: config.normEps });

  let x = embedding(tape, weight("embed"), batch.ids, batch.order); // [tokens, width]
  for (let layer = 0; layer < config.layers; layer++) {
    options.onHidden?.(layer, x);
    const input = x;
    const block = (): Tensor => {
      const projected = linear(tape, normed(input, `${layer}.attn_norm`), weight(`${layer}.qkv`), {
        label: "qkv",
      });
      const qkv = rope(tape, projected, batch.positions, tables, config); // [tokens, (heads + 2·kv)·stride]
      options.onKeys?.(layer, qkv);
      const attended = attention(tape, qkv, batch.starts, batch.ends, config); // [tokens, heads·stride]
      const middle = linear(tape, attended, weight(`${layer}.o`), { residual: input, label: "attn out" });
      const both = linear(tape, normed(middle, `${layer}.mlp_norm`), weight(`${layer}.gate_up`), {
        label: "gate up",
      });
      const inner = activation(tape, "swiglu", both, config.intermediateSize); // [tokens, inner]
      return linear(tape, inner, weight(`${layer}.down`), { residual: middle, label: "mlp out" });
    };
    x = options.checkpointing ? tape.checkpoint(`layer ${layer}`, block) : block();
  }
  options.onHidden?.(config.layers, x);
  return normed(x, "norm");
}

/** The rotary tables on a tape, [maxPositions · headDim/2] each. */
export function ropeTensors(tape: Tape, { config, rope }: Model): { cos: Tensor; sin: Tensor } {
  const table = (label: "cos" | "sin") =>
    tape.external(label, [config.maxPositions * config.headDim / 2], rope[label]);
  return { cos: table("cos"), sin: table("sin") };
}

/** The output head: its own matrix, or the embedding's where they are tied. */
export function headTensor(tape: Tape, model: Model, frozen = false): Tensor {
  return slotTensor(tape, model.params, model.config.tied ? "embed" : "head", frozen);
}

/** Columns of the fused projection. */
export function qkvColumns(config: ModelConfig): number {
  return (config.heads + 2 * config.kvHeads) * padded(config.headDim);
}
