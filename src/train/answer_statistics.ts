/**
 * What TRL reports of the tokens of answers in methods on preferences.
 *
 * @module
 */
import type { PerToken } from "../rl/token_loss.ts";
import type { TokenScores } from "./policy_pass.ts";

/**
 * Means over the tokens of answers: `entropy`; `logits/chosen`, `logits/rejected`, of the mean over the vocabulary; and
 * `mean_token_accuracy`, how often a token of a chosen answer is the most likely one. What there are no tokens for is left out.
 */
export function answerStatistics(scores: TokenScores, chosen: boolean[]): Record<string, number> {
  const { correct, meanLogit } = scores.statistics!;
  const of = (all: PerToken, side: boolean) => all.filter((_, i) => chosen[i] === side);
  const means: [string, PerToken][] = [
    ["entropy", scores.entropies],
    ["logits/chosen", of(meanLogit, true)],
    ["logits/rejected", of(meanLogit, false)],
    ["mean_token_accuracy", of(correct, true)],
  ];
  return Object.fromEntries(means.flatMap(([name, rows]) => {
    const count = rows.reduce((sum, row) => sum + row.length, 0);
    const total = rows.reduce((sum, row) => sum + row.reduce((a, b) => a + b, 0), 0);
    return count ? [[name, total / count]] : [];
  }));
}
