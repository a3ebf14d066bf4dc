/**
 * Advantages per token without a critic, from a score per completion and a KL penalty per token: REINFORCE++
 * (arXiv 2501.03262) and what others put under RLOO's name.
 *
 * @module
 */
import { moments } from "./whiten.ts";
import type { PerToken } from "./token_loss.ts";

/** Rewards r_t = −β KL_t with the score added at the last token; a score that is NaN (unknown) makes them all 0. */
export function tokenRewards(scores: ArrayLike<number>, kl: PerToken, beta: number): PerToken {
  return kl.map((row, i) => {
    if (Number.isNaN(scores[i])) return new Float64Array(row.length);
    const rewards = row.map((value) => -beta * value);
    rewards[rewards.length - 1] += scores[i];
    return rewards;
  });
}

/**
 * Discounted sums of the rewards from each token on: G_t = r_t + γ G_{t+1}.
 *
 * @example
 * ```ts
 * import { returnsToGo } from "./token_advantages.ts";
 * console.log([...returnsToGo([Float64Array.of(-0.5, 0, 2)], 1)[0]]); // [1.5, 2, 2]
 * ```
 */
export function returnsToGo(rewards: PerToken, gamma: number): PerToken {
  return rewards.map((row) => {
    const returns = row.slice();
    for (let t = returns.length - 2; t >= 0; t--) returns[t] += gamma * returns[t + 1];
    return returns;
  });
}

/** Smallest variance that is divided by, as in OpenRLHF. */
const LEAST_VARIANCE = 1e-8;

/**
 * (A − mean) / deviation over all tokens of the sequences that count; 0 for those of the others.
 *
 * @param unbiased n − 1 below the variance (verl), else n (OpenRLHF)
 */
export function normaliseTokens(advantages: PerToken, counted: boolean[], unbiased: boolean): PerToken {
  const all = advantages.filter((_, i) => counted[i]).flatMap((row) => Array.from(row));
  if (all.length === 0) return advantages.map((row) => new Float64Array(row.length));
  const { mean, variance } = moments(all, unbiased);
  const scale = 1 / Math.sqrt(Math.max(variance, LEAST_VARIANCE));
  return advantages.map((row, i) => counted[i] ? row.map((x) => (x - mean) * scale) : row.map(() => 0));
}
