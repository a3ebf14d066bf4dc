/**
 * Options of REINFORCE++ (arXiv 2501.03262), with OpenRLHF's defaults where TRL has no such trainer.
 *
 * @module
 */
import { z } from "zod";
import type { KlEstimator } from "../../rl/kl.ts";
import { type Agree, GROUPS, learningRateOption, option } from "./common.ts";
import { numGenerationsOption, ONLINE_GROUPS, onlineFields, type OnlineOptions } from "./online.ts";
import { rangeSchema } from "./rloo.ts";

/** Options of `reinforce`. */
export interface ReinforceOptions extends OnlineOptions {
  /** The plain return, or the return of the reward minus the mean of its group. */
  advantageEstimator: "reinforce" | "reinforce_baseline";
  /** β of the KL penalty; 0: no reference is loaded. */
  beta: number;
  /** How KL(π ‖ π_ref) is estimated per token; `exact` sums over the vocabulary. */
  klEstimator: KlEstimator;
  /** Where the penalty goes: off the reward of each token, or into the loss. */
  klPlacement: "reward" | "loss";
  /** Discount per token. */
  gamma: number;
  /** Gives the advantages of all tokens of a batch mean 0 and deviation 1. */
  normalizeAdvantages: boolean;
  /** Divides by n − 1 (verl) or n (OpenRLHF) in that deviation. */
  whitenUnbiased: boolean;
  /** Range of rewards; `null`: no limit. */
  rewardClipRange: [number, number] | null;
  /** Weight of the mean entropy that is taken off the loss. */
  entropyCoef: number;
}

const { method } = GROUPS;
const { advantages, kl } = ONLINE_GROUPS;

/** Schema of {@linkcode ReinforceOptions}. */
export const reinforceSchema = z.strictObject({
  ...onlineFields,
  numGenerations: numGenerationsOption(1, 1),
  learningRate: learningRateOption(1e-6),
  advantageEstimator: option(
    method,
    "reinforce: the return of each token, as it is. reinforce_baseline: of the reward minus the mean of its prompt's completions, of which there must be at least two.",
    z.enum(["reinforce", "reinforce_baseline"]).default("reinforce"),
  ),
  beta: option(
    kl,
    "Beta of the KL penalty; 0: none, and no reference is loaded.",
    z.number().min(0).default(0.01),
    ["kl_coef", "init_kl_coef"],
  ),
  klEstimator: option(
    kl,
    "How KL(policy || reference) is estimated per token; exact sums over the vocabulary.",
    z.enum(["k1", "k2", "k3", "exact"]).default("k1"),
  ),
  klPlacement: option(
    kl,
    "Take the KL off the reward of each token, or add it to the loss (with kl_estimator k2, OpenRLHF's recipe for reinforce_baseline).",
    z.enum(["reward", "loss"]).default("reward"),
  ),
  gamma: option(advantages, "Discount per token.", z.number().min(0).max(1).default(1)),
  normalizeAdvantages: option(
    advantages,
    "Give the advantages of all tokens of a batch mean 0 and deviation 1: a baseline for the whole batch.",
    z.boolean().default(true),
  ),
  whitenUnbiased: option(
    advantages,
    "In that deviation, divide by n - 1 (verl) instead of n (OpenRLHF).",
    z.boolean().default(false),
  ),
  rewardClipRange: option(
    advantages,
    "Range that rewards are clipped to; none: no limit.",
    rangeSchema.nullable().default([-10, 10]),
  ),
  entropyCoef: option(
    method,
    "Weight of the mean entropy, which is taken off the loss: keeps the policy from settling early.",
    z.number().min(0).default(0),
  ),
});

true satisfies Agree<z.output<typeof reinforceSchema>, ReinforceOptions>;
