/**
 * Options that all training methods share, under TRL's names with TRL 1.16's default values.
 *
 * A schema is the one place where an option is defined: flags, help, configuration files and messages are made from it.
 * The interface beside it is for readers and for TypeScript; the compiler checks that the two agree.
 *
 * @module
 */
import { z } from "zod";
import { type TrackerName, TRACKERS } from "../../run/trackers/tracker.ts";
import type { LrSchedulerType } from "../schedule.ts";
import { type DataOptions, DATASET_HELP, datasetSpec } from "./data.ts";

/** True when two object types have the same keys and are assignable to each other. */
export type Agree<A, B> = [A] extends [B]
  ? [B] extends [A] ? [keyof A] extends [keyof B] ? [keyof B] extends [keyof A] ? true : false : false : false
  : false;

/** Describes an option: the heading of `--help` that it stands under, its help text, and further names. */
export function option<T extends z.ZodType>(
  group: string,
  description: string,
  schema: T,
  aliases: string[] = [],
): T {
  return schema.meta({ group, description, aliases }) as T;
}

/** A whole number of at least `least`. */
export function count(least: number): z.ZodNumber {
  return z.number().int().min(least);
}

/** Headings of `--help`. */
export const GROUPS = {
  data: "Model and data",
  length: "Length of the run",
  optimiser: "Optimiser",
  lora: "Adapters (LoRA)",
  method: "Method",
  output: "Output, evaluation and checkpoints",
} as const;

const { data, length, optimiser, output } = GROUPS;

/** Options of every training method. */
export interface TrainingOptions
  extends Pick<DataOptions, "datasetName" | "datasetConfig" | "datasetTrainSplit"> {
  /** A Hugging Face directory (config.json, model.safetensors, tokenizer.json), or a name on the Hub. */
  modelNameOrPath: string;
  /** Branch, tag or commit of a model on the Hub. */
  modelRevision: string;
  /** Order in which rows are drawn: shuffled anew in every epoch, or as they stand. */
  shuffleDataset: boolean;
  /** The run directory. */
  outputDir: string;
  /** Goes on with the run in `outputDir` from its newest whole checkpoint. */
  resume: boolean;
  /** A checkpoint folder to start from. */
  resumeFromCheckpoint?: string;
  /** Replaces a run that is in `outputDir`. */
  overwriteOutputDir: boolean;
  /** Determines every random number of the run. */
  seed: number;
  /** Peak learning rate. */
  learningRate: number;
  /** Shape of the learning rate after the warm-up. */
  lrSchedulerType: LrSchedulerType;
  /** Steps of linear warm-up. */
  warmupSteps: number;
  /** Share of all steps used for warm-up where `warmupSteps` is 0. */
  warmupRatio: number;
  /** Optimiser steps; where not positive, `numTrainEpochs` decides. */
  maxSteps: number;
  /** Passes over the data. */
  numTrainEpochs: number;
  /** Rows in one forward and backward pass. */
  perDeviceTrainBatchSize: number;
  /** Rows in one pass of an evaluation. */
  perDeviceEvalBatchSize: number;
  /** Passes per optimiser step. */
  gradientAccumulationSteps: number;
  /** Recomputes activations in the backward pass: less memory, the same numbers. */
  gradientCheckpointing: boolean;
  /** Largest norm of the gradient; 0 for no clipping. */
  maxGradNorm: number;
  /** Decoupled weight decay, not applied to norms and biases. */
  weightDecay: number;
  /** Decay of AdamW's first moment. */
  adamBeta1: number;
  /** Decay of AdamW's second moment. */
  adamBeta2: number;
  /** AdamW's epsilon, outside the root. */
  adamEpsilon: number;
  /** Steps between two lines where there is no terminal; every step is stored in any case. */
  loggingSteps: number;
  /** Steps between two evaluations; 0 for one after the last step. */
  evalSteps: number;
  /** Steps between two checkpoints; 0 for one after the last step. */
  saveSteps: number;
  /** Newest checkpoints that are kept; all if not given. */
  saveTotalLimit?: number;
  /** Trackers that get the metrics, too. */
  reportTo: TrackerName[];
}

/** Names of {@linkcode LrSchedulerType}. */
export const LR_SCHEDULERS = z.enum([
  "linear",
  "cosine",
  "constant",
  "constant_with_warmup",
  "warmup_stable_decay",
]);

/** The learning rate, whose default differs between methods. */
export function learningRateOption(value: number): z.ZodDefault<z.ZodNumber> {
  return option(optimiser, "Peak learning rate.", z.number().min(0).default(value));
}

const reported = z.enum([...TRACKERS, "all", "none"]);

/** As in transformers, a name or a list of names. */
const reportTo = z.union([z.array(reported), reported, z.null()], {
  error: `Expected ${TRACKERS.join(", ")}, a list of these, all or none`,
});

/** The trackers that are meant, each once. */
function trackersOf(given: z.output<typeof reportTo>): TrackerName[] {
  const names = [given ?? []].flat();
  return TRACKERS.filter((name) => names.includes(name) || names.includes("all"));
}

