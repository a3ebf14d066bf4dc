/**
 * The loss of GRPO (arXiv 2402.03300) and its kin on sequences with known advantages.
 *
 *   L = Σ_i Σ_t c_it (m_it L_it + β KL_it) − coef · mean entropy
 *
 * L_it are the terms of `grpo_terms.ts`, m_it masks and corrections, and c_it the weight that the loss type gives a token,
 * with B sequences of n_i tokens in a pass and G passes in a step:
 *
 *   grpo, sapo, gmpo       1 / (n_i B G)
 *   bnpo                   1 / (Σ n_i G)
 *   dr_grpo                1 / (B · max_completion_length · G) (arXiv 2503.20783)
 *   dapo, cispo, vespo     1 / the tokens of the whole step (arXiv 2503.14476)
 *   luspo                  1 / (B G) (arXiv 2602.05261)
 *
 * @module
 */
import { type GrpoTermOptions, numberAt, type SequenceTerms, sequenceTerms } from "./grpo_terms.ts";
import { klEstimate, type KlEstimator } from "./kl.ts";
import type { PerToken, TokenLoss } from "./token_loss.ts";

/** Settings of the loss, under TRL's names. */
export interface GrpoLossOptions extends GrpoTermOptions {
  /** β of the KL term; 0 for none. */
  beta: number;
  /** Estimator of KL(π‖π_ref) per token; TRL has k3. */
  klEstimator: KlEstimator;
  /**
   * Multiplies an estimated KL term by the ratio, through which its gradient goes, too (arXiv 2512.02556). The exact KL is not
   * of the token that was drawn, so that token's ratio has no place in it.
   */
  useBiasCorrectionKl: boolean;
  /** Share of the tokens, those of highest entropy, that the policy's term is taken of (arXiv 2506.01939). */
  topEntropyQuantile: number;
  /** Weight of the mean entropy that is taken off the loss. */
  entropyCoef: number;
  /** Drops sequences with A < 0 whose mean of ln π_sampled − ln π passes this (arXiv 2512.02556). */
  offPolicyMaskThreshold?: number;
}

/** Sequences of one pass; per token unless said otherwise. */
export interface GrpoInputs {
  /** Of the policy now. */
  logprobs: PerToken;
  /** Of the distributions that tokens are drawn from now, in nats. */
  entropies: PerToken;
  /** When the completions were sampled, or when learning from them began; the present ones, without a gradient, if not given. */
  oldLogprobs?: PerToken;
  /** Needed where β is not 0 and the KL is estimated. */
  refLogprobs?: PerToken;
  /** Needed where β is not 0 and the KL is exact. */
  exactKl?: PerToken;
  /** One for each token, or one for the sequence. */
  advantages: PerToken;
  /** Whether a sequence counts; all if not given. Those that do not stay in the number of sequences. */
  counted?: boolean[];
  /** Corrections for another sampler, one for each token or one for the sequence. */
  samplingWeights?: PerToken;
  /** As drawn, for the off-policy mask; `oldLogprobs` if not given. */
  samplingLogprobs?: PerToken;
}

/** What the loss of a pass is divided by. */
export interface LossScale {
  /** Passes of the step. */
  passes: number;
  /** Tokens of the step that count; the default of `dapo`, `cispo` and `vespo` is divided by it. */
  tokens: number;
  /** Limit on a completion's tokens, which `dr_grpo` divides by. */
  maxCompletionLength: number;
}

/**
 * The loss of one pass and its derivatives.
 *
 * @example
 * ```ts
 * import { GRPO_DEFAULTS, grpoLoss } from "./grpo_loss.ts";
 * const one = (...numbers: number[]) => [Float64Array.from(numbers)];
 * const { loss, dLogprobs } = grpoLoss(
 *   { logprobs: one(-1, -2), entropies: one(0.5, 0.6), advantages: one(2) },
 *   GRPO_DEFAULTS,
 *   { passes: 1, tokens: 2, maxCompletionLength: 8 },
 * );
 * console.log(loss, [...dLogprobs[0]]); // -2 [-1, -1]
 * ```
 */
