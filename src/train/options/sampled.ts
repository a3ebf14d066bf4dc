/**
 * Options of commands that sample several completions of each prompt and have them scored, without training anything.
 *
 * @module
 */
import { z } from "zod";
import type { DatasetSpec } from "../../data/sources.ts";
import type { Dtype } from "../../model/frozen.ts";
import { type Agree, count, GROUPS, option, trainingFields } from "./common.ts";
import { dtypeField, modelFields } from "./model.ts";
import { rewardFields, type RewardSourceOptions } from "./rewards.ts";

/** What is sampled, from which prompts, and where it is kept. */
export interface SampledOptions extends RewardSourceOptions {
  /** The policy. */
  modelNameOrPath: string;
  /** Branch, tag or commit of a model on the Hub. */
  modelRevision: string;
  /** Form in which all models are held. */
  dtype?: Dtype;
  /** Gigabytes that the GPU has, where WebGPU does not say. */
  gpuMemory?: number;
  /** Prompts. */
  datasetName: DatasetSpec;
  /** Configuration of a dataset on the Hub. */
  datasetConfig?: string;
  /** Split of a directory that is read. */
  datasetTrainSplit: string;
  /** Longest prompt in tokens; `null`: no limit. */
  maxPromptLength: number | null;
  /** Most prompts, the first ones of the dataset. */
  maxPrompts?: number;
  /** Completions of each prompt. */
  numGenerations: number;
  /** Most tokens of a completion. */
  maxCompletionLength: number;
  /** Sampling temperature. */
  temperature: number;
  /** Draws from the most likely tokens that together have this probability. */
  topP: number;
  /** Draws from the k most likely tokens; 0: from all. */
  topK: number;
  /** Prompts that are answered at a time. */
  batchSize: number;
  /** Determines every draw. */
  seed: number;
  /** The run directory. */
  outputDir: string;
  /** Goes on with the run in `outputDir`. */
  resume: boolean;
  /** Replaces a run that is in `outputDir`. */
  overwriteOutputDir: boolean;
  /** Prompts between two lines where there is no terminal. */
  loggingSteps: number;
}

const { modelNameOrPath, modelRevision, datasetConfig, seed, outputDir, resume, overwriteOutputDir } =
  trainingFields;
const sampling = "Sampling";

/** The number of completions of a prompt. */
export function completionsOption(value: number): z.ZodDefault<z.ZodNumber> {
  return option(sampling, "Completions of each prompt.", count(2).max(4096).default(value));
}

/** Schema of {@linkcode SampledOptions}, field by field. */
export const sampledFields = {
  modelNameOrPath: option(
    GROUPS.data,
    "The policy that answers: a Hugging Face directory, a GGUF file, an adapter, a run, or a name on the Hub.",
    modelNameOrPath,
    ["model"],
  ),
  modelRevision,
  dtype: dtypeField,
  gpuMemory: modelFields.gpuMemory,
  datasetName: option(
    GROUPS.data,
    "Prompts: a dataset of any type that has them; keel data shows how one is read. Its further columns are there for reward functions.",
    trainingFields.datasetName,
    ["dataset", "datasets", "prompts"],
  ),
  datasetConfig,
  datasetTrainSplit: option(
    GROUPS.data,
    "Split of a directory that is read.",
    z.string().min(1).default("train"),
    ["dataset_split"],
  ),
  maxPromptLength: option(
    GROUPS.data,
    "Longest prompt in tokens; longer ones are dropped and counted; none: no limit.",
    count(1).nullable().default(512),
  ),
  maxPrompts: option(
    GROUPS.data,
    "Most prompts, the first ones of the dataset; all if not given.",
    count(1).optional(),
  ),
  numGenerations: completionsOption(2),
  maxCompletionLength: option(sampling, "Most tokens of a completion.", count(1).default(256)),
  temperature: option(sampling, "Sampling temperature.", z.number().gt(0).default(1)),
  topP: option(
    sampling,
    "Draw from the most likely tokens that together have this probability.",
    z.number().gt(0).max(1).default(1),
  ),
  topK: option(sampling, "Draw from the k most likely tokens; 0: all.", count(0).default(0)),
  batchSize: option(
    sampling,
    "Prompts that are answered at a time, which bounds the memory; the completions do not depend on it.",
    count(1).default(16),
  ),
  seed,
  ...rewardFields,
  outputDir,
  resume,
  overwriteOutputDir,
  loggingSteps: option(
    GROUPS.output,
    "Prompts between two lines where there is no terminal.",
    count(1).default(10),
  ),
};

const schema = z.strictObject(sampledFields);
true satisfies Agree<z.output<typeof schema>, SampledOptions>;
