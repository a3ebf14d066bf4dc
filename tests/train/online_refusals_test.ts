/** What GRPO, RLOO and REINFORCE++ refuse, and what they do with numbers that are none. */
import assert from "node:assert/strict";
import { testOnProfiles } from "../kernels/helpers.ts";
import { metricsOf, type Online, runOf, tokenReward } from "./online_runs.ts";

testOnProfiles("options that do not go together are refused", async (gpu) => {
  const wrong: [Online, RegExp][] = [
    [
      { method: "grpo", options: { numGenerations: 3 } },
      /8 completions are not whole groups of num_generations = 3/,
    ],
    [{ method: "grpo", options: { generationBatchSize: 8, stepsPerGeneration: 2 } }, /Give one of them/],
    [
      { method: "grpo", options: { generationBatchSize: 6, numGenerations: 2 } },
      /cannot be cut into batches of 4/,
    ],
    [{ method: "grpo", options: { syncRefModel: true } }, /without a KL penalty there is none/],
    [{ method: "grpo", options: { delta: 1.1 } }, /below the clipping/],
    [
      {
        method: "grpo",
        options: { beta: 0.1, klPlacement: "reward", multiObjectiveAggregation: "normalize_then_sum" },
      },
      /normalises each for itself/,
    ],
    [{ method: "rloo", options: { klPlacement: "loss" } }, /kl_placement loss is per token/],
    [{ method: "rloo", options: { importanceSamplingMode: "token_mask" } }, /no importance_sampling_mode/],
    [
      { method: "reinforce", options: { numGenerations: 1, advantageEstimator: "reinforce_baseline" } },
      /reinforce_baseline compares completions/,
    ],
  ];
  for (const [run, message] of wrong) {
    const { error, events } = await runOf(gpu, run);
    assert.match(error?.message ?? "", message);
    assert.equal(events.length, 0);
  }
}, ["cpu"]);

testOnProfiles("a reward that is not a number is an error that names it", async (gpu) => {
  const broken = tokenReward("broken", (_, i) => i === 3 ? NaN : 1);
  const { error } = await runOf(gpu, { method: "grpo" }, { rewards: [broken] });
  assert.match(error!.message, /The reward broken is NaN for a completion of "/);
}, ["cpu"]);

testOnProfiles(
  "a step that is not finite is skipped, and its completions are not learnt from again",
  async (gpu) => {
    // What is beyond float32 is infinite in the backward pass.
    const huge = tokenReward(
      "huge",
      (ids, i, { step }) => step === 1 ? (i % 2 ? 1e300 : -1e300) : ids.length,
    );
    for (const method of ["grpo", "rloo", "reinforce"] as const) {
      const options = {
        numIterations: 2,
        maxSteps: 4,
        ...(method === "grpo" ? { scaleRewards: "none" as const } : {}),
        ...(method === "reinforce" ? { normalizeAdvantages: false, rewardClipRange: null } : {}),
      };
      const result = await runOf(gpu, { method, options } as Online, { rewards: [huge] });
      const steps = metricsOf(result);
      assert.deepEqual(
        steps.map((metrics) => metrics.skipped_steps),
        [1, 1, 1, 1],
        method,
      );
      assert.deepEqual(steps.map((metrics) => "reward" in metrics), [true, true, true, false]);
      assert.ok(steps[1].grad_norm > 0);
      assert.equal(steps[1]["rewards/huge/mean"], steps[1]["completions/mean_length"]);
    }
  },
  ["cpu"],
);

testOnProfiles("a reference whose weights are not finite stops the run", async (gpu) => {
  for (const method of ["grpo", "rloo"] as const) {
    const { error } = await runOf(gpu, { method, options: { beta: 0.1, maxSteps: 5 } }, { poison: true });
    assert.match(
      error!.message,
      method === "grpo"
        ? /not finite for 3 steps in a row/
        : /The KL of a completion to the reference is NaN/,
    );
  }
}, ["cpu"]);
