/** GRPO and RLOO on TRL's recorded rollouts give TRL's advantages, log-probabilities, losses, gradients and weights. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { readFloats } from "../../src/gpu/buffers.ts";
import { openGpu } from "../../src/gpu/device.ts";
import { loadModel } from "../../src/model/load.ts";
import { readParams, unpackWeights } from "../../src/model/params.ts";
import { readSafetensors, type Weights } from "../../src/model/safetensors.ts";
import { groupAdvantages, sumRewards } from "../../src/rl/group_advantages.ts";
import { grpoLoss } from "../../src/rl/grpo_loss.ts";
import { rlooLoss } from "../../src/rl/rloo_loss.ts";
import { generationPlan } from "../../src/train/generation.ts";
import { learnPart, stepMetrics } from "../../src/train/group_learning.ts";
import type { Generation, Sample } from "../../src/train/group_rollout.ts";
import { openLearner } from "../../src/train/learner.ts";
import { grpoOptions, rlooOptions } from "../../src/train/options/defaults.ts";
import { camelCase } from "../../src/train/options/names.ts";
import { openPasses, sequenceScorer } from "../../src/train/policy_pass.ts";
import { rlooAdvantages } from "../../src/train/rloo.ts";
import { learningRateAt } from "../../src/train/schedule.ts";
import { asset, assetTest } from "../assets.ts";

type Names = Record<string, string>;

interface Recorded {
  config: Record<string, unknown>;
  steps: {
    step: number;
    micro: { loss: number; tensors: Names & { num_items_in_batch: number } }[];
    logs: Record<string, number>;
    grad_l2_after_clip: Record<string, number>;
    weights_after: Record<string, { l2: number; first8: number[]; top8_moved: [number, number][] }>;
  }[];
  rollouts: { before_optimizer_step: number; tensors: Names }[];
  eos_token_ids: number[];
}

/** Fields of the recorded configuration that are no options of keel or have other names. */
const OTHERS = ["optim", "lr_scheduler_type", "generation_batch_size"];

/** Completions as they stand in [rows, width] tensors. */
function samplesOf(tensors: Weights, names: Names, eosIds: number[]): Sample[] {
  const advantages = tensors.read(names.advantages), rows = advantages.length;
  const table = (name: string) => {
    const all = tensors.readIntegers(names[name]), width = all.length / rows;
    return (i: number) => Array.from(all.subarray(i * width, (i + 1) * width));
  };
  const prompts = table("prompt_ids"), masks = table("prompt_mask"), completions = table("completion_ids");
  return Array.from({ length: rows }, (_, i) => {
    const padded = completions(i), mask = masks(i);
    // Padding is id 0, and masked completions are whole.
    const completion = padded.slice(0, padded.findLastIndex((id) => id !== 0) + 1);
    return {
      prompt: prompts(i).filter((_, t) => mask[t] === 1),
      completion,
      ended: eosIds.includes(completion.at(-1)!),
      samplingLogprobs: completion.map(() => 0),
      advantages: [advantages[i]],
    };
  });
}

const NAMES = ["grpo_dapo", "grpo_none_rewards", "grpo_iterations", "grpo_gspo", "rloo", "rloo_iterations"];

