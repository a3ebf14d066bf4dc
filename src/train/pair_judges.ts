/**
 * Who says which of a prompt's two completions is better: rewards, or a judge that is shown both.
 *
 * @module
 */
import type { PromptRow } from "../data/tokenize.ts";
import type { Judge } from "../reward/judge.ts";
import { allEnded } from "../reward/settle.ts";
import {
  rewardBatch,
  type RewardSource,
  type SampledCompletion,
  scoreBatch,
  sourceMetrics,
} from "../reward/source.ts";
import { rewardMetrics, sumRewards } from "../rl/group_advantages.ts";

/** Two completions of a prompt. */
export interface CompletionPair {
  /** The prompt. */
  row: PromptRow;
  /** In the order in which they were sampled. */
  completions: [SampledCompletion, SampledCompletion];
}

/** What is said of pairs. */
export interface PairVerdicts {
  /** Which of the two is better; null where neither is, or nobody can tell. */
  better: (0 | 1 | null)[];
  /** Scores by which that was decided, where there are any; null for a completion that has none. */
  scores?: [number | null, number | null][];
  /** Metrics of whoever decided. */
  metrics: Record<string, number>;
}

/** Says of pairs which completion is better. */
export type PairJudge = (pairs: CompletionPair[], step: number) => Promise<PairVerdicts>;

const flat = (pairs: CompletionPair[]) => ({
  rows: pairs.flatMap(({ row }) => [row, row]),
  completions: pairs.flatMap(({ completions }) => completions),
});

/**
 * The completion with the larger weighted sum of rewards. `missingEosPenalty` is taken off the sum of a completion that no stop
 * token ended.
 *
 * @param decode text of token ids, without special tokens
 */
export function judgeByRewards(
  sources: RewardSource[],
  decode: (ids: number[]) => string,
  missingEosPenalty = 0,
): PairJudge {
  const names = sources.map(({ name }) => name), weights = sources.map(({ weight }) => weight);
  return async (pairs, step) => {
    const { rows, completions } = flat(pairs);
    const values = await scoreBatch(sources, rewardBatch(rows, completions, decode, step));
    const sums = sumRewards(values, weights);
    const score = (i: number) =>
      Number.isNaN(sums[i]) ? null : sums[i] - (completions[i].ended ? 0 : missingEosPenalty);
    const scores = pairs.map((_, i): [number | null, number | null] => [score(2 * i), score(2 * i + 1)]);
    return {
      better: scores.map(([a, b]) => a === null || b === null || a === b ? null : a > b ? 0 : 1),
      scores,
      metrics: { ...rewardMetrics(names, values, sums), ...sourceMetrics(sources) },
    };
  };
}

/** The completion that a judge prefers in both orders. */
export function judgeByComparison(judge: Judge, decode: (ids: number[]) => string): PairJudge {
  return async (pairs, step) => {
    const { rows, completions } = flat(pairs);
    const { prompts, completions: texts } = rewardBatch(rows, completions, decode, step);
    const words = await allEnded(
      pairs.map((_, i) => judge.compare(prompts[2 * i], texts[2 * i], texts[2 * i + 1])),
    );
    return {
      better: words.map(({ better }) => better === "first" ? 0 : better === "second" ? 1 : null),
      metrics: judge.metrics(),
    };
  };
}
