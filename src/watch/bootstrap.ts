/**
 * Paired bootstrap over prompts: how sure a difference between two evaluations of the same prompts is.
 *
 * @module
 */
import { randomStream } from "../random/stream.ts";

/** A mean difference with its 95 % interval. */
export interface Difference {
  mean: number;
  low: number;
  high: number;
}

/** Resamples; the interval's ends are their 2.5 % and 97.5 % quantiles. */
const RESAMPLES = 1000;

/** Mean of after[i] − before[i] over prompts, with a percentile bootstrap interval (Efron 1979); the same every time. */
export function pairedDifference(before: ArrayLike<number>, after: ArrayLike<number>): Difference {
  const n = before.length;
  if (n === 0 || n !== after.length) {
    throw new Error(
      `A paired difference needs two evaluations of the same prompts; got ${n} and ${after.length}.`,
    );
  }
  const differences = Float64Array.from({ length: n }, (_, i) => after[i] - before[i]);
  const rng = randomStream(0, "bootstrap");
  const means = Float64Array.from({ length: RESAMPLES }, () => {
    let sum = 0;
    for (let k = 0; k < n; k++) sum += differences[rng.integer(n)];
    return sum / n;
  }).sort();
  const quantile = (q: number) => means[Math.round(q * (RESAMPLES - 1))];
  return {
    mean: differences.reduce((a, b) => a + b, 0) / n,
    low: quantile(0.025),
    high: quantile(0.975),
  };
}