for (const name of NAMES) {
  assetTest(`${name} follows TRL's recorded run`, async () => {
    const recorded: Recorded = JSON.parse(readFileSync(asset(`goldens/trl/${name}.json`), "utf8"));
    const tensors = readSafetensors(asset(`goldens/trl/${name}.safetensors`));
    const known = Object.entries(recorded.config).filter(([key]) => !OTHERS.includes(key));
    const given = Object.fromEntries(
      known.map(([key, value]) => [camelCase(key), value === null ? undefined : value]),
    );
    const isRloo = name.startsWith("rloo");
    const options = isRloo ? rlooOptions(given) : grpoOptions(given);
    const plan = generationPlan(options);
    const gpu = await openGpu(), workspace = { gpu };
    const path = asset("goldens/models/stories260K");
    const policy = openLearner(gpu, loadModel(gpu, path));
    const passes = openPasses(workspace, policy.model, { checkpointing: false });
    const reference = sequenceScorer(workspace, loadModel(gpu, path), { batchSize: plan.size });
    let worst = 0;
    const close = (what: string, got: number, want: number, tolerance: number) => {
      const share = Math.abs(got - want) / tolerance;
      assert.ok(share <= 1, `${name}: ${what} is ${got}, TRL has ${want} (tolerance ${tolerance}).`);
      worst = Math.max(worst, share);
    };

    let generation: Generation = { samples: [], temperature: options.temperature };
    for (const { step, micro, logs, grad_l2_after_clip, weights_after } of recorded.steps) {
      const rollout = recorded.rollouts.find((one) => one.before_optimizer_step === step);
      const first = step === 1;
      if (rollout) {
        const samples = samplesOf(tensors, rollout.tensors, recorded.eos_token_ids);
        const { logprobs } = await passes.score(samples, options.temperature);
        const refLogprobs = (await reference(samples, options.temperature)).logprobs;
        const rows = (key: string) => {
          const all = tensors.read(rollout.tensors[key]), width = all.length / samples.length;
          return samples.map((_, i) => all.subarray(i * width, (i + 1) * width));
        };
        const policyRows = rows("policy_per_token_logps_at_rollout");
        samples.forEach(({ completion, ended }, i) =>
          completion.forEach((_, t) => {
            if (options.maskTruncatedCompletions && !ended) return;
            const tolerance = first ? 1e-4 : 2e-3;
            close(`step ${step} logprob`, logprobs[i][t], policyRows[i][t], tolerance);
            if (!rollout.tensors.ref_per_token_logps) return;
            close(`step ${step} ref`, refLogprobs[i][t], rows("ref_per_token_logps")[i][t], 1e-4);
          })
        );
        // Rewards are recorded as [completions, functions].
        const table = rows("rewards_per_func"), functions = table[0].length;
        const rewards = Array.from(
          { length: functions },
          (_, f) => table.map((row) => Number.isNaN(row[f]) ? null : row[f]),
        );
        const weights = options.rewardWeights ?? rewards.map(() => 1);
        const kl = samples.map(({ completion }, i) =>
          Float64Array.from(completion, (_, t) => logprobs[i][t] - refLogprobs[i][t])
        );
        const { advantages } = "lossType" in options
          ? groupAdvantages(rewards, weights, options)
          : rlooAdvantages(sumRewards(rewards, weights), kl, options);
        samples.forEach((sample, i) =>
          close(`step ${step} advantage`, [advantages[i]].flat()[0] as number, sample.advantages[0], 2e-3)
        );
        generation = {
          ...generation,
          samples: micro.flatMap((one) => samplesOf(tensors, one.tensors, recorded.eos_token_ids)),
        };
        const scored = (await reference(generation.samples, options.temperature)).logprobs;
        generation.samples.forEach((sample, i) => sample.refLogprobs = Array.from(scored[i]));
      }

      const parts = [];
      for (const [m, one] of micro.entries()) {
        const part = await learnPart(
          passes,
          generation,
          (step - 1) * micro.length + m,
          plan,
          options,
          (inputs, scale) => {
            if ("lossType" in options) {
              if (one.tensors.num_items_in_batch !== undefined) {
                assert.equal(scale.tokens, one.tensors.num_items_in_batch);
              }
              return grpoLoss(inputs, options, scale);
            }
            const advantages = inputs.advantages.map(([a]) => a);
            return rlooLoss({ ...inputs, advantages }, { ...options, passes: scale.passes });
          },
        );
        parts.push(part);
        // The losses of RLOO are recorded before their mean over micro-batches.
        const want = isRloo ? one.loss / micro.length : one.loss;
        const loose = isRloo ? 5e-4 : first ? 2e-5 * Math.abs(want) + 2e-6 : 2e-3 * Math.abs(want) + 2e-4;
        close(`step ${step} micro ${m} loss`, part.loss, want, loose);
      }
      const metrics = stepMetrics(parts);
      for (const [key, want] of Object.entries(logs)) {
        if (!(key in metrics) || key === "loss" || (isRloo && key === "kl")) continue;
        // A token at a clipping bound may fall to either side.
        const tolerance = key.startsWith("clip_ratio") ? (first ? 1e-9 : 0.05) : 2e-3 * Math.abs(want) + 2e-4;
        close(`step ${step} ${key}`, metrics[key], want, tolerance);
      }
      if (name === "grpo_dapo" && first) {
        const { layout, training } = policy.model.params;
        const raw = unpackWeights(layout, await readFloats(gpu, training!.gradients));
        const clip = Math.min(1, Number(recorded.config.max_grad_norm) / (logs.grad_norm + 1e-6));
        let largest = 0;
        for (const [tensor, { data }] of Object.entries(raw)) {
          const want = tensors.read(`grad1_clipped/${tensor}`);
          const scale = want.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
          data.forEach((x, i) => largest = Math.max(largest, Math.abs(x * clip - want[i]) / scale));
        }
        console.log(`largest difference ${largest.toExponential(1)} of a gradient's largest element`);
        assert.ok(largest < 3e-5, `A gradient differs by ${largest} of its tensor's largest element.`);
      }
      const learningRate = learningRateAt(step - 1, recorded.steps.length, options);
      close(`step ${step} learning rate`, learningRate, logs.learning_rate, 1e-12 + 1e-6 * learningRate);
      const { gradNorm } = await policy.step({ ...options, learningRate }, metrics.loss);
      close(`step ${step} grad_norm`, gradNorm, logs.grad_norm, (first ? 1e-4 : 5e-3) * logs.grad_norm);
      assert.ok(Object.keys(grad_l2_after_clip).length > 0);
      const weights = await readParams(gpu, policy.model.params);
      for (const [tensor, sums] of Object.entries(weights_after)) {
        const { data } = weights[tensor];
        const l2 = Math.sqrt(data.reduce((sum, x) => sum + x * x, 0));
        close(`step ${step} l2 of ${tensor}`, l2, sums.l2, 1e-4 * sums.l2);
        if (tensor === "model.embed_tokens.weight") continue;
        for (const [i, value] of sums.top8_moved) close(`step ${step} ${tensor}[${i}]`, data[i], value, 5e-5);
        sums.first8.forEach((value, i) => close(`step ${step} ${tensor}[${i}]`, data[i], value, 5e-5));
      }
    }
    console.log(`${name}: at most ${worst.toFixed(2)} of a tolerance used`);
    policy.close();
    gpu.close();
  });
}
