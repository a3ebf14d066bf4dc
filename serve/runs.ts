/**
 * Runs as their directories tell of them. Nothing is remembered: a server that was started just now says the same.
 *
 * @module
 */
import { join } from "node:path";
import { writeTextAtomically } from "../src/model/atomic_file.ts";
import { fileExists } from "../src/model/json_file.ts";
import { checkpointSteps } from "../src/run/checkpoint.ts";
import type { RunReader } from "../src/run/reader.ts";
import { type ConfigFile, readRunConfig } from "../src/run/run.ts";
import { HttpError } from "./http_error.ts";
import { lastLines } from "./log.ts";
import { goes, type Holder, lockHolder } from "./processes.ts";
import type { Readers } from "./readers.ts";
import type { ProcessRow, ServerState } from "./state.ts";

/** What a run is doing. */
export type RunState = "queued" | "going" | "paused" | "stopped" | "failed" | "finished";

/** How a run came to its end, where that was not as it should be. */
export interface Failure {
  code: number | null;
  signal: string | null;
  message: string;
  log: string[];
}

/** Where a run is and what it is of. */
export interface RunPlace {
  id: string;
  dir: string;
  method: string;
  stages: string[];
  /** `serve.json`, for one that a server made. */
  made?: ServeFile;
  /** `config.json`, once it began. */
  config?: ConfigFile;
}

/** A run. */
export interface RunView extends RunPlace {
  state: RunState;
  /** The stage it is in or was last in; the first where none began. */
  stage: string;
  /** The last step of that stage, and how many it will have. */
  step: number;
  total: number | null;
  /** Unix times in seconds. */
  created: number | null;
  updated: number | null;
  /** The process that goes. */
  holder?: Holder;
  failure?: Failure;
}

/** How a run was asked for; `serve.json` in its directory. */
export interface ServeFile {
  method: string;
  /** Where relative paths among the options start. */
  cwd: string;
  /** Unix time in seconds. */
  created: number;
}

/** What the views of runs are made from. */
export interface Sources {
  runsDir: string;
  state: ServerState;
  readers: Readers;
}

/** Names of runs: no upper case, no separators, nothing hidden. */
export const RUN_ID = /^(?!.*\.\.)[a-z0-9][a-z0-9._-]{0,63}$/;

/** Exit code of a run that was stopped and wrote a checkpoint. */
const STOPPED = 130;

/** Seconds after its process's end in which a run may still be told of. */
const AFTERMATH = 2;

/** Names of everything in the directory of runs that could be one, in alphabetical order. */
export function runIds(runsDir: string): string[] {
  return Array.from(Deno.readDirSync(runsDir))
    .filter(({ name, isDirectory }) => isDirectory && RUN_ID.test(name))
    .map(({ name }) => name)
    .filter((name) => ["serve.json", "config.json"].some((file) => fileExists(join(runsDir, name, file))))
    .sort();
}

