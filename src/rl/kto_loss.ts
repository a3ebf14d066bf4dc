/**
 * Kahneman–Tversky optimisation (arXiv 2402.01306): a loss of single answers that are good or bad, without pairs.
 *
 * @module
 */
import { sigmoid } from "./logistic.ts";
import { meanOf, sumOf } from "./pair_metrics.ts";
import type { TokenLoss } from "./token_loss.ts";

/** TRL's loss types. */
export const KTO_LOSS_TYPES = ["kto", "apo_zero_unpaired"] as const;

/** Choices of {@linkcode ktoLoss}, under TRL's names. */
export interface KtoLossOptions {
  /** What is learnt. */
  lossType: typeof KTO_LOSS_TYPES[number];
  /** Strength of the hold of the reference. */
  beta: number;
  /** Weight of good answers. */
  desirableWeight: number;
  /** Weight of bad answers. */
  undesirableWeight: number;
}

/** One answer. */
export interface KtoAnswer {
  /** ln π per token. */
  logprobs: Float64Array;
  /** ln π_ref of the whole answer. */
  refLogprob: number;
  /** Whether it is a good one. */
  desirable: boolean;
}

/** Share of the weight of good answers in that of bad ones that the paper recommends (its equation 8). */
const LEAST_SHARE = 1, MOST_SHARE = 4 / 3;

/** What to do about the weights where good and bad answers are not equally many; nothing where the weights make up for it. */
export function weightAdvice(
  good: number,
  bad: number,
  { desirableWeight, undesirableWeight }: Pick<KtoLossOptions, "desirableWeight" | "undesirableWeight">,
): string | undefined {
  if (good === bad) return undefined;
  if (good === 0 || bad === 0) {
    return `All ${good + bad} answers are ${
      good ? "good" : "bad"
    } ones. Learning from one kind alone moves the policy away from it or towards it without a limit; expected both.`;
  }
  const share = desirableWeight * good / (undesirableWeight * bad);
  if (share >= LEAST_SHARE && share <= MOST_SHARE) return undefined;
  const range = (from: number, to: number) => `${from.toFixed(2)} to ${to.toFixed(2)}`;
  const desirable = undesirableWeight * bad / good, undesirable = desirableWeight * good / bad;
  return `There are ${good} good and ${bad} bad answers, of which one kind outweighs the other. The paper recommends a desirable_weight of ${
    range(LEAST_SHARE * desirable, MOST_SHARE * desirable)
  }, or an undesirable_weight of ${range(undesirable / MOST_SHARE, undesirable / LEAST_SHARE)}.`;
}

/**
 * An estimate of KL(π‖π_ref) of whole answers from answers to other prompts of the micro-batch: the mean of ln π − ln π_ref, at
 * least 0.
 */
export function mismatchedKl(logprobs: number[], refLogprobs: number[]): number {
  return Math.max(0, meanOf(logprobs.map((logprob, i) => logprob - refLogprobs[i])));
}

/**
 * The mean over the answers of λ (1 − σ(v)), where v is for good answers β (x − KL) and for bad ones β (KL − x), with
 * x = ln π − ln π_ref and the weight λ of their kind. The KL is a constant; `apo_zero_unpaired` (arXiv 2408.06266) has none.
 */
export function ktoLoss(answers: KtoAnswer[], kl: number, options: KtoLossOptions): TokenLoss {
  const { beta, lossType } = options;
  const shift = lossType === "kto" ? kl : 0;
  const logps = answers.map(({ logprobs }) => sumOf(logprobs));
  const rewards = answers.map(({ refLogprob }, i) => beta * (logps[i] - refLogprob));
  let loss = 0;
  const dLogprobs = answers.map(({ logprobs, desirable }, i) => {
    const weight = (desirable ? options.desirableWeight : options.undesirableWeight) / answers.length;
    const sign = desirable ? 1 : -1;
    const value = sign * (rewards[i] - beta * shift);
    loss += weight * sigmoid(-value);
    return new Float64Array(logprobs.length).fill(-weight * sign * beta * sigmoid(value) * sigmoid(-value));
  });
  const metrics: Record<string, number> = { kl: shift };
  for (const [name, kind] of [["chosen", true], ["rejected", false]] as const) {
    const of = (values: number[]) => values.filter((_, i) => answers[i].desirable === kind);
    if (!of(rewards).length) continue;
    metrics[`rewards/${name}`] = meanOf(of(rewards));
    metrics[`logps/${name}`] = meanOf(of(logps));
  }
  if ("rewards/chosen" in metrics && "rewards/rejected" in metrics) {
    metrics["rewards/margins"] = metrics["rewards/chosen"] - metrics["rewards/rejected"];
  }
  return { loss, dLogprobs, metrics };
}
