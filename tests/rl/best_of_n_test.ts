/** The estimator of best-of-n against all subsets, one by one. */
import assert from "node:assert/strict";
import { randomStream } from "../../src/random/stream.ts";
import { bestOfNKl, bestOfNWeights, expectedBest, type ScoredSample } from "../../src/rl/best_of_n.ts";

/** All subsets of n of the numbers below `total`. */
function* subsets(total: number, n: number, from = 0): Generator<number[]> {
  if (n === 0) return yield [];
  for (let i = from; i < total; i++) for (const rest of subsets(total, n - 1, i + 1)) yield [i, ...rest];
}

const near = (got: number, want: number) => assert.ok(Math.abs(got - want) < 1e-12, `${got}, not ${want}`);

Deno.test("the expected best is the mean over all subsets, equal proxies chosen with equal chance", () => {
  const random = randomStream(2, "best of n");
  for (let round = 0; round < 40; round++) {
    const total = 1 + random.integer(7), levels = 1 + random.integer(5);
    const samples: ScoredSample[] = Array.from({ length: total }, () => ({
      proxy: random.integer(levels) - 1.5,
      gold: random.normal(),
    }));
    for (let n = 1; n <= total; n++) {
      let count = 0, proxy = 0, gold = 0;
      for (const subset of subsets(total, n)) {
        const most = Math.max(...subset.map((i) => samples[i].proxy));
        const best = subset.filter((i) => samples[i].proxy === most);
        count++;
        proxy += most;
        gold += best.reduce((sum, i) => sum + samples[i].gold!, 0) / best.length;
      }
      const got = expectedBest(samples, n);
      near(got.proxy, proxy / count);
      near(got.gold!, gold / count);
      near(bestOfNWeights(total, n).reduce((a, b) => a + b), 1);
    }
    assert.ok(!("gold" in expectedBest([...samples, { proxy: 1 }], 1)));
  }
});

Deno.test("the KL is what it is for distinct samples", () => {
  // The best of n has density n·F^(n−1), so KL = ∫ n·u^(n−1)·ln(n·u^(n−1)) du from 0 to 1; by the midpoint rule.
  for (const n of [1, 2, 4, 16, 64]) {
    const steps = 1e6;
    let sum = 0;
    for (let i = 0; i < steps; i++) {
      const density = n * ((i + 0.5) / steps) ** (n - 1);
      if (density > 0) sum += density * Math.log(density) / steps;
    }
    assert.ok(Math.abs(bestOfNKl(n) - sum) < 1e-6, `${n}: ${bestOfNKl(n)}, not ${sum}`);
  }
});
