/**
 * A run: one directory with its settings, its database, and a checkpoint folder per stage.
 *
 * A run of one stage keeps its checkpoints in the run directory itself, a run of several in one folder per stage.
 *
 * @module
 */
import { basename, join, resolve, sep } from "node:path";
import { writeTextAtomically } from "../model/atomic_file.ts";
import { fromJson, toJson } from "./json.ts";
import { lockRun, type RunLock } from "./lock.ts";
import { openStage, type StageRun } from "./stage.ts";
import { openStore, type RunStore } from "./store.ts";
import { removeTracked, type Report } from "./trackers.ts";
import { VERSION } from "./version.ts";

export type { StageRun } from "./stage.ts";

/** What a run was started with; written to `config.json` together with keel's version. */
export interface RunConfig {
  /** The command, e.g. `sft`. */
  command: string;
  /** Seed of every random number. */
  seed: number;
  /** The adapter's description of itself, e.g. `llvmpipe (LLVM 15.0.6, 256 bits)`. */
  adapter: string;
  /** What drives the adapter. */
  driver: string;
  /** Every setting, defaults included. */
  options: Record<string, unknown>;
}

/** Options of {@linkcode openRun}. */
export interface OpenRunOptions {
  /** What the run is started with. */
  config: RunConfig;
  /** Names of the stages in their order; one stage, named like the command, if not given. */
  stages?: string[];
  /** Go on with the run in the directory; a new run is started where there is none. */
  resume?: boolean;
  /** A checkpoint to start from, of this run or another. */
  resumeFromCheckpoint?: string;
  /** Remove the run that is in the directory. */
  overwriteOutputDir?: boolean;
  /** Newest checkpoints that stay; all if not given. */
  saveTotalLimit?: number;
  /** Where metrics go besides `run.db`; nowhere if not given. */
  report?: Report;
  /** Polled between steps; never if not given. */
  interrupted?: () => boolean;
}

/** An open run. */
export interface Run {
  /** Its directory. */
  readonly dir: string;
  /** Its database. */
  readonly store: RunStore;
  /** Things a person should know, e.g. settings that differ from those of the run that is resumed. */
  readonly notes: string[];
  /** Opens a stage; where a run is resumed, later steps than its newest checkpoint are dropped from the database. */
  stage(name: string): StageRun;
  /** Whether a stage left before its end: someone asked for that, or it was interrupted. */
  interrupted(): boolean;
  /** Closes the database and gives the directory free. */
  close(): void;
}

/** `config.json`. */
export interface ConfigFile extends RunConfig {
  /** keel's version. */
  keel: string;
  /** Names of the stages in their order. */
  stages: string[];
}

const DATABASE = ["run.db", "run.db-wal", "run.db-shm"];

/** Everything that a stage leaves in its folder. */
const STAGE_FILES = ["checkpoints", "model", "non_finite", "done.json"];