export function grpoLoss(inputs: GrpoInputs, options: GrpoLossOptions, scale: LossScale): TokenLoss {
  const { logprobs, advantages, entropies, samplingWeights, exactKl } = inputs;
  const { beta, lossType, useBiasCorrectionKl } = options;
  const counted = inputs.counted ?? logprobs.map(() => true);
  const old = inputs.oldLogprobs ?? logprobs;
  const chosen = highEntropy(entropies, counted, options.topEntropyQuantile);
  const weights = tokenWeights(logprobs, counted, options, scale);
  const zeros = () => logprobs.map((row) => new Float64Array(row.length));
  const dLogprobs = zeros(), kl = zeros();
  const dKl = beta !== 0 && options.klEstimator === "exact" ? zeros() : undefined;
  let loss = 0;
  const terms = logprobs.map((row, i) => {
    const one = sequenceTerms({
      logprobs: row,
      // What does not count has a ratio of 1 in what is averaged over sequences, as in TRL.
      oldLogprobs: counted[i] ? old[i] : row,
      advantages: advantages[i],
      chosen: chosen[i],
      samplingWeights: samplingWeights?.[i],
    }, options);
    if (!counted[i]) return one;
    const far = driftOf(row, inputs.samplingLogprobs?.[i] ?? old[i]) >
      (options.offPolicyMaskThreshold ?? Infinity);
    const viaRatio = new Float64Array(row.length);
    for (let t = 0; t < row.length; t++) {
      const masked = lossType === "gmpo" ? 1 : chosen[i][t];
      const kept = far && numberAt(advantages[i], t) < 0 ? 0 : masked;
      const correction = samplingWeights && lossType !== "vespo" ? numberAt(samplingWeights[i], t) : 1;
      const weight = weights[i] * kept * correction;
      loss += weight * one.values[t];
      dLogprobs[i][t] += weight * one.direct[t];
      viaRatio[t] += weight * one.viaRatio[t];
      if (beta === 0) continue;
      const { value, slope } = klOf(
        options.klEstimator,
        row[t],
        inputs.refLogprobs?.[i]?.[t],
        exactKl?.[i]?.[t],
      );
      const corrected = useBiasCorrectionKl && lossType !== "gmpo" && options.klEstimator !== "exact",
        factor = corrected ? one.ratios[t] : 1;
      kl[i][t] = value * factor;
      loss += weights[i] * beta * kl[i][t];
      if (dKl) dKl[i][t] += weights[i] * beta * factor;
      else dLogprobs[i][t] += weights[i] * beta * factor * slope;
      if (corrected) viaRatio[t] += weights[i] * beta * kl[i][t];
    }
    throughRatio(viaRatio, one, options, dLogprobs[i]);
    return one;
  });
  const metrics = metricsOf(terms, inputs, counted, options);
  if (beta !== 0) metrics.kl = tokenMean(kl, counted);
  if (options.entropyCoef === 0) return { loss, dLogprobs, ...(dKl && { dKl }), metrics };

  const policyLoss = loss * (DIVIDED_BY_PASSES.includes(lossType) ? scale.passes : 1);
  const effective = chosen.map((row, i) => counted[i] ? row : row.map(() => 0));
  const count = Math.max(1, effective.reduce((n, row) => n + row.reduce((a, b) => a + b, 0), 0));
  const share = options.entropyCoef / (count * scale.passes);
  effective.forEach((row, i) => row.forEach((on, t) => loss -= share * on * entropies[i][t]));
  const dEntropies = effective.map((row) => row.map((on) => -share * on));
  metrics.policy_loss = policyLoss;
  return { loss, dLogprobs, dEntropies, ...(dKl && { dKl }), metrics };
}

/** Sum of the entropies of the tokens that are learnt from, and their number: what the controller of the bonus looks at. */
export function learntEntropy(
  { entropies, counted = entropies.map(() => true) }: Pick<GrpoInputs, "entropies" | "counted">,
  topEntropyQuantile: number,
): { sum: number; count: number } {
  const chosen = highEntropy(entropies, counted, topEntropyQuantile);
  const all = entropies.flatMap((row, i) => counted[i] ? Array.from(row).filter((_, t) => chosen[i][t]) : []);
  return { sum: all.reduce((a, b) => a + b, 0), count: all.length };
}

/** TRL's defaults. */
export const GRPO_DEFAULTS: GrpoLossOptions = {
  lossType: "dapo",
  importanceSamplingLevel: "token",
  epsilon: 0.2,
  beta: 0,
  klEstimator: "k3",
  useBiasCorrectionKl: true,
  topEntropyQuantile: 1,
  entropyCoef: 0,
  sapoTemperaturePos: 1,
  sapoTemperatureNeg: 1.05,
  vespoKPos: 2,
  vespoLambdaPos: 3,
  vespoKNeg: 3,
  vespoLambdaNeg: 2,
};

/** Loss types whose weights have the number of passes below the line. */
const DIVIDED_BY_PASSES: string[] = ["grpo", "sapo", "gmpo", "bnpo", "dr_grpo", "luspo"];

/** c_it, the same for all tokens of a sequence. */
function tokenWeights(
  logprobs: PerToken,
  counted: boolean[],
  { lossType }: GrpoLossOptions,
  { passes, tokens, maxCompletionLength }: LossScale,
): number[] {
  const rows = logprobs.length;
  const own = logprobs.reduce((n, row, i) => n + (counted[i] ? row.length : 0), 0);
  return logprobs.map((row) => {
    switch (lossType) {
      case "grpo":
      case "sapo":
      case "gmpo":
        return 1 / (Math.max(1, row.length) * rows * passes);
      case "bnpo":
        return 1 / (Math.max(1, own) * passes);
      case "dr_grpo":
        return 1 / (rows * maxCompletionLength * passes);
      case "luspo":
        return 1 / (rows * passes);
      default:
        return 1 / Math.max(1, tokens);
    }
  });
}

