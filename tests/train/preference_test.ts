/** The trainers on preferences: where they begin, what they have in common with SFT, and references that are kept or moved. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { PreferenceExample } from "../../src/data/preference.ts";
import { openGpu } from "../../src/gpu/device.ts";
import { loadModel } from "../../src/model/load.ts";
import type { HostWeights } from "../../src/model/params.ts";
import { readSafetensors } from "../../src/model/safetensors.ts";
import { openRun } from "../../src/run/run.ts";
import { checkDpo } from "../../src/train/dpo.ts";
import { checkKto } from "../../src/train/kto.ts";
import { sequenceOf } from "../../src/train/load_preferences.ts";
import { dpoOptions, ktoOptions, sftOptions } from "../../src/train/options/defaults.ts";
import { sequenceScorer } from "../../src/train/policy_pass.ts";
import { sft } from "../../src/train/sft.ts";
import { golden, withDirectory } from "../assets.ts";
import { smallRun } from "./small.ts";
import { type PreferenceMethod, preferences } from "./small_preferences.ts";

const TINY = golden("models/tiny-llama");

/** Runs a method to its end and returns what it logged and its last checkpoint. */
async function outcome(directory: string, run: PreferenceMethod) {
  const { events, files, error } = await smallRun(directory, run);
  assert.equal(error, undefined);
  return { metrics: events.map(({ metrics }) => metrics), files: files! };
}

/** Largest difference between two sets of weights. */
function distance(a: HostWeights, b: HostWeights): number {
  assert.deepEqual(Object.keys(a).sort(), Object.keys(b).sort());
  return Object.entries(a).reduce(
    (most, [name, { data }]) => data.reduce((m, x, i) => Math.max(m, Math.abs(x - b[name].data[i])), most),
    0,
  );
}

/** What SFT makes of texts in as many steps of the same rows. */
async function afterSft(directory: string, examples: { ids: number[]; scored: boolean[] }[]) {
  const gpu = await openGpu();
  const run = openRun(directory, {
    config: { command: "sft", seed: 5, adapter: "", driver: "", options: {} },
  });
  const stage = run.stage("sft"), losses: number[] = [];
  const options = sftOptions({ learningRate: 1e-3, maxSteps: 4, perDeviceTrainBatchSize: 2, seed: 5 });
  for await (
    const { metrics } of sft(stage, { workspace: { gpu }, model: loadModel(gpu, TINY), examples }, options)
  ) {
    losses.push(metrics.loss);
  }
  const weights = stage.newest()!.files.model;
  run.close();
  gpu.close();
  return { losses, weights };
}

for (const options of [{}, { usePeft: true }, { precomputeRefLogProbs: true }]) {
  const name = Object.keys(options)[0] ?? "whole";
  Deno.test(`DPO and KTO begin at their reference to the bit (${name})`, () =>
    withDirectory(async (directory) => {
      const { metrics: [dpo] } = await outcome(join(directory, "dpo"), { method: "dpo", options });
      assert.equal(dpo.loss, Math.LN2);
      for (const key of ["rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies"]) {
        assert.equal(dpo[key], 0, key);
      }
      const more = { ...options, shuffleDataset: false };
      const { metrics: [kto] } = await outcome(join(directory, "kto"), { method: "kto", options: more });
      assert.deepEqual([kto.loss, kto.kl], [0.5, 0]);
    }));
}

Deno.test("a reference that is computed beforehand gives the numbers of one that is kept", () =>
  withDirectory(async (directory) => {
    for (const method of ["dpo", "kto"] as const) {
      const options = { shuffleDataset: false, gradientAccumulationSteps: 2, perDeviceTrainBatchSize: 3 };
      const kept = await outcome(join(directory, `${method} kept`), { method, options });
      for (const precomputeRefBatchSize of [undefined, 2]) {
        const known = await outcome(join(directory, `${method} ${precomputeRefBatchSize}`), {
          method,
          options: { ...options, precomputeRefLogProbs: true, precomputeRefBatchSize },
        });
        assert.deepEqual(known.metrics, kept.metrics);
        assert.equal(distance(known.files.model, kept.files.model), 0);
      }
      assert.ok("eval_rewards/margins" in kept.metrics.at(-1)!);
    }
  }));

Deno.test("a moved reference lies between its place and the policy, and follows it where it takes all of it", () =>
  withDirectory(async (directory) => {
    const start = readSafetensors(join(TINY, "model.safetensors"));
    for (const method of ["dpo", "kto"] as const) {
      const moved = { syncRefModel: true, refModelSyncSteps: 1 };
      const { files } = await outcome(join(directory, `${method} half`), {
        method,
        options: { ...moved, refModelMixupAlpha: 0.25, maxSteps: 1 },
      });
      for (const [name, { data }] of Object.entries(files.reference_model)) {
        const from = start.read(name), policy = files.model[name].data;
        assert.ok(data.every((x, i) => Math.abs(x - (0.75 * from[i] + 0.25 * policy[i])) < 1e-6), name);
        assert.ok(data.some((x, i) => x !== from[i]) || policy.every((x, i) => x === from[i]), name);
      }
      const { metrics } = await outcome(join(directory, `${method} whole`), {
        method,
        options: { ...moved, refModelMixupAlpha: 1 },
      });
      for (const step of metrics) {
        for (const [key, value] of Object.entries(step)) {
          if (key.startsWith("rewards/")) assert.equal(value, 0, `${method} ${key}`);
        }
      }
    }
  }));

