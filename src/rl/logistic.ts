/**
 * The logistic function and its logarithm, exact for arguments of any size.
 *
 * @module
 */

/** σ(x) = 1 / (1 + e^−x). */
export function sigmoid(x: number): number {
  if (x >= 0) return 1 / (1 + Math.exp(-x));
  const e = Math.exp(x);
  return e / (1 + e);
}

/** ln σ(x). Its derivative is σ(−x). */
export function logSigmoid(x: number): number {
  return Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x)));
}
