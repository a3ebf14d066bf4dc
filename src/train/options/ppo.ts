/**
 * Options of PPO: `PPOConfig` of TRL 1.12, the last release that had it; adaptive KL, score scaling and the safety stops
 * under the names of TRL 0.11; and every choice on which implementations differ, with TRL's as default.
 *
 * @module
 */
import { z } from "zod";
import type { KlPenalty } from "../../rl/kl.ts";
import type { WhitenScope } from "../rollout.ts";
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

/** Options of `ppo`. A step is one batch of perDeviceTrainBatchSize × gradientAccumulationSteps rollouts. */
export interface PpoOptions extends TrainingOptions, ModelOptions, RewardSourceOptions {
  /** Policy and reference, where it is not `modelNameOrPath`. */
  sftModelPath?: string;
  /** Longest prompt in tokens; `null` for no limit. */
  maxPromptLength: number | null;

  /** Rollouts of the whole run; if not given, `numTrainEpochs` passes over the prompts. */
  totalEpisodes?: number;
  /** Most tokens of a completion. */
  responseLength: number;
  /** Sampling temperature; log-probabilities of policy and reference are taken at it, too. */
  temperature: number;
  /** `eos` ends a completion at the end-of-sequence token; if not given, every completion has `responseLength` tokens. */
  stopToken?: "eos";
  /** Ends a completion at this token id. */
  stopTokenId?: number;
  /** Rollouts scored in one pass. */
  localRolloutForwardBatchSize: number;

  /** β in r − β·KL. */
  klCoef: number;
  /** How KL(π ‖ π_ref) is estimated, or replaced by a distance, per token in the reward; `exact` sums over the vocabulary. */
  klEstimator: KlPenalty;
  /** Adapts β to keep KL near `target` (arXiv 1909.08593). */
  adapKlCtrl: boolean;
  /** β at the start where it is adapted. */
  initKlCoef: number;
  /** KL aimed at, in nats per sequence. */
  target: number;
  /** Episodes over which β adapts. */
  horizon: number;

  /** Subtracted from the score of a completion without a stop token. */
  missingEosPenalty?: number;
  /** Where the score is added: on the stop token or, as in TRL, one position later where there is room. */
  scorePlacement: "after_eos" | "eos";
  /** Scores are clipped to ± this. */
  scoreClip?: number;
  /** Divides scores by the running standard deviation. */
  useScoreScaling: boolean;
  /** Subtracts the running mean as well; only with `useScoreScaling`. */
  useScoreNorm: boolean;
  /** Scales rewards to variance 1, keeping their mean. */
  whitenRewards: boolean;
  /** Divides by n − 1 (TRL) or n (OpenRLHF) in the variance of whitening. */
  whitenUnbiased: boolean;
  /** Whitens advantages over the whole batch of rollouts, within each mini-batch, or not at all. */
  whitenScope: WhitenScope;

  /** Passes over each batch of rollouts. */
  numPpoEpochs: number;
  /** Mini-batches, and so optimiser steps, per pass. */
  numMiniBatches: number;
  /** ε of the clipped policy loss. */
  cliprange: number;
  /** Range within which a value may move from that of the rollout; `null`: the value loss is not clipped. */
  cliprangeValue: number | null;
  /** Bound c of dual-clip PPO (arXiv 1912.09729): where the advantage A is negative, the loss is at most −c·A. */
  dualClip?: number;
  /** Weight of the value loss. */
  vfCoef: number;
  /** Weight of the policy's mean entropy per token, in nats, which is taken off the loss. */
  entropyCoef: number;
  /** Discount per token. */
  gamma: number;
  /** λ of generalised advantage estimation (arXiv 1506.02438). */
  lam: number;
  /** Averages the loss over the tokens of each forward pass and then over passes (TRL), or over all tokens at once. */
  lossAggregation: "micro_batch" | "mini_batch";
  /** Ends an update once the approximate KL of a mini-batch passes 1.5 times this. */
  targetKl?: number;
  /** Skips mini-batches whose mean ratio passes this; TRL 0.11 had 10. */
  ratioThreshold?: number;
  /** Learning rate of the critic; `learningRate` if not given. */
  valueLearningRate?: number;
  /** First steps in which only the critic learns. */
  criticWarmup: number;
  /** Keeps an exponential moving average of the policy's weights with this decay per step. */
  emaDecay?: number;
  /** The critic starts as a copy of the (first) reward model, or as the policy's body with a new head. */
  criticInit?: "reward" | "fresh";
}

