/** What each of PPO's options does to a run. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { readSafetensors } from "../../src/model/safetensors.ts";
import { initialScore } from "../../src/model/init.ts";
import { loadHeaded } from "../../src/model/headed.ts";
import { saveModel } from "../../src/model/load.ts";
import { openGpu } from "../../src/gpu/device.ts";
import type { PpoOptions } from "../../src/train/options/ppo.ts";
import { flags, keel, writeLines } from "../cli/keel.ts";
import { withDirectory } from "../assets.ts";
import { type SmallResult, smallRun, type SmallSettings } from "./small.ts";

/** Runs PPO small, which must not fail. */
async function ppo(options: Partial<PpoOptions>, settings: SmallSettings = {}): Promise<SmallResult> {
  let result: SmallResult | undefined;
  await withDirectory(async (directory) => {
    result = await smallRun(directory, { method: "ppo", options }, settings);
    assert.equal(result.error, undefined);
  });
  return result!;
}

const column = ({ events }: SmallResult, name: string) => events.map(({ metrics }) => metrics[name]);

/** Rewards of the kept samples, by step; a batch of eight is kept whole. */
function kept({ samples }: SmallResult, name: string): number[][] {
  const steps: number[][] = [];
  for (const { step, rewards } of samples) {
    (steps[step - 1] ??= []).push((rewards as Record<string, number>)[name]);
  }
  return steps;
}

const close = (got: number, want: number, tolerance: number, what: string) =>
  assert.ok(Math.abs(got - want) <= tolerance, `${what} is ${got}, not ${want}`);

Deno.test("before anything is learnt every ratio is exactly 1 and drawn log-probabilities are those of scoring", async () => {
  const result = await ppo({ learningRate: 0, valueLearningRate: 0, numMiniBatches: 4 });
  for (const { metrics } of result.events) {
    assert.equal(metrics["val/ratio"], 1);
    assert.equal(metrics["val/ratio_var"], 0);
    assert.equal(metrics["policy/approxkl_avg"], 0);
    assert.equal(metrics["policy/clipfrac_avg"], 0);
    assert.ok(metrics["sampling/logp_difference"] < 1e-6, `${metrics["sampling/logp_difference"]}`);
    for (const name of ["kl", "kl_k1", "kl_k2", "kl_k3", "kl_exact"]) {
      close(metrics[`objective/${name}`], 0, 1e-5, name);
    }
    const ended = metrics["val/num_eos_tokens"];
    assert.ok(ended > 0 && ended < 8, `the batch is not ragged: ${ended} of 8 ended`);
  }
});

Deno.test("the first mini-batch of a step that learns has ratio 1, later ones have not", async () => {
  const first = await ppo({ maxSteps: 1, numPpoEpochs: 1, numMiniBatches: 1 });
  assert.equal(first.events[0].metrics["val/ratio"], 1);
  const second = await ppo({ maxSteps: 1, numPpoEpochs: 2, numMiniBatches: 1 });
  assert.notEqual(second.events[0].metrics["val/ratio"], 1);
  assert.ok(second.events[0].metrics["policy/approxkl_avg"] > 0);
});

Deno.test("all estimators are logged side by side, and each can be the one in the reward", async () => {
  const learning = { maxSteps: 3, learningRate: 3e-3, klCoef: 0.3 };
  const finals = new Set<string>();
  for (const klEstimator of ["k1", "k2", "k3", "exact"] as const) {
    const result = await ppo({ ...learning, klEstimator });
    const { metrics } = result.events[2];
    for (const name of ["k1", "k2", "k3", "exact"]) {
      assert.ok(Number.isFinite(metrics[`objective/kl_${name}`]));
    }
    assert.ok(metrics["objective/kl_k2"] > 1e-3 && metrics["objective/kl_exact"] > 1e-3);
    assert.equal(metrics["objective/kl"], metrics[`objective/kl_${klEstimator}`]);
    close(metrics["objective/non_score_reward"], -0.3 * metrics["objective/kl"], 1e-12, "the penalty");
    close(
      metrics["objective/rlhf_reward"],
      metrics["objective/scores"] - 0.3 * metrics["objective/kl"],
      1e-12,
      "the reward",
    );
    finals.add(String(result.files!.model["model.norm.weight"].data));
  }
  assert.equal(finals.size, 4);
});

