/**
 * One step of decoding: the decoder of `decoder.ts` for one new token per row, with the keys and values of its earlier tokens
 * in caches. A small model of plain Llama form on a software adapter takes one launch per layer, others one per operation.
 *
 * @module
 */
import type { LayerPlaces } from "../../kernels/decode_layer.ts";
import { logits } from "../tape/ops/head.ts";
import { attendCached, decodeLayers, decodesInOneLaunch, type Newest } from "../tape/ops/inference.ts";
import type { Tape, Tensor } from "../tape/tape.ts";
import { blockOps } from "./block.ts";
import type { ModelConfig } from "./config.ts";
import { headOf, type Model, ropeTensors } from "./decoder.ts";
import { FAMILIES } from "./families.ts";

/** Logits [rows, vocab] of the token that follows each row's newest one. */
export function decodeStep(tape: Tape, model: Model, newest: Newest): Tensor {
  const { layout, values, stored } = model.params;
  const parameters = tape.external("parameters", [layout.count], values);
  const inArena = !model.adapter && !stored?.size;
  if (!inArena || !isPlain(model.config) || !decodesInOneLaunch(tape, layerWeights(model), parameters)) {
    return launchPerOperation(tape, model, newest);
  }
  const {
    heads,
    kvHeads,
    headDim,
    hiddenSize: width,
    intermediateSize: inner,
    vocabSize: vocab,
    normEps: eps,
  } = model.config;
  const shape = {
    heads,
    kvHeads,
    headDim,
    width,
    inner,
    norm: "rms",
    activation: "swiglu",
    vocab,
    eps,
  } as const;
  return decodeLayers(tape, parameters, newest, shape, layerPlaces(model), ropeTensors(tape, model));
}

/** Whether a model has nothing that `kernels/decode_layer.ts` does not compute. */
function isPlain(config: ModelConfig): boolean {
  const { norm, normPlusOne, headNorms } = FAMILIES[config.family];
  const { biases, rotaryDims, headDim, activation } = config;
  return norm === "rms" && !normPlusOne && !headNorms && activation === "swiglu" && rotaryDims === headDim &&
    !config.window && !biases.qkv && !biases.out && !biases.mlp;
}

/** Numbers in the matrices of one layer. */
function layerWeights({ params }: Model): number {
  return ["qkv", "o", "gate_up", "down"]
    .map((label) => params.layout.slots.get(`0.${label}`)!.shape.reduce((a, b) => a * b))
    .reduce((a, b) => a + b);
}

function layerPlaces({ config, params }: Model): LayerPlaces[] {
  const place = (label: string) => params.layout.slots.get(label)!.offset;
  return Array.from({ length: config.layers }, (_, i) => ({
    weights: {
      attnNorm: place(`${i}.attn_norm`),
      qkv: place(`${i}.qkv`),
      out: place(`${i}.o`),
      mlpNorm: place(`${i}.mlp_norm`),
      up: place(`${i}.gate_up`),
      down: place(`${i}.down`),
    },
    ...(i === 0 ? { embedding: { tokens: place("embed") } } : {}),
    ...(i === config.layers - 1
      ? { head: { norm: place("norm"), matrix: place(config.tied ? "embed" : "head") } }
      : {}),
  }));
}

function launchPerOperation(tape: Tape, model: Model, { ids, positions, caches }: Newest): Tensor {
  const { config } = model;
  const ops = blockOps(tape, model, { frozen: true });
  const tables = ropeTensors(tape, model);
  const attending = { scale: config.scoreScale, softCap: config.scoreCap, rotaryDims: config.rotaryDims };
  let x = ops.embed({ ids, positions }); // [rows, width]
  caches.forEach((cache, layer) => {
    const window = config.window?.sliding[layer] ? config.window.size : undefined;
    x = ops.block(
      layer,
      x,
      (qkv) => attendCached(tape, qkv, positions, cache, config, { ...attending, window }, tables),
    );
  });
  return logits(tape, ops.norm(x, "norm"), headOf(tape, model, true)).logits;
}
