/**
 * Options of online DPO: TRL 1.16's `OnlineDPOConfig`.
 *
 * @module
 */
import { z } from "zod";
import {
  type Agree,
  count,
  GROUPS,
  learningRateOption,
  option,
  trainingFields,
  type TrainingOptions,
} from "./common.ts";
import { modelFields, type ModelOptions } from "./model.ts";
import { rewardFields, type RewardSourceOptions } from "./rewards.ts";

/** Options of `online_dpo`. A step is `perDeviceTrainBatchSize` × `gradientAccumulationSteps` prompts, each answered twice. */
export interface OnlineDpoOptions extends TrainingOptions, ModelOptions, RewardSourceOptions {
  /** Longest prompt with its completion in tokens; `null` for no limit. */
  maxLength: number | null;
  /** Most tokens of a completion. */
  maxNewTokens: number;
  /** Sampling temperature. */
  temperature: number;
  /** Smallest set of tokens of at least this mass that is drawn from; 1 keeps all. */
  topP: number;
  /** Number of tokens that is drawn from; 0 keeps all. */
  topK: number;
  /** Subtracted from the reward of a completion without a stop token. */
  missingEosPenalty?: number;
  /** Strength of the hold of the reference, for each epoch; the last holds on. */
  beta: number[];
  /** What is learnt from a pair. */
  lossType: "sigmoid" | "ipo";
}

const { data, method } = GROUPS, rollouts = "Rollouts";

/** Schema of {@linkcode OnlineDpoOptions}. */
export const onlineDpoSchema = z.strictObject({
  ...trainingFields,
  ...modelFields,
  ...rewardFields,
  learningRate: learningRateOption(5e-7),
  maxLength: option(
    data,
    "Longest prompt with its completion in tokens; prompts that leave no room for max_new_tokens are dropped and counted; none: no limit.",
    count(2).nullable().default(512),
  ),
  maxNewTokens: option(rollouts, "Most tokens of a completion.", count(1).default(64), [
    "max_completion_length",
  ]),
  temperature: option(rollouts, "Sampling temperature.", z.number().gt(0).default(0.9)),
  topP: option(
    rollouts,
    "Draw from the smallest set of tokens with at least this probability.",
    z.number().gt(0).max(1).default(1),
  ),
  topK: option(rollouts, "Draw from the k most likely tokens; 0: from all.", count(0).default(0)),
  missingEosPenalty: option(
    rollouts,
    "Subtracted from the reward of a completion without a stop token.",
    z.number().min(0).optional(),
  ),
  beta: option(
    method,
    "Strength of the hold of the reference; several by commas are those of the epochs, the last holds on.",
    z.union([z.array(z.number().gt(0)).min(1), z.number().gt(0)]).default([0.1])
      .transform((given) => [given].flat()),
  ),
  lossType: option(
    method,
    "What is learnt from a pair: the logistic loss of DPO, or IPO's squared distance from a margin.",
    z.enum(["sigmoid", "ipo"]).default("sigmoid"),
  ),
});

true satisfies Agree<z.output<typeof onlineDpoSchema>, OnlineDpoOptions>;
