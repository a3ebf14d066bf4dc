/**
 * Direct preference optimisation (arXiv 2305.18290) and its kin: losses of pairs of answers, from their log-probabilities under
 * the policy and a frozen reference. The terms are in `dpo_terms.ts`.
 *
 * @module
 */
import { divergenceScore, type FDivergence } from "./divergence.ts";
import {
  pairTerm,
  RATIO_TYPES,
  SCORE_TYPES,
  type Side,
  smoothedSigmoid,
  type TermOptions,
  type TermType,
} from "./dpo_terms.ts";
import { pairMetrics, sumOf } from "./pair_metrics.ts";
import type { TokenLoss } from "./token_loss.ts";

/**
 * TRL's loss types, and `cdpo`. Besides those of `dpo_terms.ts`: `aot` and `aot_unpaired` compare the sorted log-ratios of a
 * micro-batch (arXiv 2406.05882); `sft` is the negative log-likelihood of the chosen answers' tokens.
 */
export const DPO_LOSS_TYPES = [...SCORE_TYPES, ...RATIO_TYPES, "aot", "aot_unpaired", "sft"] as const;

/** One of {@linkcode DPO_LOSS_TYPES}. */
export type DpoLossType = typeof DPO_LOSS_TYPES[number];

/** Choices of {@linkcode dpoLoss}, under TRL's names. */
export interface DpoLossOptions extends TermOptions {
  /** What is learnt; several are added up. */
  lossType: DpoLossType[];
  /** One per type; 1 each if not given. */
  lossWeights?: number[];
  /** Divergence that holds the policy near the reference. */
  fDivergenceType: FDivergence;
  /** α of the alpha divergence. */
  fAlphaDivergenceCoef: number;
  /** Weight of the log-probabilities of tokens beyond the shorter answer's length (LD-DPO, arXiv 2409.06411); 1 if not given. */
  ldAlpha?: number;
  /** Weights pairs by how likely the policy is to give both answers (WPO, arXiv 2406.11827). */
  useWeighting: boolean;
}

/** Two answers to a prompt. */
export interface PreferencePair {
  /** ln π per token of the better answer. */
  chosen: Float64Array;
  /** Likewise of the other. */
  rejected: Float64Array;
  /** {@linkcode answerLogprobs} of the reference. */
  ref: { chosen: number; rejected: number };
  /** ln Σ π² of the next-token distribution per token, which the weighting needs. */
  logSumSquares?: { chosen: Float64Array; rejected: Float64Array };
}

/** What is wrong with a choice of options, if anything. */
export function dpoProblem(options: DpoLossOptions): string | undefined {
  const { lossType: types, lossWeights, fDivergenceType, labelSmoothing, useWeighting } = options;
  const scored: readonly string[] = [...SCORE_TYPES, "sft"];
  const others = types.filter((type) => !scored.includes(type));
  if (fDivergenceType !== "reverse_kl" && others.length) {
    return `f_divergence_type ${fDivergenceType} does not go with loss_type ${
      others.join(", ")
    }, because its normaliser cancels only in differences of scores. Expected reverse_kl, or one of ${
      scored.join(", ")
    }.`;
  }
  if (types.includes("exo_pair") && labelSmoothing === 0) {
    return "loss_type exo_pair needs a label_smoothing above 0; its paper recommends 1e-3.";
  }
  if (types.includes("robust") && labelSmoothing >= 0.5) {
    return `loss_type robust needs a label_smoothing below 0.5; got ${labelSmoothing}.`;
  }
  if (lossWeights && lossWeights.length !== types.length) {
    return `loss_weights has ${lossWeights.length} numbers for ${types.length} loss types. Expected one for each.`;
  }
  const unweighted = types.filter((type) => ["aot", "aot_unpaired", "sft"].includes(type));
  if (useWeighting && unweighted.length) {
    return `use_weighting weighs pairs, which loss_type ${
      unweighted.join(", ")
    } does not compare one by one. Leave one of the two out.`;
  }
}

/** ln π of both answers: the sum over their tokens, those beyond the shorter answer's length times `ldAlpha`. */
export function answerLogprobs(
  chosen: Float64Array,
  rejected: Float64Array,
  ldAlpha = 1,
): { chosen: number; rejected: number } {
  const shared = Math.min(chosen.length, rejected.length);
  const sum = (all: Float64Array) => {
    const tail = ldAlpha === 0 ? 0 : ldAlpha * sumOf(all.subarray(shared));
    return sumOf(all.subarray(0, shared)) + tail;
  };
  return { chosen: sum(chosen), rejected: sum(rejected) };
}

/**
 * The loss of a micro-batch: the weighted sum over the types of the mean over the pairs. Derivatives are of all chosen answers,
 * then of all rejected ones.
 *
 * @example
 * ```ts
 * import { dpoLoss } from "./dpo_loss.ts";
 * const pair = {
 *   chosen: Float64Array.of(-1, -0.5),
 *   rejected: Float64Array.of(-2),
 *   ref: { chosen: -1.5, rejected: -2 },
 * };
 * const { loss } = dpoLoss([pair], {
 *   lossType: ["sigmoid"],
 *   beta: 0.1,
 *   labelSmoothing: 0,
 *   discopopTau: 0.05,
 *   fDivergenceType: "reverse_kl",
 *   fAlphaDivergenceCoef: 0.5,
 *   useWeighting: false,
 *   ipoLengthNormalization: true,
 * });
 * console.log(loss); // 0.6931471805599453: the policy is still the reference
 * ```
 */
