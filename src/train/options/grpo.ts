/**
 * Options of GRPO: TRL 1.16's `GRPOConfig`.
 *
 * @module
 */
import { z } from "zod";
import type { MultiObjectiveAggregation, ScaleRewards } from "../../rl/group_advantages.ts";
import type { GrpoLossType, ImportanceSamplingLevel } from "../../rl/grpo_terms.ts";
import type { KlEstimator } from "../../rl/kl.ts";
import { type Agree, count, GROUPS, learningRateOption, option } from "./common.ts";
import { ONLINE_GROUPS, onlineFields, type OnlineOptions } from "./online.ts";

/** Options of `grpo`. A step is one optimiser step, of perDeviceTrainBatchSize × gradientAccumulationSteps completions. */
export interface GrpoOptions extends OnlineOptions {
  /** How terms of tokens are clipped and averaged. */
  lossType: GrpoLossType;
  /** Ratios of tokens, or of whole sequences (GSPO). */
  importanceSamplingLevel: ImportanceSamplingLevel;
  /** What advantages are divided by. */
  scaleRewards: ScaleRewards;
  /** Order of summing several rewards and normalising them. */
  multiObjectiveAggregation: MultiObjectiveAggregation;
  /** Largest ratio whatever the advantage's sign. */
  delta?: number;
  /** β of the KL penalty; 0: no reference is loaded. */
  beta: number;
  /** How KL(π ‖ π_ref) is estimated per token; `exact` sums over the vocabulary. */
  klEstimator: KlEstimator;
  /** Whether the penalty is a term of the loss, or taken off the reward before completions are compared. */
  klPlacement: "loss" | "reward";
  /** Multiplies the KL term, where it is an estimate, by the ratio. */
  useBiasCorrectionKl: boolean;
  /** τ of `sapo` where the advantage is positive. */
  sapoTemperaturePos: number;
  /** τ of `sapo` elsewhere. */
  sapoTemperatureNeg: number;
  /** k of `vespo` where the advantage is not negative. */
  vespoKPos: number;
  /** λ of `vespo` where the advantage is not negative. */
  vespoLambdaPos: number;
  /** k of `vespo` where the advantage is negative. */
  vespoKNeg: number;
  /** λ of `vespo` where the advantage is negative. */
  vespoLambdaNeg: number;
  /** Share of the tokens, those of highest entropy, that is learnt from. */
  topEntropyQuantile: number;
  /** Weight of the mean entropy that is taken off the loss. */
  entropyCoef: number;
  /** Adapts that weight to hold the entropy at `entropyTarget`. */
  useAdaptiveEntropy: boolean;
  /** Nats per token. */
  entropyTarget: number;
  /** Change of the weight in a step. */
  entropyCoefDelta: number;
  /** Smallest weight. */
  entropyCoefMin: number;
  /** Largest weight. */
  entropyCoefMax: number;
  /** Drops sequences with a negative advantage that the policy has moved away from by more than this, in nats per token. */
  offPolicyMaskThreshold?: number;
  /** Groups that are kept to take the place of those from which nothing can be learnt; 0 keeps none. */
  replayBufferSize: number;
}

const { method } = GROUPS;
const { advantages, kl } = ONLINE_GROUPS;
const variants = "Variants of the loss";

