/**
 * Scores of several reward models as one, so that a policy gains little from an error that one of them has alone (Coste et al.,
 * arXiv 2310.02743).
 *
 * @module
 */

/** How the scores of several reward models become one. */
export type EnsembleRule = "mean" | "min" | "uncertainty";

/** Choice of {@linkcode combineScores}. */
export interface EnsembleOptions {
  /** The mean; the smallest (worst-case optimisation); the mean less λ times the variance (uncertainty-weighted). */
  rule: EnsembleRule;
  /** λ of `uncertainty`. */
  lambda: number;
}

/**
 * One score of each completion from those of k models, [models][completions]: mean, min, or mean − λ·variance, where the variance
 * is that of the k scores (divided by k).
 *
 * @example
 * ```ts
 * import { combineScores } from "./ensemble.ts";
 * console.log(combineScores([[1, 4], [3, 4]], { rule: "uncertainty", lambda: 0.5 })); // [ 1.5, 4 ]
 * ```
 */
export function combineScores(scores: number[][], { rule, lambda }: EnsembleOptions): number[] {
  return scores[0].map((_, i) => {
    const own = scores.map((model) => model[i]);
    if (rule === "min") return Math.min(...own);
    const mean = own.reduce((a, b) => a + b, 0) / own.length;
    if (rule === "mean") return mean;
    const variance = own.reduce((sum, score) => sum + (score - mean) ** 2, 0) / own.length;
    return mean - lambda * variance;
  });
}