export function dpoLoss(pairs: PreferencePair[], options: DpoLossOptions): TokenLoss {
  const { beta, lossType, ldAlpha = 1 } = options;
  const logps = pairs.map(({ chosen, rejected }) => answerLogprobs(chosen, rejected, ldAlpha));
  const sides = pairs.map((pair, i) => ({
    chosen: sideOf(logps[i].chosen - pair.ref.chosen, pair.chosen.length, options),
    rejected: sideOf(logps[i].rejected - pair.ref.rejected, pair.rejected.length, options),
  }));
  const weights = pairs.map((pair) => options.useWeighting ? pairWeight(pair) : 1);
  const count = pairs.length;

  let loss = 0, likelihood = 0;
  const dChosen = new Float64Array(count), dRejected = new Float64Array(count);
  for (const [t, type] of lossType.entries()) {
    const share = options.lossWeights?.[t] ?? 1;
    if (type === "sft") {
      likelihood += share;
      continue;
    }
    const terms = type === "aot" || type === "aot_unpaired"
      ? sortedTerms(type, pairs, logps, options)
      : sides.map(({ chosen, rejected }) => pairTerm(type as TermType, chosen, rejected, options));
    terms.forEach((term, i) => {
      const weight = share * weights[i] / count;
      loss += weight * term.loss;
      dChosen[i] += weight * term.dChosen;
      dRejected[i] += weight * term.dRejected;
    });
  }
  const tokens = Math.max(1, pairs.reduce((sum, { chosen }) => sum + chosen.length, 0));
  if (likelihood) {
    loss -= likelihood * pairs.reduce((sum, { chosen }) => sum + sumOf(chosen), 0) / tokens;
  }

  const spread = (length: number, shared: number, d: number, extra: number) =>
    Float64Array.from({ length }, (_, t) => d * (t < shared ? 1 : ldAlpha) + extra);
  const shared = pairs.map(({ chosen, rejected }) => Math.min(chosen.length, rejected.length));
  return {
    loss,
    dLogprobs: [
      ...pairs.map((pair, i) => spread(pair.chosen.length, shared[i], dChosen[i], -likelihood / tokens)),
      ...pairs.map((pair, i) => spread(pair.rejected.length, shared[i], dRejected[i], 0)),
    ],
    metrics: pairMetrics(
      logps,
      sides.map(({ chosen, rejected }) => ({
        chosen: beta * chosen.logRatio,
        rejected: beta * rejected.logRatio,
      })),
    ),
  };
}

function sideOf(logRatio: number, tokens: number, options: DpoLossOptions): Side {
  const score = divergenceScore(options.fDivergenceType, logRatio, options.fAlphaDivergenceCoef);
  return { logRatio, score, tokens };
}

/** e^(mean over tokens of ln π − ln Σ π²), of both answers, as a constant. */
function pairWeight({ chosen, rejected, logSumSquares }: PreferencePair): number {
  if (!logSumSquares) throw new Error("A weighted loss needs ln Σ π² of each token, and got none.");
  const mean = (logprobs: Float64Array, squares: Float64Array) =>
    (sumOf(logprobs) - sumOf(squares)) / Math.max(1, logprobs.length);
  return Math.exp(mean(chosen, logSumSquares.chosen) + mean(rejected, logSumSquares.rejected));
}

/** Terms of alignment by optimal transport: the k-th largest number of one side is compared with that of the other. */
function sortedTerms(
  type: "aot" | "aot_unpaired",
  pairs: PreferencePair[],
  logps: { chosen: number; rejected: number }[],
  { beta, labelSmoothing }: DpoLossOptions,
) {
  const paired = type === "aot";
  const upper = pairs.map(({ ref }, i) => logps[i].chosen - (paired ? logps[i].rejected : ref.chosen));
  const lower = pairs.map(({ ref }, i) =>
    paired ? ref.chosen - ref.rejected : logps[i].rejected - ref.rejected
  );
  const terms = pairs.map(() => ({ loss: 0, dChosen: 0, dRejected: 0 }));
  const above = orderOf(upper), below = orderOf(lower);
  above.forEach((i, k) => {
    const j = below[k];
    const { value, slope } = smoothedSigmoid(beta * (upper[i] - lower[j]), labelSmoothing);
    terms[i].loss += value;
    terms[i].dChosen += beta * slope;
    terms[paired ? i : j].dRejected -= beta * slope;
  });
  return terms;
}

/** Indices from the smallest value to the largest. */
function orderOf(values: number[]): number[] {
  return values.map((_, i) => i).sort((a, b) => values[a] - values[b] || a - b);
}
