/** Advantages of RLOO and REINFORCE++ with their KL penalties, against sums written out. */
import assert from "node:assert/strict";
import { drawnKl } from "../../src/train/group_rollout.ts";
import { reinforceAdvantages } from "../../src/train/reinforce.ts";
import { rlooAdvantages } from "../../src/train/rloo.ts";
import { random } from "../kernels/helpers.ts";

const SIZE = 3;

/** Two groups of completions with a KL for each token, one of them without a reward. */
function batch(seed: number) {
  const { float, below } = random(seed);
  const lengths = Array.from({ length: 2 * SIZE }, () => 1 + below(6));
  const kl = lengths.map((length) => Float64Array.from({ length }, () => float()));
  const sums = Float64Array.from(lengths, (_, i) => i === 4 ? NaN : 3 * float());
  return { lengths, kl, sums, counted: lengths.map((_, i) => i !== 1) };
}

const others = (sums: Float64Array, i: number) => {
  const group = Math.floor(i / SIZE);
  return [...sums].filter((x, j) => Math.floor(j / SIZE) === group && j !== i && !Number.isNaN(x));
};
const mean = (values: ArrayLike<number>) => Array.from(values).reduce((a, b) => a + b, 0) / values.length;
const from = (row: Float64Array, t: number) => row.subarray(t).reduce((a, b) => a + b, 0);
const close = (got: number, want: number) => assert.ok(Math.abs(got - want) < 1e-12, `${got}, not ${want}`);

Deno.test("RLOO takes the whole KL off a clipped reward before the baseline", () => {
  const { kl, sums } = batch(1), beta = 0.3;
  const { advantages } = rlooAdvantages(sums, kl, {
    beta,
    klPlacement: "reward",
    rewardClipRange: [-1, 1],
    numGenerations: SIZE,
    normalizeAdvantages: false,
  });
  const penalised = sums.map((x, i) => Math.min(1, Math.max(-1, x)) - beta * from(kl[i], 0));
  advantages.forEach(([a], i) =>
    close(a, Number.isNaN(sums[i]) ? 0 : penalised[i] - mean(others(penalised, i)))
  );
});

Deno.test("RLOO as OpenRLHF takes the KL to come off each token after a clipped baseline", () => {
  const { kl, sums } = batch(2), beta = 0.2;
  const { advantages } = rlooAdvantages(sums, kl, {
    beta,
    klPlacement: "reward_to_go",
    rewardClipRange: [-0.5, 0.5],
    numGenerations: SIZE,
    normalizeAdvantages: false,
  });
  advantages.forEach((row, i) => {
    assert.equal(row.length, kl[i].length);
    const compared = Math.min(0.5, Math.max(-0.5, sums[i] - mean(others(sums, i))));
    row.forEach((a, t) => close(a, Number.isNaN(sums[i]) ? 0 : compared - beta * from(kl[i], t)));
  });
});

Deno.test("REINFORCE++ has the discounted return of each token, with a baseline that of the reward less its group's mean", () => {
  const { kl, sums, lengths, counted } = batch(3), beta = 0.1;
  const options = {
    beta,
    gamma: 1,
    normalizeAdvantages: false,
    whitenUnbiased: false,
    rewardClipRange: [-2, 2] as [number, number],
    numGenerations: SIZE,
  };
  for (const advantageEstimator of ["reinforce", "reinforce_baseline"] as const) {
    const got = reinforceAdvantages(sums, { kl, lengths, counted }, { ...options, advantageEstimator });
    got.forEach((row, i) => {
      const group = [...others(sums, i), sums[i]];
      const compared = advantageEstimator === "reinforce" ? sums[i] : sums[i] - mean(group);
      const score = Math.min(2, Math.max(-2, compared));
      row.forEach((a, t) => close(a, Number.isNaN(sums[i]) ? 0 : score - beta * from(kl[i], t)));
    });
  }
});

Deno.test("REINFORCE++ normalises over the tokens of the completions that are learnt from and have a reward", () => {
  const { sums, lengths, counted } = batch(4);
  const got = reinforceAdvantages(sums, { lengths, counted }, {
    advantageEstimator: "reinforce",
    beta: 0,
    gamma: 1,
    normalizeAdvantages: true,
    whitenUnbiased: false,
    rewardClipRange: null,
    numGenerations: SIZE,
  });
  const learnt = got.filter((_, i) => counted[i] && !Number.isNaN(sums[i])).flatMap((row) => [...row]);
  close(mean(learnt), 0);
  close(mean(learnt.map((a) => a * a)), 1);
  assert.ok([1, 4].every((i) => got[i].every((a) => a === 0)));
});

Deno.test("a KL that is not finite is an error, not a completion without a reward", () => {
  const sample = { prompt: [1], completion: [2, 3], ended: true, advantages: [], samplingLogprobs: [-1, -2] };
  assert.throws(() => drawnKl([{ ...sample, refLogprobs: [-1, NaN] }], "k1"), /to the reference is NaN/);
  assert.deepEqual([...drawnKl([{ ...sample, refLogprobs: [-2, -2] }], "k1")[0]], [1, 0]);
  assert.deepEqual([...drawnKl([{ ...sample, exactKl: [0.5, 0.25] }], "exact")[0]], [0.5, 0.25]);
});