/** `serve.json` of a run; undefined for one that was started by hand. */
export function readServeFile(dir: string): ServeFile | undefined {
  try {
    return JSON.parse(Deno.readTextFileSync(join(dir, "serve.json")));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Writes `serve.json`, and `options.json` for the command's `--config`. */
export function writeServeFiles(dir: string, file: ServeFile, options: Record<string, unknown>): void {
  writeTextAtomically(join(dir, "options.json"), JSON.stringify(options, null, 2) + "\n");
  writeTextAtomically(join(dir, "serve.json"), JSON.stringify(file, null, 2) + "\n");
}

/** The process that a run has, if it is alive. */
export function holderOf({ runsDir, state }: Sources, id: string): Holder | undefined {
  const holder = lockHolder(join(runsDir, id));
  if (holder) return holder;
  // It was started and has not come to taking its lock, or has let go of it and is about to end.
  const row = state.process(id);
  if (!row || row.ended !== null || !goes(row.pid, row.started)) return undefined;
  return { pid: row.pid, since: row.started };
}

/** Folder of a stage. */
export function stageDir(run: Pick<RunView, "dir" | "stages">, stage: string): string {
  return run.stages.length === 1 ? run.dir : join(run.dir, stage);
}

/** Whether a stage is done. */
export function stageDone(run: Pick<RunView, "dir" | "stages">, stage: string): boolean {
  return fileExists(join(stageDir(run, stage), "done.json"));
}

/**
 * The run with this name.
 *
 * @throws {HttpError} 404 where there is none.
 */
export function findRun(sources: Sources, id: string): RunView {
  return RUN_ID.test(id) && viewRun(sources, id) || noSuchRun(id);
}

/**
 * Where the run with this name is and what it is of: what costs least to know.
 *
 * @throws {HttpError} 404 where there is none.
 */
export function findPlace(sources: Sources, id: string): RunPlace {
  return RUN_ID.test(id) && placeOf(sources, id) || noSuchRun(id);
}

function noSuchRun(id: string): never {
  throw new HttpError(
    404,
    "no_such_run",
    `There is no run named ${JSON.stringify(id)}. GET /runs lists them.`,
  );
}

/** Undefined where there is no such run, or where the folder is something else. */
function placeOf({ runsDir }: Sources, id: string): RunPlace | undefined {
  const dir = join(runsDir, id);
  let made: ServeFile | undefined, config: ConfigFile | undefined;
  try {
    if (!Deno.lstatSync(dir).isDirectory) return undefined;
    made = readServeFile(dir);
    config = readRunConfig(dir);
  } catch {
    // Absent, a model's directory, or damaged.
  }
  const method = config?.command ?? made?.method;
  if (method === undefined) return undefined;
  const stages = config?.stages ?? (method === "train" ? ["sft", "reward", "ppo"] : [method]);
  return { id, dir, method, stages, made, config };
}

/** The run with this name; undefined where there is none, or where the folder is something else. */
export function viewRun(sources: Sources, id: string): RunView | undefined {
  const place = placeOf(sources, id);
  if (!place) return undefined;
  const { dir, stages, made } = place;
  const reader = sources.readers.of(dir), ends = reader?.ends();
  const stage = ends?.last && stages.includes(ends.last.stage) ? ends.last.stage : stages[0];
  const holder = holderOf(sources, id);
  const run: RunView = {
    ...place,
    state: "going",
    stage,
    step: ends?.last?.step ?? 0,
    total: (reader && totalOf(reader, stage)) ?? null,
    created: made?.created ?? ends?.first?.time ?? null,
    updated: ends?.last?.time ?? null,
    holder,
  };
  if (holder) run.state = reader && isPaused(reader, holder) ? "paused" : "going";
  else if (sources.state.queue().some((start) => start.run === id)) run.state = "queued";
  else if (stages.every((name) => stageDone(run, name))) run.state = "finished";
  else {
    const row = sources.state.process(id);
    // What was told of later than the process ended was told by another.
    const own = row && (row.ended === null || (run.updated ?? 0) <= row.ended + AFTERMATH) ? row : undefined;
    run.state = wasStopped(run, own, reader) ? "stopped" : "failed";
    if (run.state === "failed") run.failure = failureOf(run, own);
  }
  return run;
}

function totalOf(reader: RunReader, stage: string): number | undefined {
  const event = reader.lastEvents(8, ["started"]).findLast((one) => one.stage === stage);
  return event?.detail.total as number | undefined;
}

/** Whether the last word on it, since its process began, was to pause. */
function isPaused(reader: RunReader, { since }: Holder): boolean {
  const [last] = reader.lastEvents(1, ["pause", "resume", "resumed", "started", "stop"]);
  return last?.kind === "pause" && last.time >= since;
}

/** Whether a run that does not go was left in order: nothing is lost, and it can be resumed. */
function wasStopped(run: RunView, row: ProcessRow | undefined, reader?: RunReader): boolean {
  if (row && (row.code !== null || row.signal !== null)) return row.code === STOPPED;
  if (!row && !run.config) return true;
  if (/^Stopped\. Go on with/.test(lastLines(join(run.dir, "log.txt"), 1)[0] ?? "")) return true;
  if (reader?.lastEvents(1)[0]?.kind === "stop") return true;
  return !row && checkpointSteps(join(stageDir(run, run.stage), "checkpoints"))[0] === run.step;
}

function failureOf(run: RunView, row: ProcessRow | undefined): Failure {
  const log = lastLines(join(run.dir, "log.txt"), 20);
  const { code = null, signal = null } = row ?? {};
  const how = signal !== null
    ? `was ended by ${signal}`
    : code !== null
    ? `ended with exit code ${code}`
    : "ended unseen, as by kill -9 or a crash of the machine";
  const last = code !== null && code !== 0 ? log.findLast((line) => line.trim() !== "") : undefined;
  return {
    code,
    signal,
    log,
    message: `The process ${how} at step ${run.step} of ${run.stage}${
      last ? `: ${last}` : ""
    }. POST /runs/${run.id}/resume goes on from the newest checkpoint.`.replace("..", "."),
  };
}
