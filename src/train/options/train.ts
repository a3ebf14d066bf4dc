/**
 * Options of the whole job: SFT, reward model, PPO.
 *
 * @module
 */
import { z } from "zod";
import type { DatasetSpec } from "../../data/sources.ts";
import type { KlEstimator } from "../../rl/kl.ts";
import type { TrackerName } from "../../run/trackers/tracker.ts";
import { type Agree, count, GROUPS, option, trainingFields } from "./common.ts";
import { DATASET_HELP, datasetSpec } from "./data.ts";
import { modelFields, type ModelOptions } from "./model.ts";

/** Options of `train`. Defaults are those of the parrot; with `modelNameOrPath` set, real data take its place. */
export interface TrainOptions extends ModelOptions {
  /** Base model: a Hugging Face directory or a name on the Hub; the parrot's own base model if not given. */
  modelNameOrPath?: string;
  /** Branch, tag or commit of a model on the Hub. */
  modelRevision: string;
  /** Preference pairs for all three stages, e.g. hh-rlhf; needed with a model of your own. */
  datasetName?: DatasetSpec;
  /** Configuration of a dataset on the Hub. */
  datasetConfig?: string;
  /** Data of SFT, where they are not the chosen sides of `datasetName`. */
  sftDataset?: DatasetSpec;
  /** Prompts of PPO, where they are not those of `datasetName`. */
  prompts?: DatasetSpec;
  /** Share of the pairs that are held out to test the reward model. */
  testSplitSize: number;
  /** Longest sequence in tokens. */
  maxLength: number;

  outputDir: string;
  resume: boolean;
  resumeFromCheckpoint?: string;
  overwriteOutputDir: boolean;
  seed: number;
  saveSteps: number;
  saveTotalLimit: number;
  loggingSteps: number;
  reportTo: TrackerName[];

  /** β in r − β·KL. */
  klCoef: number;
  klEstimator: KlEstimator;
  /** PPO steps; each is `ppoBatchSize` rollouts. */
  ppoSteps: number;
  ppoBatchSize: number;
  responseLength: number;
  temperature: number;
  ppoLearningRate: number;
  valueLearningRate: number;
  /** Steps between two evaluations of the policy. */
  evalSteps: number;

  sftLearningRate: number;
  sftBatchSize: number;
  sftEpochs: number;
  rewardLearningRate: number;
  rewardBatchSize: number;
  rewardEpochs: number;

  /** Who labels the parrot's comparisons. */
  annotators: "biased" | "unbiased";
  /** Demonstrations of the parrot's SFT. */
  demonstrations: number;
  /** Comparisons of the parrot's reward model. */
  pairs: number;
  /** Held-out prompts of every evaluation of the parrot. */
  evalPrompts: number;
  /** Largest n of best-of-n on held-out prompts of the parrot; 0 leaves it out. */
  bestOfN: number;
}

const { data, length, output } = GROUPS;
const stage1 = "Supervised fine-tuning", stage2 = "Reward model", stage3 = "PPO", parrot = "The parrot";
const path = z.string().min(1);
const rate = (value: number) => z.number().min(0).default(value);

/** Schema of {@linkcode TrainOptions}. */
export const trainSchema = z.strictObject({
  modelNameOrPath: option(
    data,
    "Base model, a Hugging Face directory or a name on the Hub (org/name); the parrot's own base model if not given.",
    path.optional(),
    ["model"],
  ),
  modelRevision: trainingFields.modelRevision,
  ...modelFields,
  datasetName: option(
    data,
    `Preference pairs for all three stages, e.g. hh-rlhf; needed with a model of your own: ${DATASET_HELP}`,
    datasetSpec.optional(),
    ["dataset", "datasets"],
  ),
  datasetConfig: trainingFields.datasetConfig,
  sftDataset: option(
    data,
    "Data of SFT in one of TRL's formats; the chosen sides of the dataset if not given.",
    datasetSpec.optional(),
  ),
  prompts: option(data, "Prompts of PPO; those of the dataset if not given.", datasetSpec.optional()),
  testSplitSize: option(
    data,
    "Share of the pairs held out to test the reward model.",
    z.number().min(0).lt(1).default(0.1),
  ),
  maxLength: option(
    data,
    "Longest sequence in tokens, at most the positions of the model.",
    count(2).default(1024),
  ),
  outputDir: option(output, "The run directory.", path.default("runs/train")),
  resume: trainingFields.resume,
  resumeFromCheckpoint: option(
    output,
    "A checkpoint folder of this run (STAGE/checkpoints/step-N) to start from; what came after it is made again.",
    path.optional(),
  ),
  overwriteOutputDir: trainingFields.overwriteOutputDir,
  seed: option(length, "Determines every random number of the run.", count(0).default(1)),
  saveSteps: option(
    output,
    "Steps between two checkpoints; 0: one at the end of each stage.",
    count(0).default(20),
  ),
  saveTotalLimit: option(
    output,
    "Newest checkpoints of a stage that are kept.",
    count(1).default(2),
  ),
  loggingSteps: option(output, "Steps between two lines of progress.", count(1).default(10)),
  reportTo: trainingFields.reportTo,

  klCoef: option(
    stage3,
    "Beta in r - beta*KL, for rewards of standard deviation 1. 0 shows over-optimisation.",
    z.number().min(0).default(0.7),
    ["beta"],
  ),
  klEstimator: option(
    stage3,
    "How KL is estimated per token in the reward.",
    z.enum(["k1", "k2", "k3", "exact"]).default("k1"),
  ),
  ppoSteps: option(stage3, "PPO steps, each one batch of rollouts.", count(1).default(40), ["max_steps"]),
  ppoBatchSize: option(stage3, "Rollouts of a step, in four mini-batches.", count(4).default(96)),
  responseLength: option(stage3, "Most tokens of a completion.", count(1).default(24)),
  temperature: option(stage3, "Sampling temperature.", z.number().gt(0).default(1)),
  ppoLearningRate: option(stage3, "Learning rate of the policy.", rate(4e-4)),
  valueLearningRate: option(stage3, "Learning rate of the critic.", rate(1e-3)),
  evalSteps: option(stage3, "Steps between two evaluations of the policy.", count(1).default(4)),

  sftLearningRate: option(stage1, "Learning rate.", rate(1e-3)),
  sftBatchSize: option(stage1, "Documents of a step.", count(1).default(64)),
  sftEpochs: option(stage1, "Passes over the demonstrations.", z.number().gt(0).default(2)),
  rewardLearningRate: option(stage2, "Learning rate.", rate(1e-3)),
  rewardBatchSize: option(stage2, "Pairs of a step.", count(1).default(32)),
  rewardEpochs: option(stage2, "Passes over the pairs.", z.number().gt(0).default(1)),

  annotators: option(
    parrot,
    "Who labels the comparisons: biased towards agreement, length and flattery, or unbiased (the control).",
    z.enum(["biased", "unbiased"]).default("biased"),
  ),
  demonstrations: option(parrot, "Demonstrations of SFT.", count(1).default(2500)),
  pairs: option(parrot, "Comparisons of the reward model.", count(1).default(4500)),
  evalPrompts: option(parrot, "Held-out prompts of every evaluation.", count(2).default(256)),
  bestOfN: option(
    parrot,
    "Largest n of best-of-n on held-out prompts; 0 leaves it out.",
    count(0).default(256),
  ),
});

true satisfies Agree<z.output<typeof trainSchema>, TrainOptions>;
