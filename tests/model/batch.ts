/** A batch of the goldens through a model, forward and back, with results as the goldens hold them. */
import { rowStride } from "../../kernels/kernel.ts";
import { packBatch } from "../../src/data/batches.ts";
import { readFloats } from "../../src/gpu/buffers.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { batchInputs, decoder, headOf, type Model } from "../../src/model/decoder.ts";
import { type HostWeights, makeTrainable, unpackWeights } from "../../src/model/params.ts";
import { nllLoss } from "../../src/rl/losses.ts";
import { logits } from "../../src/tape/ops/head.ts";
import { logProb } from "../../src/tape/ops/log_prob.ts";
import { compile } from "../../src/tape/plan.ts";
import { Tape, type Tensor } from "../../src/tape/tape.ts";
import { packedInputs } from "../../src/train/rollout.ts";
import { type Golden, unpad } from "./golden.ts";

/** A padded batch [rows, time] with labels as transformers takes them. */
export interface PaddedBatch {
  ids: Int32Array;
  mask: Int32Array;
  labels: Int32Array;
  shape: number[];
}

/** The batch of a golden. */
export function batchOf(g: Golden): PaddedBatch {
  const integers = (name: string) => g.integers(name);
  const labels = g.has("labels") ? integers("labels") : new Int32Array(0);
  return {
    ids: integers("input_ids"),
    mask: integers("attention_mask"),
    labels,
    shape: g.shape("input_ids"),
  };
}

/** The same model with gradients: of its adapter's weights where it has one, else of all. */
export function trainable(gpu: Gpu, model: Model): Model {
  const { adapter } = model;
  if (!adapter) return { ...model, params: makeTrainable(gpu, model.params) };
  return { ...model, adapter: { ...adapter, params: makeTrainable(gpu, adapter.params) } };
}

/** Results by the names of the goldens: zero under padding, and where nothing is scored. */
export interface BatchResults {
  outputs: Record<string, Float32Array>;
  /** By the parameters' names; none where the model is frozen. */
  gradients: HostWeights;
}

/** Runs a batch: logits, loss, log-probabilities, entropies, hidden states, and for a trainable model gradients of the loss. */
export async function runBatch(gpu: Gpu, model: Model, batch: PaddedBatch): Promise<BatchResults> {
  const { labels, shape: [rows, time] } = batch;
  const { documents, places } = unpad(batch.ids, batch.mask, batch.shape);
  const packed = packBatch(documents);
  const weights = new Float32Array(packed.tokens);
  const scored = labels.filter((label, i) => label !== -100 && i % time > 0).length;
  documents.forEach((document, b) => {
    for (let t = 1; t < document.length; t++) {
      if (labels[places[b][t]] !== -100) weights[packed.first[b] + t - 1] = 1 / scored;
    }
  });
  const trained = model.adapter?.params ?? model.params, frozen = !trained.training;

  const tape = new Tape(gpu.profile);
  const tensors: Record<string, Tensor> = {};
  const inputs = batchInputs(tape, packed.tokens);
  const targets = tape.input("targets", [packed.tokens], "u32");
  const hidden = decoder(tape, model, inputs, { frozen, onHidden: (k, x) => tensors[`hidden.${k}`] = x });
  tensors["hidden.norm"] = hidden;
  const head = headOf(tape, model, frozen);
  tensors.logits = logits(tape, hidden, headOf(tape, model, true)).logits;
  const { logprob, entropy } = logProb(tape, hidden, head, targets);
  tensors.logprobs_t1 = logprob;
  tensors.entropy = entropy;
  tensors["logprobs_t0.7"] = logProb(tape, hidden, head, targets, 0.7).logprob;
  const loss = nllLoss(tape, logprob, tape.input("weights", [packed.tokens]));
  tensors.loss = loss;
  for (const [name, tensor] of Object.entries(tensors)) tape.output(name, tensor);
  if (!frozen) tape.backward(loss, tape.input("one", [1]));
  const out = await compile({ gpu }, tape).run({
    ...packedInputs(packed),
    weights,
    ...(!frozen && { one: new Float32Array([1]) }),
  });

  const outputs: Record<string, Float32Array> = {};
  for (const [name, values] of Object.entries(out)) {
    const { shape } = tensors[name];
    if (name === "loss") outputs.loss = values.slice(0, 1);
    else {
      const ofLabel = name.startsWith("logprobs"), columns = time - (ofLabel ? 1 : 0);
      const width = shape[1] ?? 1, ld = shape.length === 1 ? 1 : rowStride(width);
      const result = outputs[name] = new Float32Array(rows * columns * width);
      documents.forEach((document, b) => {
        for (let t = 0; t + (ofLabel ? 1 : 0) < document.length; t++) {
          if (ofLabel && labels[places[b][t + 1]] === -100) continue;
          const from = (packed.first[b] + t) * ld;
          result.set(
            values.subarray(from, from + width),
            (b * columns + places[b][t] % time) * width,
          );
        }
      });
    }
  }
  if (frozen) return { outputs, gradients: {} };
  const arena = await readFloats(gpu, trained.training!.gradients);
  return { outputs, gradients: unpackWeights(trained.layout, arena) };
}

/** The largest difference of two arrays of one length. */
export function largestDifference(got: ArrayLike<number>, want: ArrayLike<number>): number {
  if (got.length !== want.length) throw new Error(`${got.length} numbers, not ${want.length}.`);
  let worst = 0;
  for (let i = 0; i < want.length; i++) {
    // NaN is the largest difference of all.
    const difference = Math.abs(got[i] - want[i]);
    if (!(difference <= worst)) worst = Number.isNaN(difference) ? Infinity : difference;
  }
  return worst;
}

/** Fails where two arrays differ in a bit, with the first place. */
export function assertSameBits(got: Float32Array, want: Float32Array, what: string): void {
  const words = (x: Float32Array) => new Uint32Array(x.buffer, x.byteOffset, x.length);
  const a = words(got), b = words(want), at = a.findIndex((word, i) => word !== b[i]);
  if (at >= 0 || a.length !== b.length) {
    throw new Error(`${what}: number ${at} is ${got[at]}, not ${want[at]}`);
  }
}

/** How far results are off, as a share of what the golden allows. */
export class Shares {
  #all = new Map<string, number>();

  constructor(readonly title: string) {}

  /** Compares one tensor. */
  add(name: string, got: ArrayLike<number>, want: ArrayLike<number>, atol: number): void {
    const difference = largestDifference(got, want);
    this.#all.set(name, difference === 0 ? 0 : difference / atol);
  }

  /** Prints the worst, and fails for everything beyond its tolerance. */
  check(fewest: number): void {
    const all = [...this.#all];
    if (all.length < fewest) {
      throw new Error(`${this.title}: only ${all.length} of ${fewest} tensors were compared.`);
    }
    const [name, worst] = all.reduce((a, b) => b[1] > a[1] ? b : a);
    console.log(`${this.title}: ${all.length} tensors, worst ${worst.toFixed(3)} of atol (${name})`);
    const beyond = all.filter(([, share]) => !(share <= 1));
    if (beyond.length === 0) return;
    const list = beyond.slice(0, 8).map(([name, share]) => `${name} ${share.toFixed(1)}`).join(", ");
    throw new Error(
      `${this.title}: ${beyond.length} tensors are off, by these multiples of their atol: ${list}`,
    );
  }
}
