/**
 * Options of pre-training from random weights.
 *
 * @module
 */
import { z } from "zod";
import type { DatasetSpec } from "../../data/sources.ts";
import {
  type Agree,
  count,
  GROUPS,
  learningRateOption,
  LR_SCHEDULERS,
  maxLengthField,
  option,
  trainingFields,
  type TrainingOptions,
} from "./common.ts";
import { DATASET_HELP, datasetSpec } from "./data.ts";

/** Options of `pretrain`. */
export interface PretrainOptions extends Omit<TrainingOptions, "modelNameOrPath" | "datasetName"> {
  /** A directory with config.json and tokenizer.json; the parrot's, if not given. */
  modelNameOrPath?: string;
  /** Training text; the parrot's corpus, if not given. */
  datasetName?: DatasetSpec;
  /** Longest sequence in tokens, longer ones are cut at the end; `null` for no limit. */
  maxLength: number | null;
}

/** Schema of {@linkcode PretrainOptions}; the defaults are those that the parrot's base model is made with. */
export const pretrainSchema = z.strictObject({
  ...trainingFields,
  modelNameOrPath: option(
    GROUPS.data,
    "A directory with config.json and tokenizer.json; the parrot's, if not given.",
    z.string().min(1).optional(),
    ["model"],
  ),
  datasetName: option(
    GROUPS.data,
    `Training text, rows with a text column; the parrot's corpus, if not given: ${DATASET_HELP}`,
    datasetSpec.optional(),
    ["dataset", "datasets"],
  ),
  maxLength: maxLengthField("longer ones are cut at the end"),
  learningRate: learningRateOption(3e-3),
  lrSchedulerType: option(
    GROUPS.optimiser,
    "Shape of the learning rate after the warm-up.",
    LR_SCHEDULERS.default("warmup_stable_decay"),
  ),
  warmupSteps: option(
    GROUPS.optimiser,
    "Steps of linear warm-up.",
    count(0).default(100),
  ),
  maxSteps: option(
    GROUPS.length,
    "Optimiser steps; -1 leaves it to num_train_epochs.",
    count(-1).default(10000),
  ),
  perDeviceTrainBatchSize: option(
    GROUPS.length,
    "Documents in one forward and backward pass.",
    count(1).default(64),
  ),
  seed: option(GROUPS.length, "Determines every random number of the run.", count(0).default(0)),
  weightDecay: option(
    GROUPS.optimiser,
    "Decoupled weight decay, not applied to norms and biases.",
    z.number().min(0).default(0.1),
  ),
  adamBeta2: option(
    GROUPS.optimiser,
    "Decay of AdamW's second moment.",
    z.number().min(0).lt(1).default(0.95),
  ),
});

true satisfies Agree<z.output<typeof pretrainSchema>, PretrainOptions>;
