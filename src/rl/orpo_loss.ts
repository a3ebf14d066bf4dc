/**
 * Odds-ratio preference optimisation (arXiv 2403.07691): supervised learning of the chosen answers and a penalty on the odds of
 * the rejected ones, without a reference.
 *
 * @module
 */
import { meanOf, pairMetrics, sumOf } from "./pair_metrics.ts";
import type { TokenLoss } from "./token_loss.ts";

/** Two answers to a prompt. */
export interface OrpoPair {
  /** ln π per token of the chosen answer; the tokens of the prompt, which are learnt too, may come before. */
  chosen: Float64Array;
  /** Tokens at the beginning of `chosen` that are prompt. */
  promptTokens: number;
  /** ln π per token of the rejected answer. */
  rejected: Float64Array;
}

/**
 * −mean ln π over the tokens of `chosen` of all pairs, minus β times the mean over the pairs of ln σ(ln odds ratio), where an
 * answer's odds are p / (1 − p) and ln p is the mean of ln π over its tokens.
 *
 * With a = 1 / odds of the chosen answer and b likewise of the rejected one, −ln σ = ln(1 + a/b), which is finite where p = 1.
 * Derivatives are of all `chosen`, then of all `rejected`.
 */
export function orpoLoss(pairs: OrpoPair[], { beta }: { beta: number }): TokenLoss {
  const count = pairs.length;
  const answers = pairs.map(({ chosen, promptTokens, rejected }) => ({
    chosen: meanLogprob(chosen.subarray(promptTokens)),
    rejected: meanLogprob(rejected),
  }));
  const inverseOdds = answers.map(({ chosen, rejected }) => ({
    a: Math.expm1(-chosen),
    b: Math.expm1(-rejected),
  }));
  const tokens = pairs.reduce((sum, { chosen }) => sum + chosen.length, 0);
  const nll = -pairs.reduce((sum, { chosen }) => sum + sumOf(chosen), 0) / tokens;
  const logSigmoids = inverseOdds.map(({ a, b }) => -Math.log1p(a / b));

  const share = beta / count;
  const dChosen = pairs.map(({ chosen, promptTokens }, i) => {
    const { a, b } = inverseOdds[i];
    const slope = -share * Math.exp(-answers[i].chosen) / (a + b) / (chosen.length - promptTokens);
    return Float64Array.from(chosen, (_, t) => (t < promptTokens ? 0 : slope) - 1 / tokens);
  });
  const dRejected = pairs.map(({ rejected }, i) => {
    const { a, b } = inverseOdds[i];
    const slope = share * Math.exp(-answers[i].rejected) * a / (b * (a + b)) / rejected.length;
    return new Float64Array(rejected.length).fill(slope);
  });
  return {
    loss: nll - beta * meanOf(logSigmoids),
    dLogprobs: [...dChosen, ...dRejected],
    metrics: {
      ...pairMetrics(
        answers,
        answers.map(({ chosen, rejected }) => ({ chosen: beta * chosen, rejected: beta * rejected })),
      ),
      nll_loss: nll,
      log_odds_ratio: meanOf(logSigmoids),
      log_odds_chosen: meanOf(inverseOdds.map(({ a, b }) => Math.log(b) - Math.log(a))),
    },
  };
}

function meanLogprob(logprobs: Float64Array): number {
  return sumOf(logprobs) / logprobs.length;
}
