/**
 * Datasets made of files: one file, a directory whose files' names say their split, a pattern, or a mixture of several.
 *
 * @module
 */
import { globSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { fileExists } from "../model/json_file.ts";
import { type DataRow, EXTENSIONS, readRows } from "./rows.ts";

/** A dataset of a mixture, under the names of TRL's `datasets` list. */
export interface DatasetEntry {
  /** A file, a directory or a pattern, or a name on the Hub. */
  path: string;
  /** Configuration of a dataset on the Hub; files have none. */
  name?: string | null;
  /** A folder below `path`. */
  data_dir?: string | null;
  /** Files or patterns below `path`. */
  data_files?: string | string[] | null;
  /** Which files of a directory are read; `train` if not given. */
  split?: string;
  /** Columns that are kept; all if not given. */
  columns?: string[] | null;
  /** Share of the mixture; for all entries or none. */
  fraction?: number | null;
  /** Files by split, of a dataset that was fetched from the Hub. */
  splits?: Record<string, string[]>;
}

/** A dataset as options name it: a path, several with their shares (`a.jsonl:0.7,b.parquet:0.3`), or a list of entries. */
export type DatasetSpec = string | DatasetEntry[];

function isDirectory(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

/** The entries that a specification names. */
export function datasetEntries(spec: DatasetSpec): DatasetEntry[] {
  if (typeof spec !== "string") return spec;
  if (fileExists(spec) || isDirectory(spec)) return [{ path: spec }];
  return spec.split(",").map((part) => {
    const [, path, share] = /^(.*?)(?::(\d*\.?\d+))?$/s.exec(part.trim())!;
    return share === undefined ? { path } : { path, fraction: Number(share) };
  });
}

/** A dataset in a few words. */
export function describeSpec(spec: DatasetSpec): string {
  return datasetEntries(spec).map(({ path, fraction }) =>
    fraction === undefined || fraction === null ? path : `${path}:${fraction}`
  ).join(",");
}

/** Words in a file's name that say its split, as `datasets` reads them. */
const SPLIT_WORDS: Record<string, string[]> = {
  train: ["train", "training"],
  validation: ["validation", "valid", "dev", "val"],
  test: ["test", "testing", "eval", "evaluation"],
};

/** The split that a path within a directory names; nothing where it names none. */
function splitOf(path: string): string | undefined {
  const part = /^(.+?)-\d{5}-of-\d{5}/.exec(basename(path));
  if (part) return part[1];
  const words = path.toLowerCase().split(/[^a-z]+/);
  return Object.keys(SPLIT_WORDS).find((split) => SPLIT_WORDS[split].some((word) => words.includes(word)));
}

const isData = (path: string) =>
  EXTENSIONS.some((extension) => path.endsWith(extension)) &&
  !/^(\.|_)|^dataset(_infos?|_dict)\.json$/.test(basename(path));

/** The data files below a directory by split, sorted; `train` are those without a name of a split where none has one. */
export function splitsOf(directory: string): Map<string, string[]> {
  const files = globSync("**/*", { cwd: directory })
    .map((path) => join(directory, path))
    .filter((path) => isData(path) && fileExists(path))
    .sort();
  if (files.length === 0) {
    throw new Error(`Cannot read ${directory}: it has no file that ends in ${EXTENSIONS.join(", ")}.`);
  }
  const splits = new Map<string, string[]>();
  const named = files.filter((path) => splitOf(relative(directory, path)));
  for (const path of named.length ? named : files) {
    const split = splitOf(relative(directory, path)) ?? "train";
    splits.set(split, [...splits.get(split) ?? [], path]);
  }
  const left = named.length ? files.filter((path) => !named.includes(path)) : [];
  if (left.length) {
    throw new Error(
      `Cannot read ${directory}: some of its files name a split and ${
        basename(left[0])
      } names none. Expected train, validation or test in every name, or in none.`,
    );
  }
  return splits;
}

/** The files of an entry, in the order in which they are read. */
export function filesOf(
  { path, name, data_dir, data_files, split = "train", splits }: DatasetEntry,
): string[] {
  if (splits) {
    if (Object.hasOwn(splits, split)) return splits[split];
    throw new Error(
      `Cannot read ${path}: it has no files of the split ${split}. It has ${Object.keys(splits).join(", ")}.`,
    );
  }
  if (name) {
    throw new Error(`Cannot read ${path}: files have no configurations, and "${name}" is named as one.`);
  }
  const base = data_dir ? join(path, data_dir) : path;
  if (data_files) return [data_files].flat().flatMap((file) => filesOf({ path: join(base, file), split }));
  if (isDirectory(base)) {
    const splits = splitsOf(base);
    const files = splits.get(split);
    if (!files) {
      throw new Error(
        `Cannot read ${base}: it has no files of the split ${split}. It has ${
          [...splits.keys()].join(", ")
        }.`,
      );
    }
    return files;
  }
  if (!fileExists(base) && /[*?[\]{}]/.test(base)) {
    const files = globSync(base).filter((file) => isData(file) && fileExists(file)).sort();
    if (files.length === 0) throw new Error(`Cannot read ${base}: no file has such a name.`);
    return files;
  }
  return [base];
}

/** Rows of one entry. */
async function* entryRows(entry: DatasetEntry, most: number): AsyncGenerator<DataRow> {
  let count = 0;
  for (const file of filesOf(entry)) {
    for await (const row of readRows(file)) {
      if (count++ >= most) return;
      if (!entry.columns) yield row;
      else {
        const missing = entry.columns.find((column) => !(Object.hasOwn(row.columns, column)));
        if (missing !== undefined) {
          throw new Error(
            `Cannot read ${row.where}: "${missing}" is missing. Expected columns ${
              entry.columns.join(", ")
            }.`,
          );
        }
        const kept = entry.columns.map((column) => [column, row.columns[column]]);
        yield { columns: Object.fromEntries(kept), where: row.where };
      }
    }
  }
}

/** Half to even, as Python rounds. */
function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  return value - below === 0.5 ? below + (below % 2) : Math.round(value);
}

/**
 * Rows of each entry that a mixture takes, as in TRL: shares are made to sum to one, the mixture is as large as it can be
 * without a row twice, and of each entry the first rows are taken. All rows where there are no shares.
 */
export async function mixtureCounts(entries: DatasetEntry[]): Promise<number[]> {
  const shares = entries.map(({ fraction }) => fraction ?? undefined);
  if (shares.every((share) => share === undefined)) return entries.map(() => Infinity);
  if (shares.includes(undefined)) {
    throw new Error("Some datasets of the mixture have a share and some have none. Expected all or none.");
  }
  const sum = shares.reduce<number>((a, b) => a + b!, 0);
  if (!(sum > 0)) throw new Error("The shares of the mixture sum to 0. Expected at least one above 0.");
  let most = Infinity;
  for (const [i, entry] of entries.entries()) {
    if (!shares[i]) continue;
    let rows = 0;
    for await (const _ of entryRows(entry, Infinity)) rows++;
    most = Math.min(most, rows / (shares[i] / sum));
  }
  return shares.map((share) => roundHalfEven(share! / sum * most));
}

/** Reads the rows of a dataset one after the other; `split` is for directories that no entry says otherwise for. */
export async function* datasetRows(spec: DatasetSpec, split = "train"): AsyncGenerator<DataRow> {
  const entries = datasetEntries(spec).map((entry) => ({ ...entry, split: entry.split ?? split }));
  const counts = await mixtureCounts(entries);
  for (const [i, entry] of entries.entries()) yield* entryRows(entry, counts[i]);
}

/** Number of rows of a dataset. */
export async function countRows(spec: DatasetSpec, split?: string): Promise<number> {
  let rows = 0;
  for await (const _ of datasetRows(spec, split)) rows++;
  return rows;
}

/** All rows of a dataset, in memory. */
export async function readSources(spec: DatasetSpec, split?: string): Promise<DataRow[]> {
  return await Array.fromAsync(datasetRows(spec, split));
}
