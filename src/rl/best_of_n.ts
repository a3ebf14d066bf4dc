/**
 * Best-of-n: of n samples the one that a proxy scores highest. No training, and how far it moves from the policy is known.
 *
 * @module
 */

/**
 * KL of the best of n from the policy in nats: ln n − (n − 1)/n. Exact where samples differ and have different scores, else an upper
 * bound (arXiv 2401.01879).
 *
 * @example
 * ```ts
 * import { bestOfNKl } from "./best_of_n.ts";
 * console.log(bestOfNKl(1), bestOfNKl(4).toFixed(3)); // 0 0.636
 * ```
 */
export function bestOfNKl(n: number): number {
  return Math.log(n) - (n - 1) / n;
}

/** Chance that the i-th smallest of `total` samples is the largest of `n` drawn without replacement: C(i, n − 1) / C(total, n). */
export function bestOfNWeights(total: number, n: number): number[] {
  const weights = new Array<number>(total).fill(0);
  let weight = n / total; // of the largest
  for (let i = total - 1; i >= n - 1; i--) {
    weights[i] = weight;
    weight *= (i - n + 1) / i;
  }
  return weights;
}

/** What is known of a sample. */
export interface ScoredSample {
  /** The score by which the best is chosen. */
  proxy: number;
  /** The score that is meant. */
  gold?: number;
}

/**
 * Expected proxy and gold of the best of n by proxy from the samples of one prompt, over all subsets of n; samples of equal proxy
 * are chosen with equal chance. Gold is absent where a sample has none.
 *
 * @example
 * ```ts
 * import { expectedBest } from "./best_of_n.ts";
 * const samples = [{ proxy: 1, gold: 5 }, { proxy: 3, gold: 2 }, { proxy: 2, gold: 2 }];
 * console.log(expectedBest(samples, 1), expectedBest(samples, 3)); // { proxy: 2, gold: 3 } { proxy: 3, gold: 2 }
 * ```
 */
export function expectedBest(samples: ScoredSample[], n: number): ScoredSample {
  const sorted = samples.toSorted((a, b) => a.proxy - b.proxy), weights = bestOfNWeights(samples.length, n);
  const hasGold = samples.every(({ gold }) => gold !== undefined);
  let proxy = 0, gold = 0;
  for (let from = 0; from < sorted.length;) {
    let to = from, weight = 0, sum = 0;
    for (; to < sorted.length && sorted[to].proxy === sorted[from].proxy; to++) {
      weight += weights[to];
      sum += sorted[to].gold ?? 0;
    }
    proxy += weight * sorted[from].proxy;
    gold += weight * sum / (to - from);
    from = to;
  }
  return hasGold ? { proxy, gold } : { proxy };
}
