/**
 * Options of `keel data`, which shows how a dataset is read.
 *
 * @module
 */
import { z } from "zod";
import type { DatasetSpec } from "../../data/sources.ts";
import { type Agree, count, GROUPS, maxLengthField, option, trainingFields } from "./common.ts";
import { DATASET_HELP, datasetSpec } from "./data.ts";
import { sftSchema } from "./sft.ts";

/** Options of `data`. */
export interface DataCommandOptions {
  /** What is read. */
  dataset: DatasetSpec;
  /** Configuration of a dataset on the Hub. */
  datasetConfig?: string;
  /** A directory with tokenizer.json; characters are counted if not given. */
  modelNameOrPath?: string;
  /** Branch, tag or commit of a model on the Hub. */
  modelRevision: string;
  /** Column of texts. */
  datasetTextField: string;
  /** Rows that are shown. */
  rows: number;
  /** Longest sequence in tokens; `null` for no limit. */
  maxLength: number | null;
  /** Which end of a longer sequence is kept. */
  truncationMode: "keep_start" | "keep_end";
  /** Loss on completions only. */
  completionOnlyLoss?: boolean;
  /** Loss on the assistant's turns only. */
  assistantOnlyLoss: boolean;
}

const { datasetTextField, truncationMode, completionOnlyLoss, assistantOnlyLoss } = sftSchema.shape;

/** Schema of {@linkcode DataCommandOptions}. */
export const dataSchema = z.strictObject({
  dataset: option(GROUPS.data, `What is read: ${DATASET_HELP}`, datasetSpec, ["dataset_name", "datasets"]),
  datasetConfig: trainingFields.datasetConfig,
  modelNameOrPath: option(
    GROUPS.data,
    "A directory with tokenizer.json, or a name on the Hub; characters are counted if not given.",
    z.string().min(1).optional(),
    ["model"],
  ),
  modelRevision: trainingFields.modelRevision,
  datasetTextField,
  rows: option(GROUPS.output, "Rows that are shown.", count(0).default(3)),
  maxLength: maxLengthField("of SFT longer ones are cut, longer pairs and prompts are dropped"),
  truncationMode,
  completionOnlyLoss,
  assistantOnlyLoss,
});

true satisfies Agree<z.output<typeof dataSchema>, DataCommandOptions>;