/** Schema of {@linkcode GrpoOptions}. */
export const grpoSchema = z.strictObject({
  ...onlineFields,
  learningRate: learningRateOption(1e-6),
  lossType: option(
    method,
    "How terms are averaged: dapo over the tokens of the step; grpo within each completion first, which favours short ones; bnpo over the tokens of a pass; dr_grpo by max_completion_length; luspo not by length. cispo, sapo, vespo and gmpo also clip in other ways.",
    z.enum(["dapo", "grpo", "bnpo", "dr_grpo", "cispo", "sapo", "luspo", "vespo", "gmpo"]).default("dapo"),
  ),
  importanceSamplingLevel: option(
    method,
    "Ratios of tokens, or of whole sequences (GSPO, arXiv 2507.18071, which goes with a small epsilon such as 3e-4).",
    z.enum(["token", "sequence"]).default("token"),
  ),
  scaleRewards: option(
    advantages,
    "Divide advantages by the deviation of their group, of the batch, or not (none: Dr. GRPO, arXiv 2503.20783). TRL's true is group and false none.",
    z.union([z.enum(["group", "batch", "none"]), z.boolean()]).transform((given) =>
      given === true ? "group" : given === false ? "none" : given
    ).default("group"),
  ),
  multiObjectiveAggregation: option(
    advantages,
    "Several rewards: sum, then normalise (GRPO), or normalise each within its group, then sum (GDPO), so that none drowns the others.",
    z.enum(["sum_then_normalize", "normalize_then_sum"]).default("sum_then_normalize"),
  ),
  delta: option(
    method,
    "Largest ratio whatever the sign of the advantage (two-sided clipping, arXiv 2505.07291); above 1 + epsilon_high.",
    z.number().gt(1).optional(),
  ),
  beta: option(
    kl,
    "Weight of the KL penalty; 0: none, and no reference is loaded. DeepSeek-R1 had 0.001.",
    z.number().min(0).default(0),
    ["kl_coef"],
  ),
  klEstimator: option(
    kl,
    "How KL(policy || reference) is estimated per token (TRL: k3); exact sums over the vocabulary.",
    z.enum(["k1", "k2", "k3", "exact"]).default("k3"),
  ),
  klPlacement: option(
    kl,
    "Add the KL of each token to the loss (TRL), or take that of the whole completion off its reward before completions are compared (reward, as verl's use_kl_in_reward; k1 is usual there).",
    z.enum(["loss", "reward"]).default("loss"),
  ),
  useBiasCorrectionKl: option(
    kl,
    "Multiply the estimated KL term by the ratio, so that its gradient is that of the KL (DeepSeek-V3.2, arXiv 2512.02556); not the exact one.",
    z.boolean().default(true),
  ),
  sapoTemperaturePos: option(
    variants,
    "Temperature of sapo where the advantage is positive.",
    z.number().gt(0).default(1),
  ),
  sapoTemperatureNeg: option(variants, "Temperature of sapo elsewhere.", z.number().gt(0).default(1.05)),
  vespoKPos: option(
    variants,
    "k of vespo where the advantage is not negative.",
    z.number().min(0).default(2),
  ),
  vespoLambdaPos: option(
    variants,
    "Lambda of vespo where the advantage is not negative.",
    z.number().min(0).default(3),
  ),
  vespoKNeg: option(variants, "k of vespo where the advantage is negative.", z.number().min(0).default(3)),
  vespoLambdaNeg: option(
    variants,
    "Lambda of vespo where the advantage is negative.",
    z.number().min(0).default(2),
  ),
  topEntropyQuantile: option(
    method,
    "Learn only from this share of the tokens, those of highest entropy (arXiv 2506.01939: 0.2); 1: from all.",
    z.number().gt(0).max(1).default(1),
  ),
  entropyCoef: option(
    method,
    "Weight of the mean entropy, which is taken off the loss: keeps the policy from settling early.",
    z.number().min(0).default(0),
  ),
  useAdaptiveEntropy: option(
    method,
    "Raise entropy_coef by entropy_coef_delta while the entropy is at or below entropy_target, else lower it and leave the bonus out (arXiv 2505.22312).",
    z.boolean().default(false),
  ),
  entropyTarget: option(method, "In nats per token.", z.number().min(0).default(0.2)),
  entropyCoefDelta: option(method, "Change of entropy_coef in a step.", z.number().min(0).default(0.005)),
  entropyCoefMin: option(method, "Smallest entropy_coef.", z.number().min(0).default(0)),
  entropyCoefMax: option(method, "Largest entropy_coef.", z.number().min(0).default(1)),
  offPolicyMaskThreshold: option(
    method,
    "Drop completions with a negative advantage whose mean of ln(sampled) - ln(policy) passes this, as in 0.5 (arXiv 2512.02556).",
    z.number().min(0).optional(),
  ),
  replayBufferSize: option(
    ONLINE_GROUPS.rollouts,
    "Groups that are kept, those of the widest rewards, to be learnt from again in place of groups from which nothing can be learnt; goes with off_policy_mask_threshold. 0 keeps none.",
    count(0).default(0),
  ),
});

true satisfies Agree<z.output<typeof grpoSchema>, GrpoOptions>;
