/**
 * Options of RLAIF in one command: labelling by a judge, then DPO on the pairs, or a reward model of them and PPO.
 *
 * @module
 */
import { z } from "zod";
import type { TrackerName } from "../../run/trackers/tracker.ts";
import { type Agree, count, GROUPS, option, trainingFields } from "./common.ts";
import { type LabelOptions, labelSchema } from "./label.ts";
import { modelFields, type ModelOptions } from "./model.ts";

/** Options of `rlaif`. */
export interface RlaifOptions extends LabelOptions, ModelOptions {
  /** What is learnt from the pairs. */
  method: "dpo" | "ppo";
  /** Prompts, the last of the dataset, on which the policy is compared with its start. */
  evalPrompts: number;
  /** Of the policy; that of the method where it is not given. */
  learningRate?: number;
  /** Passes over the pairs, and of PPO over the prompts. */
  numTrainEpochs: number;
  /** Optimiser steps of the policy; where not positive, `numTrainEpochs` decides. */
  maxSteps: number;
  perDeviceTrainBatchSize: number;
  gradientAccumulationSteps: number;
  gradientCheckpointing: boolean;
  /** Of DPO. */
  beta: number;
  /** Of the reward model. */
  rewardLearningRate: number;
  /** β in r − β·KL of PPO. */
  klCoef: number;
  saveSteps: number;
  saveTotalLimit?: number;
  reportTo: TrackerName[];
}

const policy = "Policy", reward = "Reward model";
const { numTrainEpochs, maxSteps, perDeviceTrainBatchSize, gradientAccumulationSteps } = trainingFields;

/** Schema of {@linkcode RlaifOptions}. */
export const rlaifSchema = z.strictObject({
  ...labelSchema.shape,
  ...modelFields,
  method: option(
    policy,
    "What is learnt from the pairs: dpo, the policy itself; ppo, first a reward model, then a policy that PPO trains against it.",
    z.enum(["dpo", "ppo"]).default("dpo"),
  ),
  evalPrompts: option(
    GROUPS.output,
    "Prompts, the last of the dataset, that are not labelled: on them the judge compares the policy with its start when all is done. 0: none.",
    count(0).default(32),
  ),
  learningRate: option(
    policy,
    "Learning rate of the policy; 1e-6 for dpo and 3e-6 for ppo if not given.",
    z.number().min(0).optional(),
  ),
  numTrainEpochs: option(
    policy,
    "Passes over the pairs, and of ppo over the prompts.",
    numTrainEpochs.unwrap().default(1),
  ),
  maxSteps: option(policy, "Optimiser steps of the policy; -1 leaves it to num_train_epochs.", maxSteps),
  perDeviceTrainBatchSize: option(
    policy,
    "Pairs, and of ppo completions, in one forward and backward pass.",
    perDeviceTrainBatchSize,
  ),
  gradientAccumulationSteps: option(policy, "Passes per optimiser step.", gradientAccumulationSteps),
  gradientCheckpointing: trainingFields.gradientCheckpointing,
  beta: option(
    policy,
    "Of dpo: strength of the hold of the reference.",
    z.number().gt(0).default(0.1),
  ),
  klCoef: option(policy, "Of ppo: beta in r - beta*KL.", z.number().min(0).default(0.05)),
  rewardLearningRate: option(reward, "Learning rate of the reward model.", z.number().min(0).default(1e-4)),
  saveSteps: trainingFields.saveSteps,
  saveTotalLimit: trainingFields.saveTotalLimit,
  reportTo: trainingFields.reportTo,
});

true satisfies Agree<z.output<typeof rlaifSchema>, RlaifOptions>;
