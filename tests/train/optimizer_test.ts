/** The optimiser against PyTorch's 25-step trajectories (`tests/goldens/adamw`). */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { packBatch } from "../../src/data/batches.ts";
import { readFloats, upload, write } from "../../src/gpu/buffers.ts";
import { openGpu } from "../../src/gpu/device.ts";
import { batchInputs, decoder, headOf } from "../../src/model/decoder.ts";
import { loadModel } from "../../src/model/load.ts";
import type { Layout } from "../../src/model/layout.ts";
import { makeTrainable, readParams } from "../../src/model/params.ts";
import { readSafetensors } from "../../src/model/safetensors.ts";
import { nllLoss } from "../../src/rl/losses.ts";
import { logProb } from "../../src/tape/ops/log_prob.ts";
import { compile } from "../../src/tape/plan.ts";
import { Tape } from "../../src/tape/tape.ts";
import { type AdamwSettings, openOptimizer } from "../../src/train/optimizer.ts";
import { packedInputs } from "../../src/train/rollout.ts";
import { golden } from "../assets.ts";
import { openGolden, unpad } from "../model/golden.ts";

interface FinalWeight {
  sum: number;
  abs_sum: number;
  first8: number[];
  noise_max: number;
}

interface Trajectory {
  lr: number[];
  loss: number[];
  grad_norm: number[];
  noise_max: { loss: number; grad_norm: number };
  final_weights: Record<string, FinalWeight>;
}

const goldens = JSON.parse(readFileSync(golden("adamw/adamw.json"), "utf8"));
const [beta1, beta2] = goldens.optimizer.betas as [number, number];

/** The settings of a step; PyTorch has put the schedule into the learning rate. */
const settings = (learningRate: number): AdamwSettings => ({
  learningRate,
  adamBeta1: beta1,
  adamBeta2: beta2,
  adamEpsilon: goldens.optimizer.eps,
  weightDecay: goldens.optimizer.weight_decay,
  maxGradNorm: goldens.max_grad_norm,
});

/** The tolerance that the goldens' README sets. */
function close(what: string, got: number, want: number, noise: number): void {
  const allowed = Math.max(16 * noise, 1e-5);
  assert.ok(Math.abs(got - want) <= allowed, `${what} is ${got}, not ${want} ± ${allowed}`);
}

function checkWeights(weights: Record<string, Float32Array>, want: Trajectory["final_weights"]): void {
  assert.deepEqual(Object.keys(weights).sort(), Object.keys(want).sort());
  for (const [name, { sum, abs_sum, first8, noise_max }] of Object.entries(want)) {
    const values = weights[name];
    first8.forEach((x, i) => close(`${name}[${i}]`, values[i], x, noise_max));
    assert.ok(Math.abs(values.reduce((a, b) => a + b, 0) - sum) <= 1e-5 * abs_sum, `sum of ${name}`);
    const abs = values.reduce((a, b) => a + Math.abs(b), 0);
    assert.ok(Math.abs(abs - abs_sum) <= 1e-5 * abs_sum, `sum of absolute values of ${name}`);
  }
}

