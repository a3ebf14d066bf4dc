/**
 * Which files of a dataset's repository hold which split, by the rules of `datasets`: what the README's `configs` say, else
 * the names of files and folders.
 *
 * @module
 */
import { basename, dirname, matchesGlob } from "node:path";
import { load } from "js-yaml";
import { isJsonObject } from "../model/json_file.ts";
import type { RemoteFile } from "./cache.ts";

/** What is wanted of a dataset's repository. */
export interface DatasetSelection {
  /** A configuration (subset) by its name; the default one if not given. */
  config?: string;
  /** Only files in this folder. */
  dataDir?: string;
  /** Only files that match one of these globs. */
  dataFiles?: string[];
}

/** Files by split: `train`, `test`, `validation`, or what the repository names. */
export type DatasetSplits = Record<string, RemoteFile[]>;

/** Files with rows that keel reads. */
const DATA = /\.(jsonl|json|csv)(\.gz)?$|\.parquet$/;

/** Files of the kinds above that describe and hold no rows. */
const NOT_ROWS = /^(dataset_infos?|dataset_dict|state|croissant|package|config|tokenizer_config)\.json$/;

const KEYWORDS: [split: string, words: string[]][] = [
  ["train", ["train", "training"]],
  ["validation", ["validation", "valid", "dev", "val"]],
  ["test", ["test", "testing", "eval", "evaluation"]],
];

/**
 * Chooses the files of a dataset, in their order by name.
 *
 * @param source the repository, for messages
 * @param readme its README.md, whose front matter may name configurations
 * @throws {Error} when nothing is left, or a configuration has to be named.
 */
export function datasetFiles(
  source: string,
  files: RemoteFile[],
  readme: string | undefined,
  { config, dataDir, dataFiles }: DatasetSelection = {},
): DatasetSplits {
  const folder = dataDir?.replace(/^\.?\/+|\/+$/g, "");
  const data = files
    .filter(({ path }) => DATA.test(path) && !NOT_ROWS.test(path) && !/(^|\/)[._]/.test(path))
    .filter(({ path }) => !folder || path.startsWith(`${folder}/`))
    .sort((a, b) => a.path < b.path ? -1 : 1);
  const splits = dataFiles
    ? byGlobs(data, [["train", dataFiles]], folder)
    : config !== undefined || !folder
    ? byConfig(source, data, readme, config)
    : bySplit(data, folder);
  if (Object.keys(splits).length > 0) return splits;
  const wanted = [
    ...config === undefined ? [] : [`configuration ${config}`],
    ...folder ? [`folder ${folder}`] : [],
    ...dataFiles ? [`files ${dataFiles.join(", ")}`] : [],
  ].join(", ");
  const shown = files.slice(0, 10).map(({ path }) => path).join(", ");
  throw new Error(
    `Cannot use ${source}: it has no .jsonl, .json, .csv or .parquet files${
      wanted && ` for ${wanted}`
    }. It has ${shown || "no files"}${files.length > 10 ? ` and ${files.length - 10} more` : ""}.`,
  );
}

interface Config {
  name: string;
  isDefault: boolean;
  folder?: string;
  /** Globs by split; `undefined` for those of the names. */
  globs?: [split: string, globs: string[]][];
}

function byConfig(source: string, data: RemoteFile[], readme = "", wanted?: string): DatasetSplits {
  const configs = readConfigs(readme);
  const names = configs.map(({ name }) => name);
  if (configs.length === 0) {
    if (wanted === undefined || wanted === "default") return bySplit(data);
    throw new Error(`Cannot use ${source}: it has no configuration "${wanted}"; its README.md names none.`);
  }
  const chosen = wanted !== undefined
    ? configs.find(({ name }) => name === wanted)
    : configs.length === 1
    ? configs[0]
    : configs.find(({ isDefault }) => isDefault) ?? configs.find(({ name }) => name === "default");
  if (!chosen) {
    throw new Error(
      wanted === undefined
        ? `Cannot use ${source}: it has ${names.length} configurations. Name one with --dataset_config: ${
          names.join(", ")
        }.`
        : `Cannot use ${source}: it has no configuration "${wanted}". Expected ${names.join(", ")}.`,
    );
  }
  const { folder, globs } = chosen;
  const inside = folder ? data.filter(({ path }) => path.startsWith(`${folder}/`)) : data;
  return globs ? byGlobs(inside, globs, folder) : bySplit(inside, folder);
}

/** The `configs` of a README's front matter; what cannot be understood counts as absent. */
function readConfigs(readme: string): Config[] {
  const front = /^---\r?\n([\s\S]*?)\r?\n---/.exec(readme)?.[1];
  if (front === undefined) return [];
  let meta: unknown;
  try {
    meta = load(front);
  } catch {
    return [];
  }
  const list = isJsonObject(meta) && Array.isArray(meta.configs) ? meta.configs : [];
  return list.filter(isJsonObject).flatMap(
    ({ config_name: name, data_files, data_dir, default: isDefault }) => {
      if (typeof name !== "string") return [];
      return [{
        name,
        isDefault: isDefault === true,
        folder: typeof data_dir === "string" ? data_dir.replace(/^\.?\/+|\/+$/g, "") : undefined,
        globs: globsOf(data_files),
      }];
    },
  );
}

/** `data_files` is a glob, a list of globs, or a list of `{split, path}`. */
function globsOf(value: unknown): Config["globs"] {
  const texts = (item: unknown) => [item].flat().filter((text) => typeof text === "string");
  const list = [value ?? []].flat();
  if (list.length === 0) return undefined;
  const bySplit = list.filter(isJsonObject)
    .map(({ split, path }): [string, string[]] => [String(split ?? "train"), texts(path)]);
  return bySplit.length ? bySplit : [["train", texts(list)]];
}

/** Files by split that match its globs, which begin in the folder; `*` does not cross folders. */
function byGlobs(
  data: RemoteFile[],
  globs: [split: string, globs: string[]][],
  folder?: string,
): DatasetSplits {
  const full = (glob: string) => `${folder ? `${folder}/` : ""}${glob.replace(/^\.\//, "")}`;
  return Object.fromEntries(
    globs.map(([split, patterns]) =>
      [split, data.filter(({ path }) => patterns.some((glob) => matchesGlob(path, full(glob))))] as const
    ).filter(([, files]) => files.length > 0),
  );
}

/** Files by the split that their names say: the first of these rules that finds any, and only what it finds. */
function bySplit(data: RemoteFile[], folder?: string): DatasetSplits {
  const relative = (path: string) => folder ? path.slice(folder.length + 1) : path;
  const group = (splitsOf: (path: string) => string[]): DatasetSplits => {
    const splits: DatasetSplits = {};
    for (const file of data) {
      for (const split of splitsOf(relative(file.path))) (splits[split] ??= []).push(file);
    }
    return splits;
  };
  const byWords = (part: (path: string) => string) => (path: string) =>
    KEYWORDS.filter(([, words]) => part(path).split(/[-._ 0-9/]+/).some((word) => words.includes(word)))
      .map(([split]) => split);
  const found = [
    // data/train_prefs-00000-of-00001.parquet: a split of any name
    group((path) => /^data\/(\w+)-\d{5}-of-\d{5}[^/]*\.[^/]*$/.exec(path)?.slice(1) ?? []),
    group(byWords((path) => path.includes("/") ? dirname(path) : "")),
    group(byWords((path) => basename(path))),
    group(() => ["train"]),
  ];
  return found.find((splits) => Object.keys(splits).length > 0) ?? {};
}
