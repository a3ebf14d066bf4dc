/** Rewards, advantages, returns and metrics of rollouts against TRL's. */
import assert from "node:assert/strict";
import { advantagesOf, type Rollout, rolloutMetrics, whitenSome } from "../../src/train/rollout.ts";
import { cases, LENGTHS, recordedRollouts, rowOf, tensors, TIME } from "../rl/ppo_functions.ts";

const OPTIONS = {
  klCoef: 0.05,
  klEstimator: "k1",
  gamma: 1,
  lam: 0.95,
  whitenRewards: false,
  whitenUnbiased: true,
  whitenScope: "batch",
  scorePlacement: "after_eos",
} as const;

for (const { id, config, metrics } of cases("rollout")) {
  Deno.test(`rewards, advantages and returns are those of TRL's ${id}`, () => {
    const rollouts = recordedRollouts();
    const advantages = advantagesOf(rollouts, {
      ...OPTIONS,
      klCoef: config.kl_coef as number,
      klEstimator: config.kl_estimator as "k1" | "k3",
      gamma: config.gamma as number,
      lam: config.lam as number,
      whitenRewards: config.whiten_rewards === true,
      missingEosPenalty: config.missing_eos_penalty as number | undefined,
    });
    const close = (what: string, got: number, want: number) =>
      assert.ok(Math.abs(got - want) < 1e-5, `${id}: ${what} is ${got}, TRL has ${want}`);
    const scores = tensors.read(`${id}/scores`);
    advantages.forEach((one, i) => {
      assert.equal(one.advantages.length, LENGTHS[i]);
      assert.equal(one.returns.length, Math.min(LENGTHS[i] + 1, TIME));
      close("a score", one.score, scores[i]);
      for (const name of ["kl", "rewards", "advantages", "returns"] as const) {
        const want = rowOf(`${id}/${name}`, i);
        one[name].forEach((x, t) => close(`${name} of row ${i}, token ${t}`, x, want[t]));
      }
    });
    const logged = rolloutMetrics(rollouts, advantages, config.kl_coef as number);
    close("objective/kl", logged["objective/kl"], metrics.mean_kl);
    close("non-score reward", logged["objective/non_score_reward"], metrics.mean_non_score_reward);
    close("RLHF reward", logged["objective/rlhf_reward"], metrics.rlhf_reward);
    close("scores", logged["objective/scores"], metrics.scores_mean);
    assert.equal(logged["objective/kl"], logged[`objective/kl_${config.kl_estimator}`]);
    assert.equal(logged["val/num_eos_tokens"], rollouts.filter((r) => r.ended).length);
    assert.equal(logged["tokens/responses_len_mean"], LENGTHS.reduce((a, b) => a + b) / LENGTHS.length);
  });
}

const rollout = (given: Partial<Rollout> & { completion: number[] }): Rollout => ({
  prompt: [1],
  ended: true,
  logprobs: new Float64Array(given.completion.length),
  refLogprobs: new Float64Array(given.completion.length),
  entropy: new Float64Array(given.completion.length),
  exactKl: new Float64Array(given.completion.length),
  values: new Float64Array(given.completion.length + 1),
  score: 0,
  ...given,
});

Deno.test("the score stands on the last token, or one later where the batch leaves room", () => {
  const rollouts = [rollout({ completion: [5, 2], score: 3 }), rollout({ completion: [5, 6, 2], score: 4 })];
  const rewards = (scorePlacement: "eos" | "after_eos") =>
    advantagesOf(rollouts, { ...OPTIONS, scorePlacement }).map((one) =>
      Array.from(one.rewards, (x) => x + 0)
    );
  assert.deepEqual(rewards("eos"), [[0, 3], [0, 0, 4]]);
  assert.deepEqual(rewards("after_eos"), [[0, 0, 3], [0, 0, 4]]);
});

Deno.test("scores are clipped before the penalty for a missing end", () => {
  const rollouts = [
    rollout({ completion: [5], score: 9 }),
    rollout({ completion: [5], score: -9, ended: false }),
  ];
  const advantages = advantagesOf(rollouts, { ...OPTIONS, scoreClip: 2, missingEosPenalty: 0.5 });
  assert.deepEqual(advantages.map((one) => one.score), [2, -2.5]);
});

Deno.test("each estimator can stand in the reward, the exact one from the whole vocabulary", () => {
  const one = rollout({
    completion: [5],
    logprobs: Float64Array.of(-1),
    refLogprobs: Float64Array.of(-1.5),
    exactKl: Float64Array.of(0.3),
  });
  const want = { k1: 0.5, k2: 0.125, k3: Math.exp(-0.5) - 1 + 0.5, abs: 0.5, exact: 0.3 };
  for (const klEstimator of ["k1", "k2", "k3", "abs", "exact"] as const) {
    const [{ kl, rewards }] = advantagesOf([one], { ...OPTIONS, klEstimator, klCoef: 2 });
    assert.ok(Math.abs(kl[0] - want[klEstimator]) < 1e-12);
    assert.ok(Math.abs(rewards[0] + 2 * want[klEstimator]) < 1e-12);
  }
});

Deno.test("whitening is over the whole batch, or over the mini-batch alone", () => {
  const rollouts = recordedRollouts();
  const plain = advantagesOf(rollouts, { ...OPTIONS, whitenScope: "mini_batch" });
  const moments = (x: number[], divisor: number) => {
    const mean = x.reduce((a, b) => a + b) / x.length;
    return { mean, variance: x.reduce((sum, v) => sum + (v - mean) ** 2, 0) / divisor };
  };
  for (const unbiased of [true, false]) {
    const part = [4, 1], some = whitenSome(plain, part, unbiased);
    const values = part.flatMap((i) => [...some[i].advantages]);
    const { mean, variance } = moments(values, values.length - (unbiased ? 1 : 0));
    assert.ok(Math.abs(mean) < 1e-12 && Math.abs(variance - 1) < 1e-6);
    for (const i of [0, 2, 3, 5]) assert.equal(some[i], plain[i]);

    const whole = advantagesOf(rollouts, { ...OPTIONS, whitenUnbiased: unbiased });
    const all = whole.flatMap((one) => [...one.advantages]);
    const stats = moments(all, all.length - (unbiased ? 1 : 0));
    assert.ok(Math.abs(stats.mean) < 1e-12 && Math.abs(stats.variance - 1) < 1e-6);
  }
  // Where nothing is whitened here, a mini-batch does it later, or nobody.
  assert.deepEqual(advantagesOf(rollouts, { ...OPTIONS, whitenScope: "none" }), plain);
  // What the critic learns is never whitened.
  assert.deepEqual(advantagesOf(rollouts, OPTIONS).map((a) => a.returns), plain.map((a) => a.returns));
});