Deno.test("the entropy bonus is a term of the gradient that grows with its coefficient, and keeps entropy up", async () => {
  const squared = async (entropyCoef: number) => {
    const { events } = await ppo({
      maxSteps: 1,
      numPpoEpochs: 1,
      numMiniBatches: 1,
      maxGradNorm: 0,
      entropyCoef,
    });
    return events[0].metrics.grad_norm ** 2;
  };
  // |g − c h|² is a parabola in c.
  const [n0, n1, n2, n3] = [await squared(0), await squared(1), await squared(2), await squared(3)];
  assert.ok(n1 !== n0 && n3 > n0);
  close(n3, 3 * n2 - 3 * n1 + n0, 1e-3 * n3, "the fourth of four norms");
  const after = async (entropyCoef: number) =>
    column(await ppo({ maxSteps: 4, learningRate: 3e-3, entropyCoef }), "policy/entropy_avg").at(-1)!;
  const without = await after(0), bonus = await after(3);
  assert.ok(bonus > without + 0.05, `${bonus} with it, ${without} without`);
});

Deno.test("the adaptive coefficient moves as its formula says, and is logged", async () => {
  const adaptive = {
    adapKlCtrl: true,
    initKlCoef: 0.4,
    target: 6,
    horizon: 50,
    maxSteps: 5,
    learningRate: 3e-3,
  };
  const result = await ppo(adaptive);
  const kl = column(result, "objective/kl"), coefficient = column(result, "objective/kl_coef");
  assert.equal(coefficient[0], 0.4);
  let limited = 0;
  for (let step = 1; step < 5; step++) {
    const error = kl[step - 1] / 6 - 1, used = Math.min(0.2, Math.max(-0.2, error));
    if (used !== error) limited++;
    close(coefficient[step], coefficient[step - 1] * (1 + used * 8 / 50), 1e-12, `step ${step + 1}`);
  }
  assert.ok(coefficient[1] < coefficient[0], "the first step has no KL, so the coefficient falls");
  assert.ok(limited >= 1 && limited < 4, `the change was limited ${limited} times of 4`);
  assert.deepEqual(
    new Set(column(await ppo({ maxSteps: 2, klCoef: 0.4 }), "objective/kl_coef")),
    new Set([0.4]),
  );
});

Deno.test("targetKl ends an update early", async () => {
  const options = { maxSteps: 1, learningRate: 3e-3, numPpoEpochs: 3, numMiniBatches: 2 };
  const all = await ppo(options);
  assert.deepEqual([column(all, "policy/stopped_early"), all.state!.optimizerSteps], [[0], {
    policy: 6,
    value: 6,
  }]);
  // The first mini-batch has no KL yet, the second has.
  const early = await ppo({ ...options, targetKl: 1e-9 });
  assert.deepEqual([column(early, "policy/stopped_early"), early.state!.optimizerSteps], [[1], {
    policy: 1,
    value: 1,
  }]);
  const never = await ppo({ ...options, targetKl: 1e9 });
  assert.deepEqual(never.hashes, all.hashes);
});

Deno.test("ratioThreshold passes over mini-batches, and their gradients are dropped", async () => {
  const options = { maxSteps: 2, learningRate: 3e-3, numPpoEpochs: 3, numMiniBatches: 2 };
  const all = await ppo(options), picky = await ppo({ ...options, ratioThreshold: 1 + 1e-9 });
  assert.deepEqual(column(all, "policy/rejected_minibatches"), [0, 0]);
  const rejected = column(picky, "policy/rejected_minibatches").reduce((a, b) => a + b);
  assert.ok(rejected > 0 && rejected < 12, `${rejected} of 12 rejected`);
  assert.deepEqual(picky.state!.optimizerSteps, { policy: 12 - rejected, value: 12 - rejected });
  assert.deepEqual((await ppo({ ...options, ratioThreshold: 1e9 })).hashes, all.hashes);
});

Deno.test("advantages whitened within mini-batches have mean 0 in each", async () => {
  // With ratios of 1 the policy loss is minus the mean advantage.
  const still = { learningRate: 0, valueLearningRate: 0, numPpoEpochs: 1, maxSteps: 2 };
  const within = await ppo({ ...still, whitenScope: "mini_batch" });
  for (const loss of column(within, "loss/policy_avg")) close(loss, 0, 1e-6, "the loss");
  const over = await ppo({ ...still, whitenScope: "batch" });
  assert.ok(column(over, "loss/policy_avg").some((loss) => Math.abs(loss) > 1e-4));
  // One mini-batch is the whole batch.
  const one = { learningRate: 1e-3, numMiniBatches: 1, maxSteps: 1 };
  const [a, b] = [
    await ppo({ ...one, whitenScope: "batch" }),
    await ppo({ ...one, whitenScope: "mini_batch" }),
  ];
  for (const [name, { data }] of Object.entries(a.files!.model)) {
    data.forEach((x, i) => close(x, b.files!.model[name].data[i], 1e-4, name));
  }
});