Deno.test("the likelihoods in DPO, CPO and ORPO are SFT's", () =>
  withDirectory(async (directory) => {
    const pairs = preferences(7, 9);
    const answers = pairs.map(({ chosen: { ids, promptLength } }) => ({
      ids,
      scored: ids.map((_, t) => t >= Math.max(1, promptLength)),
    }));
    const whole = answers.map(({ ids }) => ({ ids, scored: ids.map((_, t) => t > 0) }));
    const runs: [string, PreferenceMethod, typeof answers, string][] = [
      ["dpo", { method: "dpo", options: { lossType: ["sft"] } }, answers, "loss"],
      // The odds and rewards have no part in the gradient.
      ["orpo", { method: "orpo", options: { beta: 0 } }, whole, "nll_loss"],
      ["cpo", { method: "cpo", options: { beta: 1e-9, cpoAlpha: 1 } }, answers, "nll_loss"],
    ];
    for (const [name, run, examples, key] of runs) {
      const { losses, weights } = await afterSft(join(directory, `${name} sft`), examples);
      const { metrics, files } = await outcome(join(directory, name), run);
      metrics.forEach((step, i) => assert.ok(Math.abs(step[key] - losses[i]) < 1e-5, `${name} ${i}`));
      // Where a gradient is nothing but rounding, Adam makes whole steps of it; there are few such weights.
      const far = Object.entries(weights).flatMap(([tensor, { data }]) =>
        Array.from(data).filter((x, i) => Math.abs(x - files.model[tensor].data[i]) > 1e-5)
      );
      const all = Object.values(weights).reduce((sum, { data }) => sum + data.length, 0);
      assert.ok(far.length < 0.002 * all, `${name}: ${far.length} of ${all} weights differ`);
    }
  }));

Deno.test("WPO weighs pairs with how likely the policy is to give both answers", () =>
  withDirectory(async (directory) => {
    // A batch that is all the rows.
    const options = { useWeighting: true, perDeviceTrainBatchSize: 9, maxSteps: 1 };
    const { metrics: [{ loss }] } = await outcome(directory, { method: "dpo", options });
    const gpu = await openGpu();
    const score = sequenceScorer({ gpu }, loadModel(gpu, TINY), { batchSize: 99, withStatistics: true });
    const weightsOf = async (side: keyof PreferenceExample) => {
      const { logprobs, statistics } = await score(preferences(7, 9).map((pair) => sequenceOf(pair[side])));
      return logprobs.map((row, i) =>
        Math.exp(row.reduce((sum, x, t) => sum + x - statistics!.logSumSquares[i][t], 0) / row.length)
      );
    };
    const chosen = await weightsOf("chosen"), rejected = await weightsOf("rejected");
    const want = chosen.reduce((sum, w, i) => sum + w * rejected[i] * Math.LN2, 0) / 9;
    assert.ok(Math.abs(loss - want) < 1e-6 * want, `${loss} is not ${want}`);
    gpu.close();
  }));

Deno.test("rows and answers whose weights are not numbers are kept for a look, and the run stops", () =>
  withDirectory(async (directory) => {
    const name = "model.layers.0.mlp.up_proj.weight";
    for (const method of ["dpo", "kto", "orpo", "cpo"] as const) {
      const { error } = await smallRun(join(directory, method), { method }, {
        poison: { model: "trained", name, value: NaN },
      });
      assert.match(error?.message ?? "", /not finite for 3 steps in a row\. First: .*The batch is in/);
    }
  }));

Deno.test("options that exclude each other are refused with a way out", () => {
  const whole = {}, adapted = { adapter: {} };
  assert.throws(() => checkDpo(adapted, dpoOptions({ syncRefModel: true })), /adapter is its base/);
  assert.throws(
    () => checkDpo(whole, dpoOptions({ syncRefModel: true, precomputeRefLogProbs: true })),
    /sync_ref_model moves it/,
  );
  assert.throws(() => checkDpo(whole, dpoOptions({ lossType: ["exo_pair"] })), /above 0/);
  checkDpo(adapted, dpoOptions({ precomputeRefLogProbs: true }));
  assert.throws(() => checkKto(whole, ktoOptions({ perDeviceTrainBatchSize: 1 })), /at least 2; got 1/);
  assert.throws(() => checkKto(whole, ktoOptions({ precomputeRefLogProbs: true })), /shuffle_dataset false/);
  checkKto(whole, ktoOptions({ lossType: "apo_zero_unpaired", perDeviceTrainBatchSize: 1 }));
  checkKto(whole, ktoOptions({ precomputeRefLogProbs: true, shuffleDataset: false }));
});