const { data, length, method, optimiser } = GROUPS;
const rollouts = "Rollouts", kl = "KL penalty", rewards = "Rewards and advantages";

/** Names of TRL 0.11's `kl_penalty` in ours. */
function klName(name: KlPenalty | "kl" | "mse" | "full"): KlPenalty {
  switch (name) {
    case "kl":
      return "k1";
    case "mse":
      return "k2";
    case "full":
      return "exact";
    default:
      return name;
  }
}

/** Schema of {@linkcode PpoOptions}. */
export const ppoSchema = z.strictObject({
  ...trainingFields,
  ...modelFields,
  ...rewardFields,
  learningRate: learningRateOption(3e-6),
  maxGradNorm: option(
    optimiser,
    "Largest norm of the gradient, of policy and critic each; 0 for no clipping, as in TRL's PPO.",
    z.number().min(0).default(0),
  ),
  sftModelPath: option(
    data,
    "Policy and reference, where it is not model_name_or_path.",
    z.string().min(1).optional(),
  ),
  maxPromptLength: option(
    data,
    "Longest prompt in tokens; longer ones are dropped and counted; none: no limit.",
    count(1).nullable().default(512),
  ),

  totalEpisodes: option(
    length,
    "Rollouts of the whole run; if not given, num_train_epochs passes over the prompts.",
    count(1).optional(),
  ),
  responseLength: option(rollouts, "Most tokens of a completion.", count(1).default(53)),
  temperature: option(
    rollouts,
    "Sampling temperature; log-probabilities of policy and reference are taken at it, too.",
    z.number().gt(0).default(0.7),
  ),
  stopToken: option(
    rollouts,
    "eos ends a completion at the end-of-sequence token; if not given, all have response_length tokens.",
    z.enum(["eos"]).optional(),
  ),
  stopTokenId: option(rollouts, "Ends a completion at this token id.", count(0).optional()),
  localRolloutForwardBatchSize: option(rollouts, "Rollouts scored in one pass.", count(1).default(64)),

  klCoef: option(kl, "Beta in r - beta*KL.", z.number().min(0).default(0.05), ["beta"]),
  klEstimator: option(
    kl,
    "How KL(policy || reference) is estimated per token in the reward; exact sums over the vocabulary, abs is no estimate but the distance. Also TRL 0.11's kl_penalty: kl (k1), mse (k2), full (exact).",
    z.enum(["k1", "k2", "k3", "abs", "exact", "kl", "mse", "full"]).default("k1").transform(klName),
    ["kl_penalty"],
  ),
  adapKlCtrl: option(
    kl,
    "Adapt beta to keep KL near target (arXiv 1909.08593).",
    z.boolean().default(false),
  ),
  initKlCoef: option(kl, "Beta at the start where it is adapted.", z.number().gt(0).default(0.2)),
  target: option(kl, "KL aimed at where beta is adapted, in nats per sequence.", z.number().gt(0).default(6)),
  horizon: option(kl, "Episodes over which beta adapts.", z.number().gt(0).default(10000)),

  missingEosPenalty: option(
    rewards,
    "Subtracted from the score of a completion without a stop token.",
    z.number().min(0).optional(),
  ),
  scorePlacement: option(
    rewards,
    "Where the score is added: eos is the stop token (OpenRLHF), after_eos one later where there is room (TRL).",
    z.enum(["after_eos", "eos"]).default("after_eos"),
  ),
  scoreClip: option(rewards, "Clip scores to plus or minus this.", z.number().gt(0).optional()),
  useScoreScaling: option(
    rewards,
    "Divide scores by their running standard deviation.",
    z.boolean().default(false),
  ),
  useScoreNorm: option(
    rewards,
    "Subtract the running mean of the scores as well; only with use_score_scaling.",
    z.boolean().default(false),
  ),
  whitenRewards: option(
    rewards,
    "Scale rewards to variance 1, keeping their mean.",
    z.boolean().default(false),
  ),
  whitenUnbiased: option(
    rewards,
    "In whitening, divide by n - 1 (TRL, verl) instead of n (OpenRLHF).",
    z.boolean().default(true),
  ),
  whitenScope: option(
    rewards,
    "Whiten advantages over the whole batch of rollouts (TRL), within each mini-batch, or not at all.",
    z.enum(["batch", "mini_batch", "none"]).default("batch"),
  ),
  gamma: option(rewards, "Discount per token.", z.number().min(0).max(1).default(1)),
  lam: option(
    rewards,
    "Lambda of generalised advantage estimation (arXiv 1506.02438).",
    z.number().min(0).max(1).default(0.95),
  ),

  numPpoEpochs: option(method, "Passes over each batch of rollouts.", count(1).default(4)),
  numMiniBatches: option(method, "Mini-batches, and so optimiser steps, per pass.", count(1).default(1)),
  cliprange: option(method, "Epsilon of the clipped policy loss.", z.number().gt(0).default(0.2)),
  cliprangeValue: option(
    method,
    "Range within which a value may move from that of the rollout; none: the value loss is not clipped.",
    z.number().gt(0).nullable().default(0.2),
  ),
  dualClip: option(
    method,
    "Bound c of dual-clip PPO (arXiv 1912.09729): where an advantage A is negative, its loss is at most -c*A; 3 is usual.",
    z.number().gt(1).optional(),
  ),
  vfCoef: option(method, "Weight of the value loss.", z.number().min(0).default(0.1)),
  entropyCoef: option(
    method,
    "Weight of the policy's mean entropy, which is taken off the loss: keeps it from settling early.",
    z.number().min(0).default(0),
  ),
  lossAggregation: option(
    method,
    "Average the loss over the tokens of each forward pass and then over passes (micro_batch, as TRL), or over all at once.",
    z.enum(["micro_batch", "mini_batch"]).default("micro_batch"),
  ),
  targetKl: option(
    method,
    "End an update once the approximate KL of a mini-batch passes 1.5 times this, in nats per token.",
    z.number().gt(0).optional(),
  ),
  ratioThreshold: option(
    method,
    "Skip mini-batches whose mean ratio passes this; TRL 0.11 had 10.",
    z.number().gt(1).optional(),
  ),
  valueLearningRate: option(
    optimiser,
    "Learning rate of the critic, which has its own AdamW; learning_rate if not given, 0 freezes the critic.",
    z.number().min(0).optional(),
  ),
  criticWarmup: option(
    method,
    "First steps in which only the critic learns, so that advantages mean something when the policy starts.",
    count(0).default(0),
  ),
  emaDecay: option(
    optimiser,
    "Keep an exponential moving average of the policy with this decay per step, as in 0.992; it is written to model_ema beside model.",
    z.number().gt(0).lt(1).optional(),
  ),
  criticInit: option(
    method,
    "The critic starts as a copy of the first reward model (TRL; the default where there is one), or as the policy's body with a fresh head.",
    z.enum(["reward", "fresh"]).optional(),
  ),
});

true satisfies Agree<z.output<typeof ppoSchema>, PpoOptions>;

/** The model that the critic starts as. */
export function criticPath({ criticInit, rewardModelPath }: PpoOptions, policy: string): string {
  if (criticInit === "fresh") return policy;
  if (rewardModelPath) return rewardModelPath[0];
  if (criticInit === undefined) return policy;
  throw new Error("critic_init reward needs a reward model. Give reward_model, or critic_init fresh.");
}

/** The reward model that alone gives the scores, if one does: it scores in the same pass as policy and critic. */
export function onlyRewardModel(options: PpoOptions): string | undefined {
  const { rewardModelPath: models = [], rewardFuncs, rewardUrl, judgeUrl, rewardWeights } = options;
  const others = rewardFuncs ?? rewardUrl ?? judgeUrl ?? rewardWeights;
  return models.length === 1 && others === undefined && options.rewardEnsemble === "none"
    ? models[0]
    : undefined;
}
