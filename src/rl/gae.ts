/**
 * Generalised advantage estimation (arXiv 1506.02438) over one sequence.
 *
 * @module
 */

/** Advantages and returns of one sequence, each as long as the rewards. */
export interface Gae {
  /** A_t. */
  advantages: Float64Array;
  /** advantage + value: what the critic learns. */
  returns: Float64Array;
}

/**
 * δ_t = r_t + γ V_{t+1} − V_t and A_t = δ_t + γλ A_{t+1}, with V = 0 past the end.
 *
 * @param rewards [time]
 * @param values [time], the critic's value before each token
 * @param gamma discount γ in [0, 1]
 * @param lam λ in [0, 1]
 *
 * @example
 * ```ts
 * import { gae } from "./gae.ts";
 * const { advantages } = gae([0, 0, 1], [0.5, 0.5, 0.5], 1, 1);
 * console.log([...advantages]); // [0.5, 0.5, 0.5]
 * ```
 */
export function gae(rewards: ArrayLike<number>, values: ArrayLike<number>, gamma: number, lam: number): Gae {
  if (rewards.length !== values.length) {
    throw new Error(`GAE needs as many values as rewards; got ${values.length} and ${rewards.length}.`);
  }
  const advantages = new Float64Array(rewards.length), returns = new Float64Array(rewards.length);
  let next = 0;
  for (let t = rewards.length - 1; t >= 0; t--) {
    const nextValue = t + 1 < values.length ? values[t + 1] : 0;
    next = rewards[t] + gamma * nextValue - values[t] + gamma * lam * next;
    advantages[t] = next;
    returns[t] = next + values[t];
  }
  return { advantages, returns };
}
