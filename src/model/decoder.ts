/**
 * The decoder: token ids in, final hidden states out. The same function records training, scoring and prefill; a step of
 * decoding with a cache is in `decode_step.ts`.
 *
 * @module
 */
import { upload } from "../gpu/buffers.ts";
import type { Gpu, GpuWindow } from "../gpu/device.ts";
import type { Tape, Tensor } from "../tape/tape.ts";
import { attention, rope, slidingWindow, type View } from "../tape/ops/block.ts";
import type { Head } from "../tape/ops/head.ts";
import { padded } from "../../kernels/kernel.ts";
import type { Adapter } from "./adapter.ts";
import { blockOps, type BlockOptions, weightParts } from "./block.ts";
import type { ModelConfig } from "./config.ts";
import type { Params } from "./params.ts";

/** A model on the GPU. */
export interface Model {
  /** Its shape. */
  config: ModelConfig;
  /** Its weights; those of an adapted model may be other models', too. */
  params: Params;
  /** What is trained beside them in their stead. */
  adapter?: Adapter;
  /** Its rotary tables. */
  rope: RopeTables;
}

/** cos and sin of every position's angles, [maxPositions, rotaryDims/2], computed in float64. */
export interface RopeTables {
  /** [maxPositions, rotaryDims/2]. */
  cos: GpuWindow;
  /** [maxPositions, rotaryDims/2]. */
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
  /** Tokens sorted by position; needed where an embedding of positions is trained. */
  positionOrder?: Tensor;
}

/** Makes the rotary tables of a model. */
export function ropeTables(gpu: Gpu, config: ModelConfig): RopeTables {
  const half = config.rotaryDims / 2;
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
function ropeFrequency(config: ModelConfig, d: number): number {
  const { ropeTheta, rotaryDims, rotarySpan = rotaryDims, ropeScaling } = config;
  const frequency = ropeTheta ** (-2 * d / rotarySpan);
  switch (ropeScaling?.type) {
    case undefined:
    case "dynamic":
      return frequency;
    case "linear":
      return frequency / ropeScaling.factor;
    case "llama3": {
      const { factor, lowFreqFactor, highFreqFactor, originalMaxPositions } = ropeScaling;
      const turns = originalMaxPositions * frequency / (2 * Math.PI); // over the original context
      const kept = Math.min(1, Math.max(0, (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor)));
      return frequency * (kept + (1 - kept) / factor);
    }
  }
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
    positionOrder: input("positionOrder"),
  };
}

/** Options of {@linkcode decoder}. */
export interface DecoderOptions extends BlockOptions {
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
  const { config } = model;
  const ops = blockOps(tape, model, options);
  const tables = ropeTensors(tape, model);
  const full: View = { starts: batch.starts, ends: batch.ends };
  const narrow = config.window && slidingWindow(tape, full, config.window.size);
  const scores = { scale: config.scoreScale, softCap: config.scoreCap };

  let x = ops.embed(batch); // [tokens, width]
  for (let layer = 0; layer < config.layers; layer++) {
    options.onHidden?.(layer, x);
    const input = x;
    const attend = (projected: Tensor): Tensor => {
      const qkv = tables ? rope(tape, projected, batch.positions, tables, config) : projected;
      options.onKeys?.(layer, qkv);
      return attention(tape, qkv, config.window?.sliding[layer] ? narrow! : full, config, scores);
    };
    const block = () => ops.block(layer, input, attend);
    x = options.checkpointing ? tape.checkpoint(`layer ${layer}`, block) : block();
  }
  options.onHidden?.(config.layers, x);
  return ops.norm(x, "norm");
}

/** The rotary tables on a tape, [maxPositions · rotaryDims/2] each; none where positions are learned. */
export function ropeTensors(
  tape: Tape,
  { config, rope }: Model,
): { cos: Tensor; sin: Tensor } | undefined {
  if (config.rotaryDims === 0) return undefined;
  const table = (label: "cos" | "sin") =>
    tape.external(label, [config.maxPositions * config.rotaryDims / 2], rope[label]);
  return { cos: table("cos"), sin: table("sin") };
}

/** The output head: its own matrix, or the embedding's where they are tied. */
export function headOf(tape: Tape, model: Model, frozen = false): Head {
  const { tied, logitCap } = model.config;
  return { parts: weightParts(tape, model, tied ? "embed" : "head", frozen), softCap: logitCap };
}

/** Columns of the fused projection. */
export function qkvColumns(config: ModelConfig): number {
  return (config.heads + 2 * config.kvHeads) * padded(config.headDim);
}
