/**
 * Contrastive preference optimisation (arXiv 2401.08417), SimPO (arXiv 2405.14734) and AlphaPO (arXiv 2501.03884): losses of
 * pairs without a reference.
 *
 * @module
 */
import { smoothedSigmoid } from "./dpo_terms.ts";
import type { Sloped } from "./divergence.ts";
import { meanOf, pairMetrics, sumOf } from "./pair_metrics.ts";
import type { TokenLoss } from "./token_loss.ts";

/** TRL's loss types; `alphapo` is `simpo` without the likelihood. */
export const CPO_LOSS_TYPES = ["sigmoid", "hinge", "ipo", "simpo", "alphapo"] as const;

/** Choices of {@linkcode cpoLoss}, under TRL's names. */
export interface CpoLossOptions {
  /** What is learnt. */
  lossType: typeof CPO_LOSS_TYPES[number];
  /** Scale of the rewards. */
  beta: number;
  /** Share ε of labels that are taken to be wrong. */
  labelSmoothing: number;
  /** Weight of the negative log-likelihood of the chosen answers' tokens. */
  cpoAlpha: number;
  /** Margin γ of the rewards that SimPO wants. */
  simpoGamma: number;
  /** Shape of the reward: r = ln p for 0, else (1 − p^−alpha) / alpha. */
  alpha: number;
}

/** ln π per token of two answers to a prompt. */
export interface AnswerPair {
  /** Of the better one. */
  chosen: Float64Array;
  /** Of the other. */
  rejected: Float64Array;
}

/**
 * The mean over the pairs of a function of d = r_w − r_l, plus cpo_alpha times the negative log-likelihood per chosen token.
 * ln p of an answer is the sum over its tokens, for `ipo` and `simpo` the mean; z is β d, for `simpo` β d − γ.
 *
 *   sigmoid, simpo  −(1 − ε) ln σ(z) − ε ln σ(−z)
 *   hinge           max(0, 1 − z)
 *   ipo             (d − 1/(2β))²
 *
 * Derivatives are of all chosen answers, then of all rejected ones.
 */
export function cpoLoss(pairs: AnswerPair[], options: CpoLossOptions): TokenLoss {
  const { beta, alpha } = options, count = pairs.length;
  const simpo = options.lossType === "simpo" || options.lossType === "alphapo";
  const perToken = simpo || options.lossType === "ipo";
  const cpoAlpha = options.lossType === "alphapo" ? 0 : options.cpoAlpha;
  const share = (logprobs: Float64Array) => perToken ? 1 / logprobs.length : 1;
  const logps = pairs.map(({ chosen, rejected }) => ({
    chosen: sumOf(chosen) * share(chosen),
    rejected: sumOf(rejected) * share(rejected),
  }));
  const rewards = logps.map(({ chosen, rejected }) => ({
    chosen: shaped(chosen, alpha),
    rejected: shaped(rejected, alpha),
  }));
  const terms = rewards.map(({ chosen, rejected }) => pairTerm(chosen.value - rejected.value, options));
  const tokens = pairs.reduce((sum, { chosen }) => sum + chosen.length, 0);
  const nll = cpoAlpha ? -pairs.reduce((sum, { chosen }) => sum + sumOf(chosen), 0) / tokens : 0;

  const derivative = (logprobs: Float64Array, slope: number, extra: number) =>
    new Float64Array(logprobs.length).fill(slope * share(logprobs) / count + extra);
  return {
    loss: meanOf(terms.map(({ value }) => value)) + cpoAlpha * nll,
    dLogprobs: [
      ...pairs.map(({ chosen }, i) =>
        derivative(chosen, terms[i].slope * rewards[i].chosen.slope, -cpoAlpha / tokens)
      ),
      ...pairs.map(({ rejected }, i) => derivative(rejected, -terms[i].slope * rewards[i].rejected.slope, 0)),
    ],
    metrics: {
      ...pairMetrics(
        logps,
        rewards.map(({ chosen, rejected }) => ({
          chosen: beta * chosen.value,
          rejected: beta * rejected.value,
        })),
      ),
      nll_loss: nll,
    },
  };
}

/** The reward of an answer and its derivative by ln p. */
function shaped(logp: number, alpha: number): Sloped {
  if (alpha === 0) return { value: logp, slope: 1 };
  return { value: -Math.expm1(-alpha * logp) / alpha, slope: Math.exp(-alpha * logp) };
}

function pairTerm(difference: number, options: CpoLossOptions): Sloped {
  const { lossType, beta, labelSmoothing, simpoGamma } = options;
  switch (lossType) {
    case "ipo": {
      const error = difference - 1 / (2 * beta);
      return { value: error * error, slope: 2 * error };
    }
    case "hinge": {
      const z = beta * difference;
      return { value: Math.max(0, 1 - z), slope: z < 1 ? -beta : 0 };
    }
    case "sigmoid":
    case "simpo":
    case "alphapo": {
      const z = beta * difference - (lossType === "sigmoid" ? 0 : simpoGamma);
      const { value, slope } = smoothedSigmoid(z, labelSmoothing);
      return { value, slope: slope * beta };
    }
  }
}
