/**
 * From what a person writes for a model or a dataset to what lies on this machine: a path stays what it is, and a name of the
 * Hub is fetched into the cache.
 *
 * @module
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { readJsonObject, readTextFile } from "../model/json_file.ts";
import { datasetFiles, type DatasetSelection } from "./dataset_files.ts";
import { listRepo } from "./listing.ts";
import { descriptionFiles, modelFiles, shardFiles } from "./model_files.ts";
import { type HubName, parseHubName, type Repo } from "./names.ts";
import { type HubSettings, hubSettings } from "./settings.ts";
import { fetchFiles, type FetchListener } from "./snapshot.ts";

/** How to resolve a name. */
export interface ResolveOptions extends FetchListener {
  /** Branch, tag or commit, where the name says none; `main` if not given. */
  revision?: string;
  /** The Hub; by the environment if not given. */
  settings?: HubSettings;
}

/** A model on this machine. */
export interface ResolvedModel {
  /** A directory, or a GGUF file. */
  path: string;
  /** What exactly it is: the path as given, or a name of the Hub with its commit. */
  name: string;
}

/** A dataset on this machine. */
export interface ResolvedDataset {
  /** What exactly it is: the path as given, or a name of the Hub with its commit. */
  name: string;
  /** A file or a folder, as given; absent for a name of the Hub. */
  path?: string;
  /** Files by split, for a name of the Hub. */
  splits?: Record<string, string[]>;
}

const README = "README.md";

/**
 * A model's directory, or GGUF file: a path that exists, or a name of the Hub (`org/name`, `org/name@revision`,
 * `org/name/file.gguf`), which is fetched.
 */
export async function resolveModel(
  text: string,
  options: ResolveOptions & {
    /** Whether the weights are wanted, too; true if not given. */
    weights?: boolean;
  },
): Promise<ResolvedModel> {
  const parsed = nameOf(text);
  if (!parsed) {
    if (existsSync(text)) return { path: text, name: text };
    throw new Error(
      `Cannot use ${text}: the file does not exist, and it is no name on the Hub either. Expected a Hugging Face directory, a .gguf file, or a name as in org/name, org/name@revision or org/name/file.gguf.`,
    );
  }
  const repo: Repo = { type: "model", name: parsed.name };
  const { settings, revision } = hubOf(parsed, options);
  const listing = await withHint(text, () => listRepo(settings, repo, revision, options.say));
  const chosen = options.weights === false
    ? descriptionFiles(listing.files)
    : modelFiles(repo, listing.files, parsed.file);
  const directory = await fetchFiles(settings, repo, listing, chosen.files, options);
  const name = `${parsed.name}@${listing.commit}`;
  if (chosen.kind === "gguf") return { path: join(directory, chosen.path), name: `${name}:${chosen.path}` };
  if (chosen.index) {
    const { weight_map: map } = readJsonObject(join(directory, chosen.index.path), 100e6);
    await fetchFiles(settings, repo, listing, shardFiles(repo, listing.files, map), options);
  }
  return { path: directory, name };
}

/** A dataset's file or folder: a path that exists, or a name of the Hub, whose data files are fetched. */
export async function resolveDataset(
  text: string,
  options: ResolveOptions & DatasetSelection & {
    /** Splits that are wanted; all if not given. */
    only?: string[];
  },
): Promise<ResolvedDataset> {
  const parsed = nameOf(text);
  if (!parsed) return { path: text, name: text };
  const repo: Repo = { type: "dataset", name: parsed.name };
  const { settings, revision } = hubOf(parsed, options);
  const listing = await withHint(text, () => listRepo(settings, repo, revision, options.say));
  const fetch = (files: typeof listing.files) => fetchFiles(settings, repo, listing, files, options);
  const readme = listing.files.find(({ path, size }) => path === README && size < 4e6);
  const card = readme && readTextFile(join(await fetch([readme]), README), 4e6);
  const chosen = datasetFiles(parsed.name, listing.files, card, {
    ...options,
    ...parsed.file !== undefined && { dataFiles: [parsed.file] },
  });
  const wanted = Object.entries(chosen).filter(([split]) => !options.only || options.only.includes(split));
  if (wanted.length === 0) {
    throw new Error(
      `Cannot use ${parsed.name}: it has no split ${options.only!.join(" or ")}. It has ${
        Object.keys(chosen).join(", ")
      }.`,
    );
  }
  const directory = await fetch(wanted.flatMap(([, files]) => files));
  return {
    name: `${parsed.name}@${listing.commit}${parsed.file === undefined ? "" : `:${parsed.file}`}`,
    splits: Object.fromEntries(
      wanted.map(([split, files]) => [split, files.map(({ path }) => join(directory, path))]),
    ),
  };
}

/** The Hub's name that a text is; undefined for a path, whether or not anything is there. */
function nameOf(text: string): HubName | undefined {
  return existsSync(text) ? undefined : parseHubName(text);
}

function hubOf(parsed: HubName, options: ResolveOptions): { settings: HubSettings; revision: string } {
  return {
    settings: options.settings ?? hubSettings(),
    revision: parsed.revision ?? options.revision ?? "main",
  };
}

/** What looks like a name may have been meant for a path. */
async function withHint<T>(text: string, look: () => Promise<T>): Promise<T> {
  try {
    return await look();
  } catch (error) {
    if (!(error instanceof Error) || /[@:]/.test(text)) throw error;
    throw new Error(`${error.message} (There is no file or folder ${text} here either.)`, { cause: error });
  }
}
