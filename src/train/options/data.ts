/**
 * Options that say which rows a stage reads, under TRL's names.
 *
 * @module
 */
import { z } from "zod";
import type { DatasetEntry, DatasetSpec } from "../../data/sources.ts";

/** Which rows are trained on and which are held out. */
export interface DataOptions {
  /** Training data. */
  datasetName: DatasetSpec;
  /** Configuration of a dataset on the Hub. */
  datasetConfig?: string;
  /** Split of a directory that is trained on. */
  datasetTrainSplit: string;
  /** Split of a directory that is held out. */
  datasetTestSplit?: string;
  /** Share of the rows that is held out. */
  testSplitSize?: number;
  /** Held-out rows. */
  evalDataset?: DatasetSpec;
}

const text = z.string().min(1);

/** An entry of a mixture, in TRL's words. */
const datasetEntry = z.strictObject({
  path: text,
  name: text.nullable().optional(),
  data_dir: text.nullable().optional(),
  data_files: z.union([text, z.array(text)]).nullable().optional(),
  split: text.optional(),
  columns: z.array(text).nullable().optional(),
  fraction: z.number().min(0).nullable().optional(),
}) satisfies z.ZodType<DatasetEntry>;

/** A dataset as options name it. */
export const datasetSpec = z.union([text, z.array(datasetEntry).min(1)], {
  error: "Expected a path, or a list of entries with path, split, columns, fraction, data_dir, data_files",
});

/** What `--dataset_name` may be, for its help. */
export const DATASET_HELP =
  "a .jsonl, .json, .csv or .parquet file in one of TRL's dataset formats (all but the last also .gz), a directory whose files' names say train, validation or test, a pattern ('data/*.parquet'), or a name on the Hub (org/name, org/name@revision), which is fetched. Several with their shares: a.jsonl:0.7,b.parquet:0.3; in a configuration also a list, datasets, of path, name, split, columns, fraction. keel data shows how a dataset is read.";
