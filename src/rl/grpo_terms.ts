/**
 * The terms of a clipped policy gradient, token by token, of one sequence: the loss types of GRPO's kin.
 *
 * With w = π/π_old, of a token or the geometric mean of a sequence, and the advantage A:
 *
 *   grpo, bnpo, dr_grpo, dapo, luspo   −min(w A, clip(w, 1 − ε, 1 + ε_high) A), the first w at most δ where there is one
 *   cispo (arXiv 2506.13585)           −sg(min(w, ε_high)) A ln π
 *   sapo (arXiv 2511.20347)            −4/τ σ(τ (w − 1)) A, with a τ for each sign of A
 *   vespo (arXiv 2602.10693)           −sg(φ(W)) A ln π, φ(W) = exp(λ + k ln W − λ W), W = Π w, k and λ for each sign of A
 *   gmpo (arXiv 2507.20673)            −w̃ A, w̃ the geometric mean of the ratios clipped to e^(−ε) … e^(ε_high)
 *
 * where sg stops the gradient. The loss types differ in how terms are averaged, too: see `grpo_loss.ts`.
 *
 * @module
 */

/** Loss types under TRL's names; `gmpo` is a trainer of its own there. */
export type GrpoLossType =
  | "grpo"
  | "bnpo"
  | "dr_grpo"
  | "dapo"
  | "cispo"
  | "sapo"
  | "luspo"
  | "vespo"
  | "gmpo";

/** Whether ratios are those of tokens or of sequences: GSPO (arXiv 2507.18071). */
export type ImportanceSamplingLevel = "token" | "sequence";

/** Settings of the terms, under TRL's names. */
export interface GrpoTermOptions {
  /** Which terms, and in `grpoLoss` which averages. */
  lossType: GrpoLossType;
  /** Ratios of tokens or of sequences. */
  importanceSamplingLevel: ImportanceSamplingLevel;
  /** ε. */
  epsilon: number;
  /** ε_high; ε if not given. With `cispo` not a distance from 1 but the largest ratio itself. */
  epsilonHigh?: number;
  /** δ, the largest ratio whatever the sign of A (two-sided clipping, arXiv 2505.07291). */
  delta?: number;
  /** τ of `sapo` where A > 0. */
  sapoTemperaturePos: number;
  /** τ of `sapo` elsewhere. */
  sapoTemperatureNeg: number;
  /** k of `vespo` where A ≥ 0. */
  vespoKPos: number;
  /** λ of `vespo` where A ≥ 0. */
  vespoLambdaPos: number;
  /** k of `vespo` where A < 0. */
  vespoKNeg: number;
  /** λ of `vespo` where A < 0. */
  vespoLambdaNeg: number;
}

/** One sequence. Arrays are one number per token, or one for the whole sequence where that is allowed. */
export interface SequenceInputs {
  logprobs: Float64Array;
  oldLogprobs: Float64Array;
  /** Per token or one. */
  advantages: Float64Array;
  /** Of the tokens that a geometric mean is taken over: 1 or 0. */
  chosen: Float64Array;
  /** Weights that correct for another sampler (per token or one), which `vespo` takes into W. */
  samplingWeights?: Float64Array;
}

/** Terms of one sequence, one number per token. */
export interface SequenceTerms {
  values: Float64Array;
  /** d value / d ln π of the same token, the ratio held fixed. */
  direct: Float64Array;
  /** d value / d ln w. */
  viaRatio: Float64Array;
  /** d ln w / d ln π of the token: 1, or its share in the sequence's mean. */
  share: Float64Array;
  /** w before any clipping. */
  ratios: Float64Array;
  /** Clipped below, with A < 0. */
  low: Float64Array;
  /** Clipped above, with A > 0. */
  high: Float64Array;
  /** φ of `vespo`. */
  phi?: Float64Array;
}

/** The number of token t, where there is one per token or one for all. */
export function numberAt(values: Float64Array, t: number): number {
  return values.length === 1 ? values[0] : values[t];
}

