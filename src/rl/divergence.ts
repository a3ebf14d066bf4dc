/**
 * f-divergences in the place of the KL divergence of direct preference optimisation (f-DPO, arXiv 2309.16240).
 *
 * @module
 */
import { logSigmoid, sigmoid } from "./logistic.ts";

/** TRL's names of the divergences D_f(π‖π_ref); `reverse_kl` is that of DPO itself. */
export const F_DIVERGENCES = ["reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"] as const;

/** One of {@linkcode F_DIVERGENCES}. */
export type FDivergence = typeof F_DIVERGENCES[number];

/** A number and its derivative. */
export interface Sloped {
  value: number;
  slope: number;
}

/** Largest exponent of the alpha divergence, as in TRL: beyond it the score is constant. */
const MOST = 80;

/** α nearer to 1 than this is the limit, the reverse KL. */
const LIMIT = 1e-6;

/**
 * f′(π/π_ref) without constants that cancel between two answers to a prompt, and its derivative by x = ln π − ln π_ref:
 *
 *   reverse_kl        x
 *   forward_kl        1 − e^−x
 *   js_divergence     ln 2 + ln σ(x)
 *   alpha_divergence  (e^((α − 1) x) − 1) / (α − 1)
 */
export function divergenceScore(divergence: FDivergence, x: number, alpha: number): Sloped {
  switch (divergence) {
    case "reverse_kl":
      return { value: x, slope: 1 };
    case "forward_kl":
      return { value: -Math.expm1(-x), slope: Math.exp(-x) };
    case "js_divergence":
      return { value: Math.LN2 + logSigmoid(x), slope: sigmoid(-x) };
    case "alpha_divergence": {
      if (Math.abs(alpha - 1) < LIMIT) return { value: x, slope: 1 };
      const exponent = (alpha - 1) * x;
      return {
        value: Math.expm1(Math.min(exponent, MOST)) / (alpha - 1),
        slope: exponent > MOST ? 0 : Math.exp(exponent),
      };
    }
  }
}