for (const profile of ["cpu", "gpu"] as const) {
  Deno.test(`least squares follows PyTorch's AdamW on the ${profile} profile`, async () => {
    const gpu = await openGpu({ profile });
    const want = goldens.least_squares as Trajectory & { n: number; d_in: number; d_out: number };
    const { n, d_in: inner, d_out: out } = want;
    const file = readSafetensors(golden("adamw/least_squares.safetensors"));
    const x = file.read("ls.X"), y = file.read("ls.Y");
    const size = out * inner, decayEnd = Math.ceil(size / 4) * 4, count = decayEnd + 64;
    const start = new Float32Array(count);
    start.set(file.read("ls.W0"));
    start.set(file.read("ls.b0"), decayEnd);
    const layout: Layout = { slots: new Map(), count, decayEnd, parameters: size + out };
    const params = makeTrainable(gpu, { layout, values: upload(gpu, start), maxBinding: gpu.maxBinding });
    const optimizer = openOptimizer(gpu, params);

    for (let i = 0; i < goldens.steps; i++) {
      const p = await readFloats(gpu, params.values);
      const gradient = new Float64Array(count);
      let loss = 0;
      for (let r = 0; r < n; r++) {
        for (let o = 0; o < out; o++) {
          let error = p[decayEnd + o] - y[r * out + o];
          for (let c = 0; c < inner; c++) error += x[r * inner + c] * p[o * inner + c];
          loss += error ** 2 / (n * out);
          const slope = 2 * error / (n * out);
          gradient[decayEnd + o] += slope;
          for (let c = 0; c < inner; c++) gradient[o * inner + c] += slope * x[r * inner + c];
        }
      }
      write(gpu, params.training.gradients, Float32Array.from(gradient));
      const { gradNorm, skipped } = await optimizer.step(settings(want.lr[i]));
      assert.equal(skipped, false);
      close(`loss ${i}`, loss, want.loss[i], want.noise_max.loss);
      close(`gradient norm ${i}`, gradNorm, want.grad_norm[i], want.noise_max.grad_norm);
    }
    const p = await readFloats(gpu, params.values);
    checkWeights({ W: p.subarray(0, size), b: p.subarray(decayEnd, decayEnd + out) }, want.final_weights);
    assert.equal(optimizer.steps, goldens.steps);
    gpu.close();
  });

  for (const name of ["tiny_llama_decay_all", "tiny_llama_decay_2d_only"] as const) {
    Deno.test(`${name} follows PyTorch through the whole model on the ${profile} profile`, async () => {
      const gpu = await openGpu({ profile });
      const want = goldens[name] as Trajectory;
      const directory = golden("models/tiny-llama"), g = openGolden(directory);
      const loaded = loadModel(gpu, directory);
      const params = makeTrainable(gpu, loaded.params);
      if (name === "tiny_llama_decay_all") {
        params.layout = { ...params.layout, decayEnd: params.layout.count };
      }
      const model = { ...loaded, params };

      const shape = g.shape("input_ids"), labels = g.integers("labels");
      const { documents, places } = unpad(g.integers("input_ids"), g.integers("attention_mask"), shape);
      const packed = packBatch(documents);
      const weights = new Float32Array(packed.tokens);
      const scored = labels.filter((label, i) => label !== -100 && i % shape[1] > 0).length;
      documents.forEach((document, b) => {
        for (let t = 1; t < document.length; t++) {
          if (labels[places[b][t]] !== -100) weights[packed.first[b] + t - 1] = 1 / scored;
        }
      });
      const tape = new Tape(gpu.profile);
      const hidden = decoder(tape, model, batchInputs(tape, packed.tokens));
      const targets = tape.input("targets", [packed.tokens], "u32");
      const { logprob } = logProb(tape, hidden, headOf(tape, model), targets);
      const loss = nllLoss(tape, logprob, tape.input("weights", [packed.tokens]));
      tape.output("loss", loss);
      tape.backward(loss, tape.input("one", [1]));
      const plan = compile({ gpu }, tape);
      const inputs = { ...packedInputs(packed), weights, one: new Float32Array([1]) };

      const optimizer = openOptimizer(gpu, params);
      for (let i = 0; i < goldens.steps; i++) {
        const out = await plan.run(inputs);
        const { gradNorm } = await optimizer.step(settings(want.lr[i]));
        close(`loss ${i}`, out.loss[0], want.loss[i], want.noise_max.loss);
        close(`gradient norm ${i}`, gradNorm, want.grad_norm[i], want.noise_max.grad_norm);
      }
      const final = Object.entries(await readParams(gpu, params)).map(([key, { data }]) => [key, data]);
      checkWeights(Object.fromEntries(final), want.final_weights);
      gpu.close();
    });
  }
}

Deno.test("a step with a gradient that is not finite is skipped and counted as none", async () => {
  const gpu = await openGpu();
  const values = Float32Array.from({ length: 64 }, (_, i) => i);
  const layout: Layout = { slots: new Map(), count: 64, decayEnd: 64, parameters: 64 };
  const params = makeTrainable(gpu, { layout, values: upload(gpu, values), maxBinding: gpu.maxBinding });
  const optimizer = openOptimizer(gpu, params);
  for (const bad of [NaN, Infinity, 1e30]) {
    write(gpu, params.training.gradients, values.map((x) => x === 40 ? bad : x));
    assert.equal((await optimizer.step(settings(0.1))).skipped, true, `${bad}`);
    assert.deepEqual(await readFloats(gpu, params.values), values);
    assert.ok((await readFloats(gpu, params.training.gradients)).every((x) => x === 0));
  }
  assert.equal(optimizer.steps, 0);
  write(gpu, params.training.gradients, values);
  assert.equal((await optimizer.step(settings(0.1))).skipped, false);
  assert.equal(optimizer.steps, 1);
  gpu.close();
});

Deno.test("frozen weights have no optimiser", async () => {
  const gpu = await openGpu();
  const layout: Layout = { slots: new Map(), count: 64, decayEnd: 64, parameters: 64 };
  assert.throws(
    () =>
      openOptimizer(gpu, { layout, values: upload(gpu, new Float32Array(64)), maxBinding: gpu.maxBinding }),
    /weights are frozen/,
  );
  gpu.close();
});
