/**
 * Whitening: mean 0 and standard deviation 1 over a set of numbers.
 *
 * @module
 */

/** Choices in which published implementations differ. */
export interface WhitenOptions {
  /** Keep the mean and only divide by the deviation, as PPO does with rewards. */
  keepMean?: boolean;
  /** Divide by n − 1 (TRL, verl) rather than n (OpenRLHF). */
  unbiased?: boolean;
}

/** Added to the variance before the root, as in TRL. */
const EPSILON = 1e-8;

/** Mean and variance of `values`. */
export function moments(values: ArrayLike<number>, unbiased = true): { mean: number; variance: number } {
  const n = values.length;
  let mean = 0;
  for (let i = 0; i < n; i++) mean += values[i];
  mean /= n;
  let squares = 0;
  for (let i = 0; i < n; i++) squares += (values[i] - mean) ** 2;
  return { mean, variance: unbiased ? (n > 1 ? squares / (n - 1) : 0) : squares / n };
}

/**
 * (x − mean) / √(variance + 1e-8), plus the mean where `keepMean` is set.
 *
 * @example
 * ```ts
 * import { whiten } from "./whiten.ts";
 * console.log(whiten([1, 2, 3])); // about [-1, 0, 1]
 * ```
 */
export function whiten(values: ArrayLike<number>, options: WhitenOptions = {}): Float64Array {
  const { keepMean = false, unbiased = true } = options;
  const { mean, variance } = moments(values, unbiased);
  const scale = 1 / Math.sqrt(variance + EPSILON);
  return Float64Array.from(values, (x) => (x - mean) * scale + (keepMean ? mean : 0));
}
