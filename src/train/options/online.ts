/**
 * Options that the online methods without a critic share: sampling groups of completions, and how often they are learnt from.
 *
 * @module
 */
import { z } from "zod";
import type { ImportanceSamplingMode } from "../../rl/sampling_correction.ts";
import { type Agree, count, GROUPS, option, trainingFields, type TrainingOptions } from "./common.ts";
import { modelFields, type ModelOptions } from "./model.ts";
import { rewardFields, type RewardSourceOptions } from "./rewards.ts";

/** Options of GRPO, RLOO and REINFORCE++; names and defaults are TRL's. */
export interface OnlineOptions extends TrainingOptions, ModelOptions, RewardSourceOptions {
  /** Longest prompt in tokens; `null` for no limit. */
  maxPromptLength: number | null;

  /** Completions of each prompt. */
  numGenerations: number;
  /** Most tokens of a completion. */
  maxCompletionLength: number;
  /** Sampling temperature; log-probabilities are taken at it, too. */
  temperature: number;
  /** Smallest set of tokens of at least this mass that is drawn from; 1 keeps all. */
  topP: number;
  /** Number of tokens that is drawn from; 0 keeps all. */
  topK: number;
  /** Completions sampled at a time. */
  generationBatchSize?: number;
  /** The same in micro-batches of `perDeviceTrainBatchSize`. */
  stepsPerGeneration?: number;
  /** Times that each completion is learnt from. */
  numIterations: number;
  /** Samples further prompts in place of those whose completions all have the same reward. */
  dynamicSampling: boolean;
  /** Most rounds of sampling for one batch. */
  dynamicSamplingMaxRounds: number;
  /** Sequences that a frozen model scores in one pass. */
  localRolloutForwardBatchSize: number;

  /** ε below 1. */
  epsilon: number;
  /** ε above 1; `epsilon` if not given. */
  epsilonHigh?: number;
  /** Completions that were cut by the limit are not learnt from. */
  maskTruncatedCompletions: boolean;
  /** Corrects for tokens that were drawn from another distribution than the one that learns. */
  importanceSamplingMode: "none" | ImportanceSamplingMode;
  /** Smallest ratio of that correction; `null`: no limit. */
  importanceSamplingClipMin: number | null;
  /** Largest ratio of that correction; `null`: no limit. */
  importanceSamplingClipMax: number | null;

  /** Moves the reference towards the policy every `refModelSyncSteps` steps. */
  syncRefModel: boolean;
  /** α in α·policy + (1 − α)·reference. */
  refModelMixupAlpha: number;
  /** Steps between two such moves. */
  refModelSyncSteps: number;
}

/** Headings in `--help`. */
export const ONLINE_GROUPS = {
  rollouts: "Rollouts",
  advantages: "Rewards and advantages",
  kl: "KL penalty",
  reference: "Reference",
} as const;

const { data, method } = GROUPS;
const { rollouts, reference } = ONLINE_GROUPS;

/** The number of completions of a prompt, whose default differs between methods. */
export function numGenerationsOption(value: number, least: number): z.ZodDefault<z.ZodNumber> {
  return option(rollouts, "Completions of each prompt, which are compared.", count(least).default(value));
}

/** Schema of {@linkcode OnlineOptions}, field by field. */
export const onlineFields = {
  ...trainingFields,
  ...modelFields,
  ...rewardFields,
  maxPromptLength: option(
    data,
    "Longest prompt in tokens; longer ones are dropped and counted; none: no limit.",
    count(1).nullable().default(512),
  ),

  numGenerations: numGenerationsOption(8, 2),
  maxCompletionLength: option(rollouts, "Most tokens of a completion.", count(1).default(512)),
  temperature: option(
    rollouts,
    "Sampling temperature; log-probabilities of policy and reference are taken at it, too.",
    z.number().gt(0).default(1),
  ),
  topP: option(
    rollouts,
    "Draw from the smallest set of tokens with at least this probability. Below 1 the drawn tokens are not those of the policy that learns; see importance_sampling_mode.",
    z.number().gt(0).max(1).default(1),
  ),
  topK: option(rollouts, "Draw from the k most likely tokens; 0: from all.", count(0).default(0)),
  generationBatchSize: option(
    rollouts,
    "Completions sampled at a time: a multiple of per_device_train_batch_size and of num_generations. If not given, those of steps_per_generation.",
    count(1).optional(),
  ),
  stepsPerGeneration: option(
    rollouts,
    "The same in batches of per_device_train_batch_size; gradient_accumulation_steps if neither is given: one optimiser step per batch of completions. With more, later steps learn from completions of an older policy.",
    count(1).optional(),
  ),
  numIterations: option(
    rollouts,
    "Times that each completion is learnt from (mu in the paper's algorithm).",
    count(1).default(1),
  ),
  dynamicSampling: option(
    rollouts,
    "Drop prompts whose completions all have the same reward, from which nothing can be learnt, and sample further ones in their place (DAPO, arXiv 2503.14476).",
    z.boolean().default(false),
  ),
  dynamicSamplingMaxRounds: option(
    rollouts,
    "Most rounds of sampling for one batch; what is still missing then is filled with dropped prompts.",
    count(1).default(10),
  ),
  localRolloutForwardBatchSize: option(
    rollouts,
    "Completions scored in one pass by frozen models, and by the policy where that is needed beforehand.",
    count(1).default(64),
  ),

  epsilon: option(
    method,
    "How far a ratio may fall below 1 before it is clipped.",
    z.number().gt(0).default(0.2),
  ),
  epsilonHigh: option(
    method,
    "How far a ratio may rise above 1; epsilon if not given. More than epsilon leaves unlikely tokens room to grow (clip-higher; DAPO has 0.28).",
    z.number().gt(0).optional(),
  ),
  maskTruncatedCompletions: option(
    method,
    "Do not learn from completions that the limit on tokens cut off (arXiv 2503.14476).",
    z.boolean().default(false),
  ),
  importanceSamplingMode: option(
    method,
    "Weigh tokens or whole sequences by policy / sampler, with ratios beyond the limits cut (truncate) or dropped (mask). The sampler's log-probabilities are those of all tokens at this temperature, so the ratios stay near 1 unless the numbers of sampling and learning differ.",
    z.enum(["none", "token_truncate", "token_mask", "sequence_truncate", "sequence_mask"]).default("none"),
  ),
  importanceSamplingClipMin: option(
    method,
    "Smallest ratio of importance_sampling_mode; none: no limit.",
    z.number().min(0).nullable().default(null),
  ),
  importanceSamplingClipMax: option(
    method,
    "Largest ratio of importance_sampling_mode; none: no limit.",
    z.number().gt(0).nullable().default(3),
  ),

  syncRefModel: option(
    reference,
    "Move the reference towards the policy as training goes (TR-DPO, arXiv 2404.09656).",
    z.boolean().default(false),
  ),
  refModelMixupAlpha: option(
    reference,
    "Alpha in alpha * policy + (1 - alpha) * reference.",
    z.number().min(0).max(1).default(0.6),
  ),
  refModelSyncSteps: option(reference, "Steps between two moves of the reference.", count(1).default(512)),
};

const schema = z.strictObject(onlineFields);
true satisfies Agree<z.output<typeof schema>, OnlineOptions>;
