/**
 * Names of the Hub among the options of a command: fetched before anything else begins, and recorded with their commits, so
 * that a run which is resumed or replayed has the same models and data.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { datasetEntries, type DatasetEntry, type DatasetSpec, describeSpec } from "../data/sources.ts";
import { parseHubName } from "../hub/names.ts";
import { resolveDataset, type ResolvedModel, resolveModel } from "../hub/resolve.ts";
import { readAdapterConfig } from "../model/lora.ts";
import { fetchedBases, isAdapterDirectory } from "../model/peft.ts";
import { readRunConfig } from "../run/run.ts";
import { type FetchDisplay, openFetchProgress } from "./fetch_progress.ts";
import type { Io } from "./io.ts";

/** Options that are models, each one or a list. */
const MODELS = ["sftModelPath", "modelNameOrPath", "rewardModelPath", "goldModelPath", "refModel"];

/** Options that are datasets. */
const DATASETS = ["datasetName", "evalDataset", "sftDataset", "prompts", "dataset"];

type Options = Record<string, unknown>;

/** A command's options in two forms. */
export interface NamedOptions<T> {
  /** With what lies on this machine, to work with. */
  options: T;
  /** With names and commits, to be kept. */
  recorded: T;
}

/** Fetches what the options name on the Hub; `weights` false leaves out the weights of models. */
export async function fetchNamed<T>(
  given: Options,
  io: Io,
  { weights = true }: { weights?: boolean } = {},
): Promise<NamedOptions<T>> {
  const options = { ...given }, recorded = { ...given }, before = resumedOptions(given);
  const display = openFetchProgress(io), bases: Record<string, string> = {};
  try {
    for (const field of MODELS) {
      const value = given[field];
      if ((value ?? undefined) === undefined) continue;
      // The policy is the SFT model where one is given.
      if (field === "modelNameOrPath" && given.sftModelPath !== undefined) continue;
      const sameRevision = before?.modelRevision === given.modelRevision;
      const earlier = sameRevision && before?.[field] !== undefined ? [before[field]].flat() : [];
      const paths: string[] = [], names: string[] = [];
      for (const [i, text] of ([value].flat() as string[]).entries()) {
        const { path, name } = await fetchModel(pinned(text, earlier[i]), {
          ...display,
          revision: field === "modelNameOrPath" ? given.modelRevision as string | undefined : undefined,
          weights,
        });
        paths.push(path);
        names.push(name);
        if (weights) Object.assign(bases, await fetchBase(path, (before ?? given).fetchedBases, display));
      }
      options[field] = Array.isArray(value) ? paths : paths[0];
      recorded[field] = Array.isArray(value) ? names : names[0];
    }
    for (const field of DATASETS) {
      if (given[field] === undefined) continue;
      const [here, name] = await fetchDataset(field, given, before?.[field], display);
      options[field] = here;
      recorded[field] = name;
    }
  } finally {
    display.done();
  }
  if (Object.keys(bases).length) recorded.fetchedBases = bases;
  return { options: options as T, recorded: recorded as T };
}

/** Fetches a model and notes where it lies, for adapters that name it as their base. */
async function fetchModel(
  text: string,
  options: Parameters<typeof resolveModel>[1],
): Promise<ResolvedModel> {
  const model = await resolveModel(text, options);
  if (model.name !== model.path) fetchedBases.set(model.name.replace(/@[0-9a-f]{40}/, ""), model.path);
  return model;
}

/** Fetches the base of an adapter where the adapter knows it by a name; returns it with its commit. */
async function fetchBase(
  directory: string,
  earlier: unknown,
  display: FetchDisplay,
): Promise<Record<string, string>> {
  if (!isAdapterDirectory(directory)) return {};
  const { base } = readAdapterConfig(directory);
  if (!parseHubName(base) || existsSync(base) || existsSync(join(directory, base))) return {};
  const { name } = await fetchModel(
    pinned(base, (earlier as Record<string, string> | undefined)?.[base]),
    display,
  );
  return { [base]: name };
}

/** A dataset with the files of this machine, and with the commits that these are of. */
async function fetchDataset(
  field: string,
  given: Options,
  before: unknown,
  display: FetchDisplay,
): Promise<[here: DatasetSpec, recorded: DatasetSpec]> {
  const spec = given[field] as DatasetSpec, config = given.datasetConfig as string | undefined;
  const earlier = typeof before === "string" || Array.isArray(before)
    ? datasetEntries(before as DatasetSpec)
    : [];
  const own = field === "datasetName" || field === "dataset";
  const here: DatasetEntry[] = [], recorded: DatasetEntry[] = [];
  let fetched = false;
  for (const [i, entry] of datasetEntries(spec).entries()) {
    const { splits, name } = await resolveDataset(pinned(entry.path, earlier[i]?.path), {
      ...display,
      config: entry.name ?? (own ? config : undefined),
      dataDir: entry.data_dir ?? undefined,
      dataFiles: entry.data_files ? [entry.data_files].flat() : undefined,
      only: wantedSplits(field, entry, given),
    });
    if (!splits && own && config !== undefined) {
      throw new Error(
        `--dataset_config ${config} has no meaning for ${entry.path}: only datasets on the Hub have configurations.`,
      );
    }
    fetched ||= splits !== undefined;
    here.push(splits ? { ...entry, path: name, splits } : entry);
    recorded.push({ ...entry, path: name });
  }
  if (!fetched) return [spec, spec];
  return [here, typeof spec === "string" ? describeSpec(recorded) : recorded];
}

/** Splits that a command reads of an entry; all of them for one that shows a dataset. */
function wantedSplits(field: string, { split }: DatasetEntry, given: Options): string[] | undefined {
  const only = split ?? given.datasetSplit as string | undefined;
  if (field === "dataset") return only === undefined ? undefined : [only];
  const train = split ??
    (field === "datasetName" ? given.datasetTrainSplit as string | undefined : undefined);
  const test = field === "datasetName" && split === undefined ? given.datasetTestSplit : undefined;
  return [train ?? "train", ...typeof test === "string" ? [test] : []];
}

/** The options of the run that is to be resumed. */
function resumedOptions({ resume, resumeFromCheckpoint, outputDir }: Options): Options | undefined {
  const resuming = resume === true || resumeFromCheckpoint !== undefined;
  return resuming && typeof outputDir === "string" ? readRunConfig(outputDir)?.options : undefined;
}

/** The name with the commit that the run had before, where it is the same name and says none. */
function pinned(text: string, earlier: unknown): string {
  if (typeof earlier !== "string") return text;
  const [now, then] = [parseHubName(text), parseHubName(earlier)];
  return now && then && !now.revision && now.name === then.name && now.file === then.file ? earlier : text;
}
