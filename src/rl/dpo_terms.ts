/**
 * The terms of direct preference optimisation's losses: one number per pair of answers, with its derivatives.
 *
 * With x = ln π(y|p) − ln π_ref(y|p) of an answer y to a prompt p, s the score of a divergence (x for the reverse KL), n the
 * number of tokens, w the chosen and l the rejected answer, z = β (s_w − s_l), and ε the label smoothing:
 *
 * | type | term | source |
 * |---|---|---|
 * | sigmoid | −ln σ(z) | DPO, arXiv 2305.18290 |
 * | cdpo | −(1 − ε) ln σ(z) − ε ln σ(−z) | conservative DPO (E. Mitchell, 2023); not in TRL, whose sigmoid ignores ε |
 * | robust | (−(1 − ε) ln σ(z) + ε ln σ(−z)) / (1 − 2ε) | arXiv 2403.00409 |
 * | hinge | max(0, 1 − z) | SLiC, arXiv 2305.10425 |
 * | ipo | (s_w/n_w − s_l/n_l − 1/(2β))² | arXiv 2310.12036; lengths as an option |
 * | exo_pair | σ(z) (ln σ(z) − ln(1 − ε)) + σ(−z) (ln σ(−z) − ln ε) | arXiv 2402.00856 |
 * | discopop | −(1 − m) ln σ(z) + m e^−z, m = σ(z/τ) | arXiv 2406.08414 |
 * | sigmoid_norm | −ln σ(β (s_w/n_w − s_l/n_l)) | Tülu 3, arXiv 2411.15124 |
 * | nca_pair | −ln σ(βx_w) − ½ ln σ(−βx_w) − ½ ln σ(−βx_l) | arXiv 2402.05369 |
 * | bco_pair | −ln σ(βx_w) − ln σ(−βx_l) | arXiv 2404.04656, without a shift |
 * | sppo_hard | (x_w − 1/(2β))² + (x_l + 1/(2β))² | arXiv 2405.00675 |
 * | apo_zero | 1 − σ(βx_w) + σ(βx_l) | arXiv 2408.06266 |
 * | apo_down | σ(βx_w) + 1 − σ(β (x_w − x_l)) | arXiv 2408.06266 |
 *
 * @module
 */
import type { Sloped } from "./divergence.ts";
import { logSigmoid, sigmoid } from "./logistic.ts";

/** Types whose term is a function of scores, for which other divergences than the reverse KL make sense. */
export const SCORE_TYPES = [
  "sigmoid",
  "cdpo",
  "robust",
  "hinge",
  "ipo",
  "exo_pair",
  "discopop",
  "sigmoid_norm",
] as const;

/** Types whose term is a function of log-ratios. */
export const RATIO_TYPES = ["nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down"] as const;

/** Name of a term. */
export type TermType = typeof SCORE_TYPES[number] | typeof RATIO_TYPES[number];

/** Constants of the terms, under TRL's names. */
export interface TermOptions {
  /** Strength of the hold of the reference. */
  beta: number;
  /** Share ε of labels that are taken to be wrong. */
  labelSmoothing: number;
  /** Temperature τ of discopop's mixture. */
  discopopTau: number;
  /** Scores of `ipo` by the number of tokens, as TRL has it; whole ones are the paper's formula. */
  ipoLengthNormalization: boolean;
}

/** One answer of a pair. */
export interface Side {
  /** ln π − ln π_ref. */
  logRatio: number;
  /** Score of the divergence, with its derivative by the log-ratio. */
  score: Sloped;
  tokens: number;
}

/** A term with its derivatives by the log-ratios. */
export interface PairTerm {
  loss: number;
  dChosen: number;
  dRejected: number;
}

/** −(1 − ε) ln σ(z) − ε ln σ(−z). */
export function smoothedSigmoid(z: number, epsilon: number): Sloped {
  return {
    value: -(1 - epsilon) * logSigmoid(z) - epsilon * logSigmoid(-z),
    slope: -(1 - epsilon) * sigmoid(-z) + epsilon * sigmoid(z),
  };
}

/** The term of a pair. */
export function pairTerm(type: TermType, chosen: Side, rejected: Side, options: TermOptions): PairTerm {
  return (RATIO_TYPES as readonly string[]).includes(type)
    ? ratioTerm(type as typeof RATIO_TYPES[number], chosen.logRatio, rejected.logRatio, options.beta)
    : scoreTerm(type as typeof SCORE_TYPES[number], chosen, rejected, options);
}