/** Terms of a sequence. */
export function sequenceTerms(inputs: SequenceInputs, options: GrpoTermOptions): SequenceTerms {
  const { logprobs, oldLogprobs, advantages } = inputs;
  const { lossType, epsilon, epsilonHigh = epsilon, delta = Infinity } = options;
  const length = logprobs.length;
  const zeros = () => new Float64Array(length);
  const terms: SequenceTerms = {
    values: zeros(),
    direct: zeros(),
    viaRatio: zeros(),
    share: new Float64Array(length).fill(1),
    ratios: zeros(),
    low: zeros(),
    high: zeros(),
  };
  const logs = logprobs.map((logprob, t) => logprob - oldLogprobs[t]);
  const clippedLogs = logs.slice();
  if (lossType === "gmpo") clipLogs(clippedLogs, inputs, epsilon, epsilonHigh, terms);
  const weights = options.importanceSamplingLevel === "sequence" || lossType === "gmpo"
    ? meanLog(clippedLogs, lossType === "gmpo" ? inputs.chosen : undefined, terms.share)
    : logs;
  for (let t = 0; t < length; t++) terms.ratios[t] = Math.exp(weights[t]);
  if (lossType === "vespo") terms.phi = phiOf(logs, inputs, options);

  for (let t = 0; t < length; t++) {
    const a = numberAt(advantages, t), w = terms.ratios[t];
    switch (lossType) {
      case "cispo": {
        const weight = Math.min(w, epsilonHigh);
        terms.values[t] = -weight * a * logprobs[t];
        terms.direct[t] = -weight * a;
        terms.high[t] = Number(w > epsilonHigh && a > 0);
        break;
      }
      case "vespo":
        terms.values[t] = -terms.phi![t] * a * logprobs[t];
        terms.direct[t] = -terms.phi![t] * a;
        break;
      case "sapo": {
        const tau = a > 0 ? options.sapoTemperaturePos : options.sapoTemperatureNeg;
        const gate = 1 / (1 + Math.exp(-tau * (w - 1)));
        terms.values[t] = -4 / tau * gate * a;
        terms.viaRatio[t] = -4 * gate * (1 - gate) * w * a;
        break;
      }
      case "gmpo":
        terms.values[t] = -w * a;
        terms.viaRatio[t] = -w * a;
        break;
      default: {
        const limited = Math.min(w, delta), inside = w >= 1 - epsilon && w <= 1 + epsilonHigh;
        const plain = limited * a, clipped = Math.min(1 + epsilonHigh, Math.max(1 - epsilon, w)) * a;
        const plainSlope = w <= delta ? w * a : 0, clippedSlope = inside ? w * a : 0;
        terms.values[t] = -Math.min(plain, clipped);
        terms.viaRatio[t] =
          -(plain < clipped ? plainSlope : plain > clipped ? clippedSlope : (plainSlope + clippedSlope) / 2);
        terms.low[t] = Number(limited < 1 - epsilon && a < 0);
        terms.high[t] = Number(limited > 1 + epsilonHigh && a > 0);
      }
    }
  }
  return terms;
}

/** Replaces logarithms by their mean over the chosen tokens, and their shares by what each has in it. */
function meanLog(logs: Float64Array, chosen: Float64Array | undefined, share: Float64Array): Float64Array {
  const counts = (t: number) => chosen ? chosen[t] : 1;
  let count = 0, sum = 0;
  logs.forEach((log, t) => {
    count += counts(t);
    sum += counts(t) * log;
  });
  const n = Math.max(1, count);
  for (let t = 0; t < share.length; t++) share[t] *= counts(t) / n;
  return new Float64Array(logs.length).fill(sum / n);
}

/** GMPO's clipping of the logarithms of ratios, on the side where the advantage would have them grow. */
function clipLogs(
  logs: Float64Array,
  { advantages }: SequenceInputs,
  epsilon: number,
  epsilonHigh: number,
  { share, low, high }: SequenceTerms,
): void {
  logs.forEach((log, t) => {
    const a = numberAt(advantages, t);
    low[t] = Number(log < -epsilon && a < 0);
    high[t] = Number(log > epsilonHigh && a > 0);
    if (a > 0 ? log <= epsilonHigh : log >= -epsilon) return;
    logs[t] = a > 0 ? epsilonHigh : -epsilon;
    share[t] = 0;
  });
}

/** Logarithms of a ratio, of a sampler's correction and of a whole sequence's ratio are kept within these limits. */
const LOG_LIMIT = 20, LOWEST_LOG = Math.log(1e-8);

function phiOf(logs: Float64Array, inputs: SequenceInputs, options: GrpoTermOptions): Float64Array {
  let log = logs.reduce((sum, x) => sum + Math.min(LOG_LIMIT, Math.max(-LOG_LIMIT, x)), 0);
  inputs.samplingWeights?.forEach((weight) => {
    log += Math.min(LOG_LIMIT, Math.max(LOWEST_LOG, Math.log(weight)));
  });
  log = Math.min(LOG_LIMIT, Math.max(LOWEST_LOG, log));
  return logs.map((_, t) => {
    const positive = numberAt(inputs.advantages, t) >= 0;
    const k = positive ? options.vespoKPos : options.vespoKNeg;
    const lambda = Math.max(1e-4, positive ? options.vespoLambdaPos : options.vespoLambdaNeg);
    return Math.exp(lambda + k * log - lambda * Math.exp(log));
  });
}