/** The KL of a token and d KL / d ln π. */
function klOf(
  kind: KlEstimator,
  logprob: number,
  refLogprob: number | undefined,
  exact: number | undefined,
): { value: number; slope: number } {
  if (kind === "exact") {
    if (exact === undefined) throw new Error("The exact KL was asked for, but there is none for a token.");
    return { value: exact, slope: 0 };
  }
  if (refLogprob === undefined) {
    throw new Error("A KL term needs the log-probabilities of a reference; a token has none.");
  }
  const slope = kind === "k1" ? 1 : kind === "k2" ? logprob - refLogprob : -Math.expm1(refLogprob - logprob);
  return { value: klEstimate(kind, logprob, refLogprob), slope };
}

/** Adds d loss / d ln π of what depends on the ratio: of a token its own, of a sequence that of all its tokens. */
function throughRatio(
  viaRatio: Float64Array,
  { share }: SequenceTerms,
  { lossType, importanceSamplingLevel }: GrpoLossOptions,
  dLogprobs: Float64Array,
): void {
  const wholeSequence = importanceSamplingLevel === "sequence" || lossType === "gmpo";
  const sum = viaRatio.reduce((a, b) => a + b, 0);
  for (let t = 0; t < dLogprobs.length; t++) {
    dLogprobs[t] += share[t] * (wholeSequence ? sum : viaRatio[t]);
  }
}

/** Mean of ln π_sampled − ln π. */
function driftOf(logprobs: Float64Array, sampled: Float64Array): number {
  return logprobs.reduce((sum, logprob, t) => sum + sampled[t] - logprob, 0) / Math.max(1, logprobs.length);
}

/** 1 where a token is among the share `quantile` of highest entropy, else 0; the threshold is interpolated, as in PyTorch. */
function highEntropy(entropies: PerToken, counted: boolean[], quantile: number): PerToken {
  if (quantile >= 1) return entropies.map((row) => new Float64Array(row.length).fill(1));
  const all = Float64Array.from(entropies.filter((_, i) => counted[i]).flatMap((row) => [...row])).sort();
  const at = (1 - quantile) * (all.length - 1), below = Math.floor(at), above = Math.ceil(at);
  const threshold = all[below] + (all[above] - all[below]) * (at - below);
  return entropies.map((row) => row.map((entropy) => entropy >= threshold ? 1 : 0));
}

/** Mean over the tokens that count. */
function tokenMean(values: PerToken, counted: boolean[]): number {
  let sum = 0, count = 0;
  values.forEach((row, i) => {
    if (!counted[i]) return;
    count += row.length;
    row.forEach((x) => sum += x);
  });
  return sum / Math.max(1, count);
}

function metricsOf(
  terms: SequenceTerms[],
  { advantages, entropies }: GrpoInputs,
  counted: boolean[],
  { lossType, importanceSamplingLevel }: GrpoLossOptions,
): Record<string, number> {
  const metrics: Record<string, number> = { entropy: tokenMean(entropies, counted) };
  // As in TRL, what is one number of a sequence is averaged over sequences.
  const whole = advantages.every((row) => row.length === 1) &&
    (lossType === "vespo" || (importanceSamplingLevel === "sequence" && lossType !== "gmpo"));
  const first = (row: Float64Array) => row.length ? row[0] : 0;
  const mean = (rows: PerToken) =>
    whole ? rows.reduce((sum, row) => sum + first(row), 0) / rows.length : tokenMean(rows, counted);
  const ofSequences = (rows: PerToken) =>
    rows.flatMap((row, i) =>
      whole ? [first(row)] : counted[i] && row.length ? [row.reduce((a, b) => a + b, 0) / row.length] : []
    );
  const low = terms.map((one) => one.low), high = terms.map((one) => one.high);
  if (lossType === "cispo") return { ...metrics, cispo_clip_ratio: mean(high) };
  if (lossType === "vespo") return { ...metrics, "vespo/phi_seq_mean": mean(terms.map((one) => one.phi!)) };
  if (lossType === "sapo") return metrics;
  const lowest = ofSequences(low), highest = ofSequences(high);
  return {
    ...metrics,
    "clip_ratio/low_mean": mean(low),
    "clip_ratio/high_mean": mean(high),
    "clip_ratio/region_mean": mean(low) + mean(high),
    "clip_ratio/low_min": lowest.length ? Math.min(...lowest) : 0,
    "clip_ratio/high_max": highest.length ? Math.max(...highest) : 0,
  };
}
