/**
 * Options of sampling from a model and of scoring text with one.
 *
 * @module
 */
import { z } from "zod";
import type { Dtype } from "../../model/frozen.ts";
import { type Agree, count, GROUPS, option, trainingFields } from "./common.ts";
import { dtypeField } from "./model.ts";

/** Options of `sample`. */
export interface SampleOptions {
  /** A Hugging Face directory, or a name on the Hub. */
  modelNameOrPath: string;
  /** Branch, tag or commit of a model on the Hub. */
  modelRevision: string;
  /** Form in which the weights are held; float32, or for a GGUF file as it is, if not given. */
  dtype?: Dtype;
  /** JSON lines with `prompt`, `messages` or `input_ids`. */
  input: string;
  /** JSON lines in the same order; standard output if not given. */
  output?: string;
  /** Most tokens of a completion. */
  maxNewTokens: number;
  /** 0 for greedy. */
  temperature: number;
  /** Draws from the k most likely tokens; 0 for all. */
  topK: number;
  /** Draws from the most likely tokens that together have this probability. */
  topP: number;
  /** Completions per prompt. */
  numReturnSequences: number;
  /** Goes on after the end-of-sequence token. */
  ignoreEos: boolean;
  /** Determines every draw. */
  seed: number;
}

/** Options of `score`. */
export interface ScoreOptions {
  /** A Hugging Face directory of a language model or a reward model, or a name on the Hub. */
  modelNameOrPath: string;
  /** Branch, tag or commit of a model on the Hub. */
  modelRevision: string;
  /** Form in which the weights are held; float32, or for a GGUF file as it is, if not given. */
  dtype?: Dtype;
  /** JSON lines with `text`, `prompt` and `completion`, or `input_ids`. */
  input: string;
  /** JSON lines in the same order; standard output if not given. */
  output?: string;
  /** Log-probabilities are of logits divided by this. */
  temperature: number;
  /** Only tokens of the completion are scored. */
  completionOnly: boolean;
  /** Rows in one pass. */
  batchSize: number;
}

const { modelNameOrPath, modelRevision } = trainingFields;
const sampling = "Sampling";

/** Schema of {@linkcode SampleOptions}. */
export const sampleSchema = z.strictObject({
  modelNameOrPath,
  modelRevision,
  dtype: dtypeField,
  input: option(GROUPS.data, "JSON lines with prompt, messages or input_ids.", z.string().min(1)),
  output: option(
    GROUPS.data,
    "JSON lines in the same order; standard output if not given.",
    z.string().min(1).optional(),
  ),
  maxNewTokens: option(sampling, "Most tokens of a completion.", count(1).default(256)),
  temperature: option(sampling, "Sampling temperature; 0 for greedy.", z.number().min(0).default(1)),
  topK: option(sampling, "Draw from the k most likely tokens; 0: all.", count(0).default(0)),
  topP: option(
    sampling,
    "Draw from the most likely tokens that together have this probability.",
    z.number().gt(0).max(1).default(1),
  ),
  numReturnSequences: option(sampling, "Completions per prompt.", count(1).default(1)),
  ignoreEos: option(sampling, "Go on after the end-of-sequence token.", z.boolean().default(false)),
  seed: option(sampling, "Determines every draw.", count(0).default(42)),
});

/** Schema of {@linkcode ScoreOptions}. */
export const scoreSchema = z.strictObject({
  modelNameOrPath,
  modelRevision,
  dtype: dtypeField,
  input: option(
    GROUPS.data,
    "JSON lines with text, prompt and completion, or input_ids.",
    z.string().min(1),
  ),
  output: option(
    GROUPS.data,
    "JSON lines in the same order; standard output if not given.",
    z.string().min(1).optional(),
  ),
  temperature: option(
    "Scoring",
    "Log-probabilities are of logits divided by this.",
    z.number().gt(0).default(1),
  ),
  completionOnly: option("Scoring", "Score only the tokens of the completion.", z.boolean().default(false)),
  batchSize: option("Scoring", "Rows in one pass.", count(1).default(16)),
});

true satisfies Agree<z.output<typeof sampleSchema>, SampleOptions>;
true satisfies Agree<z.output<typeof scoreSchema>, ScoreOptions>;