/** Schema of {@linkcode TrainingOptions}, field by field; methods replace fields whose default is their own. */
export const trainingFields = {
  modelNameOrPath: option(
    data,
    "A Hugging Face directory (config.json, model.safetensors, tokenizer.json), or a name on the Hub, as in org/name, org/name@revision or org/name/file.gguf, which is fetched.",
    z.string().min(1),
    ["model"],
  ),
  modelRevision: option(
    data,
    "Branch, tag or commit of a model on the Hub, where its name has none.",
    z.string().min(1).default("main"),
  ),
  datasetName: option(
    data,
    `Training data: ${DATASET_HELP}`,
    datasetSpec,
    ["dataset", "datasets"],
  ),
  datasetConfig: option(
    data,
    "Configuration (subset) of a dataset on the Hub, where it has several.",
    z.string().min(1).optional(),
  ),
  datasetTrainSplit: option(
    data,
    "Split of a directory that is trained on.",
    z.string().min(1).default("train"),
  ),
  shuffleDataset: option(data, "Shuffle the rows anew in every epoch.", z.boolean().default(true)),
  outputDir: option(output, "The run directory.", z.string().min(1)),
  resume: option(
    output,
    "Go on with the run in output_dir from its newest whole checkpoint.",
    z.boolean().default(false),
  ),
  resumeFromCheckpoint: option(
    output,
    "A checkpoint folder (step-N) to start from.",
    z.string().min(1).optional(),
  ),
  overwriteOutputDir: option(output, "Replace the run that is in output_dir.", z.boolean().default(false)),
  seed: option(length, "Determines every random number of the run.", count(0).default(42)),
  learningRate: learningRateOption(2e-5),
  lrSchedulerType: option(
    optimiser,
    "Shape of the learning rate after the warm-up.",
    LR_SCHEDULERS.default("linear"),
  ),
  warmupSteps: option(
    optimiser,
    "Steps of linear warm-up.",
    count(0).default(0),
  ),
  warmupRatio: option(
    optimiser,
    "Share of all steps used for warm-up where warmup_steps is 0.",
    z.number().min(0).max(1).default(0),
  ),
  maxSteps: option(length, "Optimiser steps; -1 leaves it to num_train_epochs.", count(-1).default(-1)),
  numTrainEpochs: option(length, "Passes over the data.", z.number().gt(0).default(3)),
  perDeviceTrainBatchSize: option(length, "Rows in one forward and backward pass.", count(1).default(8)),
  perDeviceEvalBatchSize: option(output, "Rows in one pass of an evaluation.", count(1).default(8)),
  gradientAccumulationSteps: option(length, "Passes per optimiser step.", count(1).default(1)),
  gradientCheckpointing: option(
    optimiser,
    "Recompute activations in the backward pass: less memory, the same numbers, more time.",
    z.boolean().default(false),
  ),
  maxGradNorm: option(
    optimiser,
    "Largest norm of the gradient; 0 for no clipping.",
    z.number().min(0).default(1),
  ),
  weightDecay: option(
    optimiser,
    "Decoupled weight decay, not applied to norms and biases.",
    z.number().min(0).default(0),
  ),
  adamBeta1: option(optimiser, "Decay of AdamW's first moment.", z.number().min(0).lt(1).default(0.9)),
  adamBeta2: option(optimiser, "Decay of AdamW's second moment.", z.number().min(0).lt(1).default(0.999)),
  adamEpsilon: option(optimiser, "AdamW's epsilon, outside the root.", z.number().gt(0).default(1e-8)),
  loggingSteps: option(
    output,
    "Steps between two lines where there is no terminal; every step is stored.",
    count(1).default(10),
  ),
  evalSteps: option(
    output,
    "Steps between two evaluations; 0: one after the last step.",
    count(0).default(0),
  ),
  saveSteps: option(
    output,
    "Steps between two checkpoints; 0: one after the last step.",
    count(0).default(500),
  ),
  saveTotalLimit: option(output, "Newest checkpoints that are kept; all if not given.", count(1).optional()),
  reportTo: option(
    output,
    "Where the metrics go besides run.db, in the run directory or the folder of each stage: tensorboard (tb/, for tensorboard --logdir), jsonl (metrics.jsonl), wandb (wandb/, an offline run for wandb sync); several by commas, all for the three.",
    reportTo.default("none").transform(trackersOf),
  ),
};

/** Held-out rows, for methods that evaluate on some. */
export const heldOutFields = {
  evalDataset: option(
    data,
    "Held-out rows in the format of the training data, evaluated every eval_steps.",
    datasetSpec.optional(),
  ),
  datasetTestSplit: option(
    data,
    "Split of the training data's directory that is held out, as in test.",
    z.string().min(1).optional(),
  ),
  testSplitSize: option(
    data,
    "Share of the training data's rows that is held out, chosen by the seed.",
    z.number().gt(0).lt(1).optional(),
  ),
};

/** Longest sequence in tokens, for methods that read documents. */
export function maxLengthField(whatHappens: string): z.ZodDefault<z.ZodNullable<z.ZodNumber>> {
  return option(
    data,
    `Longest sequence in tokens; ${whatHappens}; none: no limit.`,
    count(1).nullable().default(1024),
  );
}
