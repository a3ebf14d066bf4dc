/** Advantages of groups and corrections for another sampler: TRL's 42 cases, and properties on random groups. */
import assert from "node:assert/strict";
import {
  centreGroups,
  clipRewards,
  flatGroups,
  type FunctionRewards,
  type GroupAdvantages,
  groupAdvantages,
  leaveOneOutAdvantages,
  rewardMetrics,
  sumRewards,
} from "../../src/rl/group_advantages.ts";
import { correctionMetrics, importanceWeights } from "../../src/rl/sampling_correction.ts";
import { camelCase } from "../../src/train/options/names.ts";
import { random } from "../kernels/helpers.ts";
import { comparison, trlCases } from "./trl_cases.ts";

const COMPLETIONS = 12;

Deno.test("the advantages, importance weights and metrics of GRPO and RLOO are TRL's in all 42 cases", () => {
  const { cases, tensors, lengths, rows } = trlCases("advantages");
  assert.equal(cases.length, 42);
  const sizes = lengths("in/mask", COMPLETIONS), compare = comparison();
  const ended = tensors.readIntegers("in/has_eos");
  for (const { id, config, metrics, tensors: names } of cases) {
    const c = config as Record<string, never>;
    const table = tensors.read(`in/rewards_${config.rewards}`), functions = table.length / COMPLETIONS;
    const rewards: FunctionRewards = Array.from(
      { length: functions },
      (_, f) =>
        Array.from({ length: COMPLETIONS }, (_, i) => {
          const reward = table[i * functions + f];
          return Number.isNaN(reward) ? null : reward;
        }),
    );
    const weights = (config.reward_weights as number[] | undefined) ?? rewards.map(() => 1);
    const sums = sumRewards(rewards, weights);
    const options = Object.fromEntries(Object.entries(config).map(([key, value]) => [camelCase(key), value]));
    const old = rows("in/old_logps", sizes), ref = rows("in/ref_logps", sizes);
    // A truncated completion that is masked has no KL.
    const counted = sizes.map((_, i) => !config.mask_truncated_completions || ended[i] === 1);
    let result: GroupAdvantages, kl = 0, tokens = 0;
    if (config.alg === "rloo") {
      const clipped = clipRewards(sums, c.reward_clip_range);
      const penalised = clipped.map((reward, i) => {
        if (!counted[i]) return reward;
        const own = old[i].reduce((sum, x, t) => sum + x - ref[i][t], 0);
        kl += own;
        tokens += sizes[i];
        return reward - Number(config.beta) * own;
      });
      result = leaveOneOutAdvantages(penalised, options as never);
    } else {
      result = groupAdvantages(rewards, weights, { scaleRewards: "group", ...options } as never);
    }
    tensors.read(names.advantages).forEach((want, i) =>
      compare.close(`${id}: advantage ${i}`, result.advantages[i], want, 1e-5 * Math.max(1, Math.abs(want)))
    );
    const got: Record<string, number> = {
      ...rewardMetrics(rewards.map((_, f) => `f${f}`), rewards, sums),
      frac_reward_zero_std: result.zeroStd,
      kl: kl / tokens,
    };
    if (config.vllm_mode) {
      const sampled = rows("in/sampling_logps", sizes);
      const found = importanceWeights(old, sampled, {
        mode: c.vllm_mode,
        clipMin: c.clip_min ?? null,
        clipMax: c.clip_max ?? null,
      });
      const all = tensors.read(names.importance_sampling_ratio), width = all.length / COMPLETIONS;
      found.forEach((row, i) =>
        row.forEach((x, t) => compare.close(`${id}: ratio`, x, all[i * width + t], 1e-5 * Math.max(1, x)))
      );
      Object.assign(got, correctionMetrics(old, sampled, found));
    }
    for (const [name, want] of Object.entries(metrics)) {
      compare.close(`${id}: ${name}`, got[name], want, 1e-5 * Math.max(1, Math.abs(want)));
    }
  }
  console.log(`at most ${compare.worst.toFixed(3)} of a tolerance used`);
});

/** Rewards of two functions on groups of `size`, a third of them null. */
function randomRewards(seed: number, groups: number, size: number): FunctionRewards {
  const { float, below } = random(seed);
  return [0, 1].map(() => Array.from({ length: groups * size }, () => below(3) ? float() : null));
}

Deno.test("advantages of a group sum to zero, and no completion that cannot be scored has one", () => {
  for (let seed = 1; seed <= 50; seed++) {
    const size = 2 + seed % 5, rewards = randomRewards(seed, 4, size), weights = [1, 0.3];
    const sums = sumRewards(rewards, weights);
    for (const scaleRewards of ["group", "batch", "none"] as const) {
      const { advantages } = groupAdvantages(rewards, weights, { numGenerations: size, scaleRewards });
      const looAdvantages = leaveOneOutAdvantages(sums, { numGenerations: size }).advantages;
      for (const one of [advantages, looAdvantages]) {
        assert.ok(one.every(Number.isFinite));
        for (let at = 0; at < one.length; at += size) {
          assert.ok(Math.abs(one.subarray(at, at + size).reduce((a, b) => a + b, 0)) < 1e-9);
        }
        sums.forEach((sum, i) => Number.isNaN(sum) && assert.equal(one[i], 0));
      }
    }
  }
});

Deno.test("leaving one out is a rescaled mean: n/(n - 1) times what the group's mean gives", () => {
  const { float } = random(4), rewards = Float64Array.from({ length: 15 }, () => float());
  const centred = centreGroups(rewards, 5);
  leaveOneOutAdvantages(rewards, { numGenerations: 5 }).advantages.forEach((a, i) =>
    assert.ok(Math.abs(a - centred[i] * 5 / 4) < 1e-12)
  );
});

Deno.test("a group of which at most one reward is known, or all are equal, is flat", () => {
  assert.deepEqual(flatGroups(Float64Array.of(1, 1, 0.1, 0.2, NaN, 3, NaN, NaN), 2), [
    true,
    false,
    true,
    true,
  ]);
});

Deno.test("completions that are not whole groups are refused", () => {
  assert.throws(
    () => groupAdvantages([[1, 2, 3]], [1], { numGenerations: 2, scaleRewards: "none" }),
    /3 completions are not whole groups of 2/,
  );
});
