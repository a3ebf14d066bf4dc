/**
 * Scores of completions from any sources of rewards, for methods that need a number for each.
 *
 * @module
 */
import type { PromptRow } from "../data/tokenize.ts";
import {
  rewardBatch,
  type RewardSource,
  type SampledCompletion,
  scoreBatch,
  sourceMetrics,
} from "../reward/source.ts";
import { rewardMetrics, sumRewards } from "../rl/group_advantages.ts";

/** Scores a batch of completions: one number for each, and metrics of the sources. */
export type CompletionScorer<P> = (
  prompts: P[],
  completions: SampledCompletion[],
  step: number,
) => Promise<{ scores: number[]; metrics: Record<string, number> }>;

/**
 * The weighted sum of the sources' rewards. A completion that no source could score gets the mean of the others, which neither
 * rewards nor punishes it; `rewards/unscored` counts those.
 *
 * @param decode text of token ids, without special tokens
 */
export function completionScorer(
  sources: RewardSource[],
  decode: (ids: number[]) => string,
): CompletionScorer<PromptRow> {
  const names = sources.map(({ name }) => name), weights = sources.map(({ weight }) => weight);
  return async (prompts, completions, step) => {
    const values = await scoreBatch(sources, rewardBatch(prompts, completions, decode, step));
    const sums = sumRewards(values, weights), known = sums.filter((sum) => !Number.isNaN(sum));
    const mean = known.reduce((a, b) => a + b, 0) / Math.max(1, known.length);
    return {
      scores: Array.from(sums, (sum) => Number.isNaN(sum) ? mean : sum),
      metrics: {
        ...rewardMetrics(names, values, sums),
        ...sourceMetrics(sources),
        ...(known.length < sums.length && { "rewards/unscored": sums.length - known.length }),
      },
    };
  };
}
