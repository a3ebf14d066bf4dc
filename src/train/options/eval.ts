/**
 * Options of evaluating a model on a dataset.
 *
 * @module
 */
import { z } from "zod";
import type { DatasetSpec } from "../../data/sources.ts";
import type { Dtype } from "../../model/frozen.ts";
import { type Agree, count, GROUPS, maxLengthField, option, trainingFields } from "./common.ts";
import { DATASET_HELP, datasetSpec } from "./data.ts";
import { dtypeField } from "./model.ts";
import { sftSchema } from "./sft.ts";

/** Options of `eval`. */
export interface EvalOptions {
  /** A Hugging Face directory, a GGUF file, a PEFT directory, a run, or a name on the Hub. */
  modelNameOrPath: string;
  /** Branch, tag or commit of a model on the Hub. */
  modelRevision: string;
  /** Form in which the weights are held; float32, or for a GGUF file as it is, if not given. */
  dtype?: Dtype;
  /** Texts, demonstrations or preference pairs. */
  dataset: DatasetSpec;
  /** Configuration of a dataset on the Hub. */
  datasetConfig?: string;
  /** Split of a directory that is read. */
  datasetSplit: string;
  /** Column of texts. */
  datasetTextField: string;
  /** Longest sequence in tokens; `null` for no limit. */
  maxLength: number | null;
  /** Which end of a longer text is kept. */
  truncationMode: "keep_start" | "keep_end";
  /** Scores completions only. */
  completionOnlyLoss?: boolean;
  /** Scores the assistant's turns only. */
  assistantOnlyLoss: boolean;
  /** Most tokens in one pass. */
  batchTokens: number;
  /** JSON lines, one per row that is used. */
  output?: string;
}

const { datasetTextField, truncationMode, completionOnlyLoss, assistantOnlyLoss } = sftSchema.shape;

/** Schema of {@linkcode EvalOptions}. */
export const evalSchema = z.strictObject({
  modelNameOrPath: option(
    GROUPS.data,
    "What is evaluated, a language model or a reward model: a Hugging Face directory, a GGUF file, an adapter, a run, or a name on the Hub.",
    z.string().min(1),
    ["model"],
  ),
  modelRevision: trainingFields.modelRevision,
  dtype: dtypeField,
  dataset: option(GROUPS.data, `Held-out rows: ${DATASET_HELP}`, datasetSpec, ["dataset_name", "datasets"]),
  datasetConfig: trainingFields.datasetConfig,
  datasetSplit: option(
    GROUPS.data,
    "Split of a directory or of a dataset on the Hub that is read, as in test.",
    z.string().min(1).default("train"),
  ),
  datasetTextField,
  maxLength: maxLengthField("longer texts are cut, longer pairs are dropped"),
  truncationMode,
  completionOnlyLoss,
  assistantOnlyLoss,
  batchTokens: option(
    GROUPS.output,
    "Most tokens in one pass, which bounds the memory; the numbers do not depend on it.",
    count(8).default(4096),
  ),
  output: option(
    GROUPS.output,
    "JSON lines with the numbers of every row that is used.",
    z.string().min(1).optional(),
  ),
});

true satisfies Agree<z.output<typeof evalSchema>, EvalOptions>;
