/**
 * Estimators of KL(π‖π_ref) per token, and controllers of its coefficient.
 *
 * @module
 */

/** How the KL of a token is estimated; see {@linkcode klEstimate}. `exact` sums over the whole vocabulary on the GPU. */
export type KlEstimator = "k1" | "k2" | "k3" | "exact";

/** The same, or the distance that TRL 0.11 offered as a penalty beside them. */
export type KlPenalty = KlEstimator | "abs";

/**
 * KL of one token from the log-probabilities of the token drawn, in nats.
 *
 *   k1 = ln π − ln π_ref                       unbiased, can be negative
 *   k2 = ½ (ln π − ln π_ref)²                  biased, never negative
 *   k3 = e^(ln π_ref − ln π) − 1 − (ln π_ref − ln π)   unbiased, never negative
 *
 * `abs` = |ln π − ln π_ref| estimates nothing: it punishes both directions alike.
 *
 * Source: J. Schulman, "Approximating KL divergence", 2020.
 *
 * @example
 * ```ts
 * import { klEstimate } from "./kl.ts";
 * console.log(klEstimate("k1", -1.0, -1.5)); // 0.5
 * ```
 */
export function klEstimate(kind: Exclude<KlPenalty, "exact">, logprob: number, refLogprob: number): number {
  const difference = logprob - refLogprob;
  switch (kind) {
    case "k1":
      return difference;
    case "k2":
      return 0.5 * difference * difference;
    case "k3":
      return Math.expm1(-difference) + difference;
    case "abs":
      return Math.abs(difference);
  }
}

/** A controller of the KL coefficient β; plain data, part of a checkpoint. */
export interface KlController {
  /** β. */
  klCoef: number;
  /** Wanted KL per sequence in nats; undefined for a fixed coefficient. */
  target?: number;
  /** Episodes over which β may change by about 20 %. */
  horizon: number;
}

/**
 * The coefficient after a batch of `episodes` with a mean KL of `kl` nats per sequence (arXiv 1909.08593):
 * β ← β · (1 + clip(kl / target − 1, −0.2, 0.2) · episodes / horizon).
 */
export function updateKlCoef(controller: KlController, kl: number, episodes: number): number {
  const { klCoef, target, horizon } = controller;
  if (target === undefined) return klCoef;
  const error = Math.min(0.2, Math.max(-0.2, kl / target - 1));
  return klCoef * (1 + error * episodes / horizon);
}
