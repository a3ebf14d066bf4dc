/** Advantages per token of REINFORCE++, against sums written out. */
import assert from "node:assert/strict";
import { normaliseTokens, returnsToGo, tokenRewards } from "../../src/rl/token_advantages.ts";
import { random } from "../kernels/helpers.ts";

const close = (got: number, want: number) => assert.ok(Math.abs(got - want) < 1e-12, `${got}, not ${want}`);

Deno.test("a return is the discounted sum of the rewards from its token on: minus beta KL each, and the score last", () => {
  const { float, below } = random(3);
  for (const gamma of [1, 0.9, 0]) {
    const kl = Array.from({ length: 6 }, () => Float64Array.from({ length: 1 + below(7) }, () => float()));
    const scores = kl.map(() => 3 * float()), beta = 0.2;
    const returns = returnsToGo(tokenRewards(scores, kl, beta), gamma);
    kl.forEach((row, i) =>
      row.forEach((_, t) => {
        let want = gamma ** (row.length - 1 - t) * scores[i];
        for (let s = t; s < row.length; s++) want -= gamma ** (s - t) * beta * row[s];
        close(returns[i][t], want);
      })
    );
  }
});

Deno.test("a completion without a score has no rewards", () => {
  const [row] = tokenRewards([NaN], [Float64Array.of(1, 2)], 0.5);
  assert.deepEqual([...row], [0, 0]);
});

Deno.test("advantages have mean 0 and deviation 1 over the tokens of the completions that count", () => {
  const { float, below } = random(9);
  const raw = Array.from(
    { length: 7 },
    () => Float64Array.from({ length: 1 + below(9) }, () => 5 + 3 * float()),
  );
  const counted = raw.map((_, i) => i !== 2);
  for (const unbiased of [false, true]) {
    const got = normaliseTokens(raw, counted, unbiased);
    const all = got.filter((_, i) => counted[i]).flatMap((row) => [...row]);
    const mean = all.reduce((a, b) => a + b, 0) / all.length;
    const squares = all.reduce((sum, x) => sum + (x - mean) ** 2, 0);
    close(mean, 0);
    close(squares / (all.length - Number(unbiased)), 1);
    assert.ok(got[2].every((x) => x === 0));
  }
});

Deno.test("equal advantages stay zero, and none at all is fine", () => {
  const flat = normaliseTokens([Float64Array.of(2, 2)], [true], false);
  assert.ok(flat[0].every((x) => Math.abs(x) < 1e-3));
  assert.deepEqual(normaliseTokens([Float64Array.of(2, 2)], [false], false).map((row) => [...row]), [[0, 0]]);
});
