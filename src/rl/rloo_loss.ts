/**
 * The loss of RLOO (arXiv 2402.14740): a clipped policy gradient of whole sequences, as in TRL.
 *
 *   L = 1/B Σ_i −min(w_i A_i, clip(w_i, 1 − ε, 1 + ε_high) A_i),   w_i = Π_t π/π_old
 *
 * OpenRLHF and verl clip the ratios of tokens: that is `grpoLoss` with the loss type `dapo`.
 *
 * @module
 */
import type { PerToken, TokenLoss } from "./token_loss.ts";

/** Sequences of one pass. */
export interface RlooInputs {
  /** Of the policy now. */
  logprobs: PerToken;
  /** Of the distributions that tokens are drawn from now, in nats. */
  entropies: PerToken;
  /** The present ones, without a gradient, if not given. */
  oldLogprobs?: PerToken;
  /** One per sequence. */
  advantages: ArrayLike<number>;
  /** Whether the tokens of a sequence count; all if not given. */
  counted?: boolean[];
}

/**
 * The loss of one pass, averaged over its sequences and divided by the `passes` of the step, and its derivatives.
 *
 * @example
 * ```ts
 * import { rlooLoss } from "./rloo_loss.ts";
 * const one = (...numbers: number[]) => [Float64Array.from(numbers)];
 * const { loss, dLogprobs } = rlooLoss(
 *   { logprobs: one(-1, -2), entropies: one(0.5, 0.6), advantages: [2] },
 *   { epsilon: 0.2, passes: 1 },
 * );
 * console.log(loss, [...dLogprobs[0]]); // -2 [-2, -2]
 * ```
 */
export function rlooLoss(
  { logprobs, entropies, oldLogprobs = logprobs, advantages, counted = logprobs.map(() => true) }: RlooInputs,
  { epsilon, epsilonHigh = epsilon, passes }: { epsilon: number; epsilonHigh?: number; passes: number },
): TokenLoss {
  const rows = logprobs.length, weight = 1 / (rows * passes);
  let loss = 0, low = 0, high = 0, entropy = 0, tokens = 0;
  const dLogprobs = logprobs.map((row, i) => {
    const log = counted[i] ? row.reduce((sum, logprob, t) => sum + logprob - oldLogprobs[i][t], 0) : 0;
    const a = advantages[i], ratio = Math.exp(log);
    const inside = ratio >= 1 - epsilon && ratio <= 1 + epsilonHigh;
    const clipped = Math.min(1 + epsilonHigh, Math.max(1 - epsilon, ratio));
    loss -= weight * Math.min(ratio * a, clipped * a);
    if (ratio < 1 - epsilon && a < 0) low++;
    if (ratio > 1 + epsilonHigh && a > 0) high++;
    if (!counted[i]) return new Float64Array(row.length);
    tokens += row.length;
    entropy += entropies[i].reduce((sum, x) => sum + x, 0);
    const learns = inside || ratio * a < clipped * a;
    return new Float64Array(row.length).fill(learns ? -weight * ratio * a : 0);
  });
  return {
    loss,
    dLogprobs,
    metrics: {
      entropy: entropy / Math.max(1, tokens),
      "clip_ratio/low_mean": low / rows,
      "clip_ratio/low_min": low === rows ? 1 : 0,
      "clip_ratio/high_mean": high / rows,
      "clip_ratio/high_max": high > 0 ? 1 : 0,
      "clip_ratio/region_mean": (low + high) / rows,
    },
  };
}
