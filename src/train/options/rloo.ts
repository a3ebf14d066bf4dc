/**
 * Options of RLOO: TRL 1.16's `RLOOConfig`, and the choices on which OpenRLHF and verl differ from it.
 *
 * @module
 */
import { z } from "zod";
import type { KlEstimator } from "../../rl/kl.ts";
import { type Agree, GROUPS, learningRateOption, option } from "./common.ts";
import { numGenerationsOption, ONLINE_GROUPS, onlineFields, type OnlineOptions } from "./online.ts";

/** Options of `rloo`. */
export interface RlooOptions extends OnlineOptions {
  /** β of the KL penalty; 0: no reference is loaded. */
  beta: number;
  /** How KL(π ‖ π_ref) is estimated per token; `exact` sums over the vocabulary. */
  klEstimator: KlEstimator;
  /** Where the penalty goes. */
  klPlacement: "reward" | "reward_to_go" | "loss";
  /** Ratios of whole sequences, or of tokens. */
  lossLevel: "sequence" | "token";
  /** Normalises advantages over the batch. */
  normalizeAdvantages: boolean;
  /** Range of rewards; `null`: no limit. */
  rewardClipRange: [number, number] | null;
}

const { method } = GROUPS;
const { advantages, kl } = ONLINE_GROUPS;

/** A range of two numbers, the smaller one first. */
export const rangeSchema = z.tuple([z.number(), z.number()])
  .refine(([low, high]) => low < high, { error: "Expected two numbers, the smaller one first" });

/** Schema of {@linkcode RlooOptions}. */
export const rlooSchema = z.strictObject({
  ...onlineFields,
  numGenerations: numGenerationsOption(2, 2),
  learningRate: learningRateOption(1e-6),
  beta: option(
    kl,
    "Beta of the KL penalty; 0: none, and no reference is loaded.",
    z.number().min(0).default(0.05),
    ["kl_coef"],
  ),
  klEstimator: option(
    kl,
    "How KL(policy || reference) is estimated per token; exact sums over the vocabulary.",
    z.enum(["k1", "k2", "k3", "exact"]).default("k1"),
  ),
  klPlacement: option(
    kl,
    "Take the KL of the whole completion off its reward, before the baseline (reward, as TRL); that of the tokens still to come off each token's advantage, after it (reward_to_go, as OpenRLHF); or add it to the loss (loss). The last two need loss_level token.",
    z.enum(["reward", "reward_to_go", "loss"]).default("reward"),
  ),
  lossLevel: option(
    method,
    "Clip the ratio of the whole completion and average over completions (sequence, as TRL), or that of each token and average over tokens (token, as OpenRLHF and verl).",
    z.enum(["sequence", "token"]).default("sequence"),
  ),
  normalizeAdvantages: option(
    advantages,
    "Give the advantages of a batch mean 0 and deviation 1.",
    z.boolean().default(false),
  ),
  rewardClipRange: option(
    advantages,
    "Range that rewards are clipped to before the KL penalty, as in -5,5; none: no limit.",
    rangeSchema.nullable().default(null),
  ),
});

true satisfies Agree<z.output<typeof rlooSchema>, RlooOptions>;