/** The `config.json` of the run in `dir`; undefined where there is none. */
export function readRunConfig(dir: string): ConfigFile | undefined {
  const path = join(dir, "config.json");
  let text: string;
  try {
    text = Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  let file: Partial<ConfigFile> | null;
  try {
    file = fromJson(text) as Partial<ConfigFile> | null;
  } catch (error) {
    throw new Error(`Cannot read ${path}: it is not valid JSON (${(error as Error).message}).`);
  }
  // A model's directory has a file of this name, too.
  if (file?.keel === undefined || !Array.isArray(file.stages)) {
    throw new Error(
      `Cannot use ${dir} for a run: its config.json is not a run's but, perhaps, a model's. Choose another --output_dir.`,
    );
  }
  return file as ConfigFile;
}

/** Removes a run, and nothing else that is in its directory. */
export function removeRun(dir: string, stages: string[]): void {
  const folders = stages.length === 1 ? [dir] : stages.map((stage) => join(dir, stage));
  const paths = [
    ...[...DATABASE, "report.html"].map((name) => join(dir, name)),
    ...folders.flatMap((folder) => STAGE_FILES.map((name) => join(folder, name))),
    join(dir, "config.json"),
  ];
  folders.forEach(removeTracked);
  for (const path of paths) {
    try {
      Deno.removeSync(path, { recursive: true });
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}

/** Settings whose values differ, in words. `resume` and its like always do. */
function differences(before: ConfigFile, after: ConfigFile): string[] {
  const flat = (config: ConfigFile): Record<string, unknown> => ({
    seed: config.seed,
    adapter: config.adapter,
    driver: config.driver,
    keel: config.keel,
    ...config.options,
  });
  const old = flat(before), current = flat(after);
  const expected = ["resume", "resumeFromCheckpoint", "overwriteOutputDir", "outputDir"];
  return [...new Set([...Object.keys(old), ...Object.keys(current)])]
    .filter((name) => !expected.includes(name))
    .filter((name) => toJson(old[name]) !== toJson(current[name]))
    .map((name) => `${name} was ${toJson(old[name])} and is ${toJson(current[name])}`);
}

/**
 * Opens the run in `dir`, which is created where it does not exist.
 *
 * @throws {Error} when another process uses it, or when it holds a run and neither resuming nor overwriting was asked for.
 */
export function openRun(dir: string, options: OpenRunOptions): Run {
  const { config, resumeFromCheckpoint } = options;
  const stages = options.stages ?? [config.command];
  const resume = options.resume === true || resumeFromCheckpoint !== undefined;
  try {
    Deno.mkdirSync(dir, { recursive: true });
  } catch (error) {
    throw new Error(
      `Cannot use ${dir} for a run: ${(error as Error).message}. Choose another --output_dir.`,
      { cause: error },
    );
  }
  const lock = lockRun(dir);
  let store: RunStore | undefined;
  try {
    const file: ConfigFile = { keel: VERSION, stages, ...config };
    const notes: string[] = [];
    let before = readRunConfig(dir);
    if (before && options.overwriteOutputDir && !resume) {
      removeRun(dir, before.stages);
      before = undefined;
    }
    if (before && !resume) {
      throw new Error(
        `${dir} already holds a run of ${before.command}. Continue it with --resume, choose another --output_dir, or replace it with --overwrite_output_dir.`,
      );
    }
    if (before && toJson(before.stages) !== toJson(stages)) {
      throw new Error(
        `Cannot resume ${dir}: it holds a run of ${before.command} (stages ${
          before.stages.join(", ")
        }). Expected stages ${stages.join(", ")}.`,
      );
    }
    store = openStore(join(dir, "run.db"));
    const changes = before ? differences(before, file) : [];
    if (changes.length) {
      store.appendEvent("", 0, "settings_changed", { changes });
      notes.push(`These settings differ from those of the run that is resumed: ${changes.join("; ")}.`);
    }
    if (resumeFromCheckpoint !== undefined) notes.push(...setAsideLater(dir, stages, resumeFromCheckpoint));
    writeTextAtomically(join(dir, "config.json"), toJson(file, 2) + "\n");
    return assemble(dir, stages, lock, store, notes, { ...options, resume });
  } catch (error) {
    store?.close();
    lock.release();
    throw error;
  }
}

/** Moves the folders of stages aside that came after the one a checkpoint to start from lies in; they will be made again. */
function setAsideLater(dir: string, stages: string[], checkpoint: string): string[] {
  if (stages.length === 1) return [];
  const begin = stages.findIndex((stage) => resolve(checkpoint).startsWith(resolve(dir, stage) + sep));
  if (begin < 0) {
    throw new Error(
      `Cannot start from ${checkpoint}: this run has several stages, and it lies in none of their folders. Expected a folder ${
        join(dir, stages[stages.length - 1], "checkpoints", "step-N")
      }.`,
    );
  }
  return stages.slice(begin + 1).flatMap((stage) => {
    const folder = join(dir, stage), aside = `${folder}.superseded-${Date.now()}`;
    try {
      Deno.renameSync(folder, aside);
      return [`Moved aside, being made from what comes before: ${folder}.`];
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return [];
      throw error;
    }
  });
}

function assemble(
  dir: string,
  stages: string[],
  lock: RunLock,
  store: RunStore,
  notes: string[],
  options: OpenRunOptions,
): Run {
  let open = true;
  const opened: StageRun[] = [];
  return {
    dir,
    store,
    notes,
    stage(name) {
      if (!stages.includes(name)) {
        throw new Error(`This run has no stage "${name}". Expected ${stages.join(", ")}.`);
      }
      const only = stages.length === 1;
      const stage = openStage({
        ...options,
        name,
        dir: only ? dir : join(dir, name),
        only,
        run: basename(resolve(dir)),
        store,
        notes,
      });
      opened.push(stage);
      return stage;
    },
    interrupted: () => opened.some((stage) => stage.interrupted()),
    close() {
      if (!open) return;
      open = false;
      store.close();
      lock.release();
    },
  };
}
