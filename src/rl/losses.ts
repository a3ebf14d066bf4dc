/**
 * Losses as operations on tape tensors. All are sums of per-token (or per-pair) terms times `weights`, which the caller
 * makes on the host: 1/count where a token counts, 0 elsewhere. The formulas are in the doc comments.
 *
 * @module
 */
import {
  add,
  clamp,
  detach,
  exp,
  logSigmoid,
  maximum,
  minimum,
  multiply,
  negate,
  square,
  subtract,
} from "../tape/ops/elementwise.ts";
import { sum } from "../tape/ops/reduce.ts";
import type { Tape, Tensor } from "../tape/tape.ts";

/** Σ weights · x. */
export function weightedSum(tape: Tape, x: Tensor, weights: Tensor): Tensor {
  return sum(tape, multiply(tape, x, weights));
}

/** Negative log-likelihood: −Σ w ln p. */
export function nllLoss(tape: Tape, logprob: Tensor, weights: Tensor): Tensor {
  return negate(tape, weightedSum(tape, logprob, weights));
}

/** Dynamic fine-tuning (arXiv 2508.05629): −Σ w sg(p) ln p, where sg stops the gradient. */
export function dftLoss(tape: Tape, logprob: Tensor, weights: Tensor): Tensor {
  const p = detach(tape, exp(tape, logprob));
  return negate(tape, weightedSum(tape, multiply(tape, p, logprob), weights));
}

/**
 * Bradley–Terry loss of pairs, [pairs] each: Σ w (−ln σ(chosen − rejected − margin) + c (chosen + rejected)²).
 */
export function bradleyTerryLoss(
  tape: Tape,
  { chosen, rejected, margin, weights }: {
    chosen: Tensor;
    rejected: Tensor;
    margin: Tensor;
    weights: Tensor;
  },
  centerCoefficient?: Tensor,
): Tensor {
  const difference = subtract(tape, subtract(tape, chosen, rejected), margin);
  let terms = negate(tape, logSigmoid(tape, difference));
  if (centerCoefficient) {
    terms = add(tape, terms, multiply(tape, square(tape, add(tape, chosen, rejected)), centerCoefficient));
  }
  return weightedSum(tape, terms, weights);
}

/** Tensors of the clipped policy loss, [tokens] each unless said otherwise. */
export interface PolicyLossInputs {
  logprob: Tensor;
  oldLogprob: Tensor;
  advantages: Tensor;
  weights: Tensor;
  /** 1 − ε and 1 + ε, [1] each. */
  low: Tensor;
  high: Tensor;
  /** What the loss of a token is at most, where there is a second clip. */
  ceiling?: Tensor;
}

/**
 * PPO's clipped policy loss (arXiv 1707.06347): Σ w max(−A ρ, −A clip(ρ, 1 − ε, 1 + ε)), ρ = π/π_old. With a ceiling of −c A where
 * A < 0, the dual clip of arXiv 1912.09729.
 */
export function policyLoss(tape: Tape, inputs: PolicyLossInputs): { loss: Tensor; ratio: Tensor } {
  const ratio = exp(tape, subtract(tape, inputs.logprob, inputs.oldLogprob));
  const gain = negate(tape, inputs.advantages);
  const clipped = clamp(tape, ratio, inputs.low, inputs.high);
  let terms = maximum(tape, multiply(tape, ratio, gain), multiply(tape, clipped, gain));
  if (inputs.ceiling) terms = minimum(tape, terms, inputs.ceiling);
  return { loss: weightedSum(tape, terms, inputs.weights), ratio };
}

/** Tensors of the value loss, [tokens] each unless said otherwise. */
export interface ValueLossInputs {
  values: Tensor;
  oldValues: Tensor;
  returns: Tensor;
  /** ½ · vf_coef / count where a token counts. */
  weights: Tensor;
  /** −ε and +ε, [1] each. */
  low: Tensor;
  high: Tensor;
}

/** PPO's clipped value loss: Σ w max((V − R)², (V_old + clip(V − V_old, −ε, ε) − R)²). */
export function valueLoss(tape: Tape, inputs: ValueLossInputs): Tensor {
  const { values, oldValues, returns, weights, low, high } = inputs;
  const clipped = add(tape, oldValues, clamp(tape, subtract(tape, values, oldValues), low, high));
  const plain = square(tape, subtract(tape, values, returns));
  return weightedSum(tape, maximum(tape, plain, square(tape, subtract(tape, clipped, returns))), weights);
}
