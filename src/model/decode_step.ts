/**
 * One step of decoding: the decoder of `decoder.ts` for one new token per row, with the keys and values of its earlier tokens
 * in caches. A small model on a software adapter takes one launch per layer, others one per operation.
 *
 * @module
 */
import type { LayerPlaces } from "../../kernels/decode_layer.ts";
import { activation, embedding, norm } from "../tape/ops/block.ts";
import { attendCached, decodeLayers, decodesInOneLaunch, type Newest } from "../tape/ops/inference.ts";
import { linear } from "../tape/ops/linear.ts";
import type { Tape, Tensor } from "../tape/tape.ts";
import { headTensor, type Model, ropeTensors } from "./decoder.ts";
import { slotTensor } from "./params.ts";

/** Logits [rows, vocab] of the token that follows each row's newest one. */
export function decodeStep(tape: Tape, model: Model, newest: Newest): Tensor {
  const { layout, values } = model.params;
  const parameters = tape.external("parameters", [layout.count], values);
  const layerWeights = ["qkv", "o", "gate_up", "down"]
    .map((label) => layout.slots.get(`0.${label}`)!.shape.reduce((a, b) => a * b))
    .reduce((a, b) => a + b);
  if (!decodesInOneLaunch(tape, layerWeights, parameters)) return launchPerOperation(tape, model, newest);
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
  const { config, params } = model;
  const weight = (label: string) => slotTensor(tape, params, label, true);
  const normed = (x: Tensor, label: string) => norm(tape, x, weight(label), { eps: config.normEps });
  const tables = ropeTensors(tape, model);
  let x = embedding(tape, weight("embed"), ids); // [rows, width]
  caches.forEach((cache, i) => {
    const qkv = linear(tape, normed(x, `${i}.attn_norm`), weight(`${i}.qkv`), { label: "qkv" });
    const attended = attendCached(tape, qkv, positions, cache, config, tables); // [rows, heads·stride]
    const middle = linear(tape, attended, weight(`${i}.o`), { residual: x, label: "attn out" });
    const both = linear(tape, normed(middle, `${i}.mlp_norm`), weight(`${i}.gate_up`), { label: "gate up" });
    const inner = activation(tape, "swiglu", both, config.intermediateSize); // [rows, inner]
    x = linear(tape, inner, weight(`${i}.down`), { residual: middle, label: "mlp out" });
  });
  return linear(tape, normed(x, "norm"), headTensor(tape, model, true), { label: "logits" });
}