function scoreTerm(
  type: typeof SCORE_TYPES[number],
  chosen: Side,
  rejected: Side,
  options: TermOptions,
): PairTerm {
  const perToken = type === "sigmoid_norm" || (type === "ipo" && options.ipoLengthNormalization);
  const share = (side: Side) => perToken ? 1 / Math.max(1, side.tokens) : 1;
  const difference = chosen.score.value * share(chosen) - rejected.score.value * share(rejected);
  const { value, slope } = ofDifference(type, difference, options);
  return {
    loss: value,
    dChosen: slope * share(chosen) * chosen.score.slope,
    dRejected: -slope * share(rejected) * rejected.score.slope,
  };
}

/** The term as a function of the difference of the scores. */
function ofDifference(
  type: typeof SCORE_TYPES[number],
  difference: number,
  { beta, labelSmoothing: epsilon, discopopTau }: TermOptions,
): Sloped {
  if (type === "ipo") {
    const error = difference - 1 / (2 * beta);
    return { value: error * error, slope: 2 * error };
  }
  const z = beta * difference;
  const { value, slope } = ofMargin(type, z, epsilon, discopopTau);
  return { value, slope: slope * beta };
}

/** The term as a function of z. */
function ofMargin(
  type: Exclude<typeof SCORE_TYPES[number], "ipo">,
  z: number,
  epsilon: number,
  tau: number,
): Sloped {
  switch (type) {
    case "sigmoid":
    case "sigmoid_norm":
      return smoothedSigmoid(z, 0);
    case "cdpo":
      return smoothedSigmoid(z, epsilon);
    case "robust": {
      const scale = 1 / (1 - 2 * epsilon);
      return {
        value: scale * (-(1 - epsilon) * logSigmoid(z) + epsilon * logSigmoid(-z)),
        slope: -scale * ((1 - epsilon) * sigmoid(-z) + epsilon * sigmoid(z)),
      };
    }
    case "hinge":
      return { value: Math.max(0, 1 - z), slope: z < 1 ? -1 : 0 };
    case "exo_pair": {
      const won = sigmoid(z), lost = sigmoid(-z);
      const logWon = Math.log1p(-epsilon), logLost = Math.log(epsilon);
      return {
        value: won * (logSigmoid(z) - logWon) + lost * (logSigmoid(-z) - logLost),
        slope: won * lost * (z - logWon + logLost),
      };
    }
    case "discopop": {
      const mix = sigmoid(z / tau), dMix = mix * (1 - mix) / tau;
      const logistic = -logSigmoid(z), exponential = Math.exp(-z);
      return {
        value: logistic * (1 - mix) + exponential * mix,
        slope: -sigmoid(-z) * (1 - mix) - exponential * mix + (exponential - logistic) * dMix,
      };
    }
  }
}

/** A term as a function of the log-ratios of the chosen and the rejected answer. */
function ratioTerm(
  type: typeof RATIO_TYPES[number],
  chosen: number,
  rejected: number,
  beta: number,
): PairTerm {
  const won = beta * chosen, lost = beta * rejected;
  switch (type) {
    case "nca_pair":
      return {
        loss: -logSigmoid(won) - 0.5 * logSigmoid(-won) - 0.5 * logSigmoid(-lost),
        dChosen: beta * (-sigmoid(-won) + 0.5 * sigmoid(won)),
        dRejected: beta * 0.5 * sigmoid(lost),
      };
    case "bco_pair":
      return {
        loss: -logSigmoid(won) - logSigmoid(-lost),
        dChosen: -beta * sigmoid(-won),
        dRejected: beta * sigmoid(lost),
      };
    case "sppo_hard": {
      const above = chosen - 0.5 / beta, below = rejected + 0.5 / beta;
      return { loss: above * above + below * below, dChosen: 2 * above, dRejected: 2 * below };
    }
    case "apo_zero":
      return {
        loss: sigmoid(-won) + sigmoid(lost),
        dChosen: -beta * bell(won),
        dRejected: beta * bell(lost),
      };
    case "apo_down": {
      const margin = bell(won - lost);
      return {
        loss: sigmoid(won) + sigmoid(lost - won),
        dChosen: beta * (bell(won) - margin),
        dRejected: beta * margin,
      };
    }
  }
}

/** σ′(x). */
function bell(x: number): number {
  return sigmoid(x) * sigmoid(-x);
}