Deno.test("scores are divided by their running deviation, with or without their mean", async () => {
  const still = { learningRate: 0, valueLearningRate: 0, numPpoEpochs: 1, maxSteps: 3 };
  const raw = kept(await ppo(still), "score");
  assert.deepEqual(raw.map((step) => step.length), [8, 8, 8]);
  for (const useScoreNorm of [false, true]) {
    const scaled = kept(await ppo({ ...still, useScoreScaling: true, useScoreNorm }), "score");
    raw.forEach((scores, step) => {
      const seen = raw.slice(0, step + 1).flat(), mean = seen.reduce((a, b) => a + b) / seen.length;
      const std = Math.sqrt(seen.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (seen.length - 1));
      scores.forEach((score, i) =>
        close(scaled[step][i], (score - (useScoreNorm ? mean : 0)) / std, 1e-6, `step ${step + 1} score ${i}`)
      );
    });
  }
});

Deno.test("scores are clipped, and a completion without an end pays for it", async () => {
  const still = { learningRate: 0, valueLearningRate: 0, numPpoEpochs: 1, maxSteps: 1 };
  const raw = kept(await ppo(still), "score")[0], limit = Math.max(...raw.map(Math.abs)) / 2;
  const clipped = kept(await ppo({ ...still, scoreClip: limit }), "score")[0];
  assert.deepEqual(clipped, raw.map((x) => Math.max(-limit, Math.min(limit, x))));
  const result = await ppo({ ...still, missingEosPenalty: 5 }), paid = kept(result, "score")[0];
  const payers = paid.filter((x, i) => x !== raw[i]).length;
  paid.forEach((x, i) => assert.ok(x === raw[i] || x === raw[i] - 5));
  assert.equal(8 - payers, result.events[0].metrics["val/num_eos_tokens"]);
});

Deno.test("the critic starts as the reward model, or as the policy's body with a fresh head", () =>
  withDirectory(async (directory) => {
    const base = new URL("../../src/parrot/base", import.meta.url).pathname;
    const rewardModel = join(directory, "reward"), gpu = await openGpu();
    await saveModel(gpu, loadHeaded(gpu, base, 77), rewardModel, { tokenizerFrom: base });
    gpu.close();
    const dataset = writeLines(
      directory,
      "prompts.jsonl",
      Array.from({ length: 8 }, () => ({ prompt: "<user> 3 5 <bot>" })),
    );
    const start = async (criticInit: string) => {
      const output_dir = join(directory, `${criticInit} run`);
      const { code, err } = await keel(
        "ppo",
        ...flags({
          model: base,
          reward_model: rewardModel,
          dataset,
          output_dir,
          critic_init: criticInit,
          seed: 3,
          max_steps: 1,
          learning_rate: 0,
          value_learning_rate: 0,
          per_device_train_batch_size: 4,
          response_length: 4,
          stop_token: "eos",
        }),
      );
      assert.equal(code, 0, err);
      return readSafetensors(join(output_dir, "checkpoints/step-1/value_model.safetensors"));
    };
    const body = readSafetensors(join(base, "model.safetensors"));
    const scores = readSafetensors(join(rewardModel, "model.safetensors"));
    const copy = await start("reward"), fresh = await start("fresh");
    for (const critic of [copy, fresh]) {
      const name = "model.layers.0.mlp.up_proj.weight";
      assert.deepEqual(critic.read(name), body.read(name));
    }
    assert.deepEqual(copy.read("score.weight"), scores.read("score.weight"));
    const width = fresh.read("score.weight").length;
    assert.deepEqual(fresh.read("score.weight"), initialScore(width, 3).data);
    assert.notDeepEqual(fresh.read("score.weight"), copy.read("score.weight"));
  }));

Deno.test("a batch that mini-batches do not divide is refused", () =>
  withDirectory(async (directory) => {
    const { error } = await smallRun(directory, { method: "ppo", options: { numMiniBatches: 3 } });
    assert.match(error!.message, /A batch of 8 rollouts cannot be split into 3 mini-batches/);
  }));
