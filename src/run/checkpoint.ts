/**
 * Checkpoints: `step-N/` with one safetensors file per part and `state.json`.
 *
 * A checkpoint is written to `step-N.tmp-PID/`, made safe on disk and renamed, so a folder named `step-N` is whole.
 * `state.json` is written last and has the size and SHA-256 of the other files, so that a folder which is not whole after
 * all (copied while it was written, damaged on disk) is recognised and the one before it is used.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { writeTextAtomically } from "../model/atomic_file.ts";
import { readSafetensors, type TensorData, writeSafetensors } from "../model/safetensors.ts";
import { fromJson, toJson } from "./json.ts";

/** Tensors by file name without extension, then by tensor name. */
export type CheckpointFiles = Record<string, Record<string, TensorData>>;

/** A checkpoint on disk whose files are as they were written. */
export interface SavedCheckpoint {
  /** Its folder. */
  path: string;
  /** The step after which it was written. */
  step: number;
  /** What was given as its state. */
  state: Record<string, unknown>;
  /** The tensors; read from disk every time they are asked for. */
  readonly files: CheckpointFiles;
}

/** Options of {@linkcode writeCheckpoint}. */
export interface CheckpointOptions {
  /** How many of the newest checkpoints stay; all if not given. The best one stays in any case. */
  saveTotalLimit?: number;
  /** Marks this checkpoint as the best so far. */
  best?: boolean;
  /** Writes what else belongs into its folder, e.g. a model's configuration and tokenizer. */
  accompany?: (directory: string) => void;
}

/** A checkpoint that was passed over, and why. */
export interface SkippedCheckpoint {
  /** Its folder. */
  path: string;
  /** What is wrong with it. */
  reason: string;
}

interface StateFile {
  step: number;
  files: Record<string, { bytes: number; sha256: string }>;
  state: Record<string, unknown>;
}

/** The mark of the best checkpoint, beside the checkpoints. */
const BEST = "best.json";

/** Bytes that are hashed at a time. */
const CHUNK = 1 << 20;

function measure(path: string): { bytes: number; sha256: string } {
  const hash = createHash("sha256"), chunk = new Uint8Array(CHUNK);
  const file = Deno.openSync(path);
  try {
    let bytes = 0;
    for (let count = file.readSync(chunk); count !== null; count = file.readSync(chunk)) {
      hash.update(chunk.subarray(0, count));
      bytes += count;
    }
    return { bytes, sha256: hash.digest("hex") };
  } finally {
    file.close();
  }
}

function syncDirectory(path: string): void {
  if (Deno.build.os === "windows") return;
  const directory = Deno.openSync(path);
  try {
    directory.syncSync();
  } finally {
    directory.close();
  }
}

function removeQuietly(path: string): void {
  try {
    Deno.removeSync(path, { recursive: true });
  } catch {
    // It does not exist, or cannot be removed; it is not in anybody's way.
  }
}

/** Steps of the folders named `step-N`, newest first. */
export function checkpointSteps(directory: string): number[] {
  let names: string[];
  try {
    names = Array.from(Deno.readDirSync(directory), (entry) => entry.name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
  return names.flatMap((name) => {
    const match = /^step-(\d+)$/.exec(name);
    return match ? [Number(match[1])] : [];
  }).sort((a, b) => b - a);
}

const stepPath = (directory: string, step: number) => join(directory, `step-${step}`);

/**
 * Writes the checkpoint of a step into `directory` and removes those beyond the limit.
 *
 * @throws {Error} when it cannot be written, naming the last good checkpoint, which is untouched.
 */
export function writeCheckpoint(
  directory: string,
  step: number,
  { files, state }: { files: CheckpointFiles; state: Record<string, unknown> },
  { saveTotalLimit, best = false, accompany }: CheckpointOptions = {},
): string {
  const path = stepPath(directory, step), temporary = `${path}.tmp-${Deno.pid}`;
  try {
    Deno.mkdirSync(temporary, { recursive: true });
    const record: StateFile = { step, files: {}, state };
    for (const [name, tensors] of Object.entries(files)) {
      const file = join(temporary, `${name}.safetensors`);
      writeSafetensors(file, Object.entries(tensors));
      record.files[name] = measure(file);
    }
    accompany?.(temporary);
    writeTextAtomically(join(temporary, "state.json"), toJson(record));
    syncDirectory(temporary);
    replaceFolder(temporary, path);
    syncDirectory(directory);
    if (best) writeTextAtomically(join(directory, BEST), toJson({ step }));
  } catch (error) {
    removeQuietly(temporary);
    const last = newestCheckpoint(directory).checkpoint;
    throw new Error(
      `Cannot write the checkpoint of step ${step}: ${reasonOf(error as Error)}. ` +
        (last ? `The last good checkpoint is ${last.path}` : "There is no earlier checkpoint") +
        "; make room and run again with --resume.",
      { cause: error },
    );
  }
  prune(directory, saveTotalLimit);
  return path;
}

/** The message of the innermost error, without its full stop. */
function reasonOf(error: Error): string {
  const inner = error.cause instanceof Error ? error.cause : error;
  return inner.message.replace(/\.$/, "");
}

/** Renames a folder to a name that may be taken, as by a checkpoint that was found damaged. */
function replaceFolder(from: string, to: string): void {
  const old = `${to}.old-${Deno.pid}`;
  let replaced = true;
  try {
    Deno.renameSync(to, old);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    replaced = false;
  }
  Deno.renameSync(from, to);
  if (replaced) removeQuietly(old);
}

function prune(directory: string, saveTotalLimit: number | undefined): void {
  if (saveTotalLimit === undefined) return;
  const best = bestStep(directory);
  for (const step of checkpointSteps(directory).slice(saveTotalLimit)) {
    if (step !== best) removeQuietly(stepPath(directory, step));
  }
}

/** The step of the checkpoint marked as the best, if one is. */
export function bestStep(directory: string): number | undefined {
  try {
    return (fromJson(Deno.readTextFileSync(join(directory, BEST))) as { step: number }).step;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/**
 * Reads a checkpoint and checks that its files are as they were written.
 *
 * @throws {Error} that says what is wrong with it.
 */
export function readCheckpoint(path: string): SavedCheckpoint {
  const record = readState(path);
  for (const [name, expected] of Object.entries(record.files)) {
    const file = join(path, `${name}.safetensors`);
    let found: ReturnType<typeof measure>;
    try {
      found = measure(file);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      throw new Error(`Cannot use the checkpoint ${path}: ${name}.safetensors is missing.`);
    }
    if (found.bytes !== expected.bytes) {
      throw new Error(
        `Cannot use the checkpoint ${path}: ${name}.safetensors has ${found.bytes} bytes. Expected ${expected.bytes}.`,
      );
    }
    if (found.sha256 !== expected.sha256) {
      throw new Error(
        `Cannot use the checkpoint ${path}: ${name}.safetensors is damaged (its SHA-256 differs).`,
      );
    }
  }
  return {
    path,
    step: record.step,
    state: record.state,
    get files() {
      return Object.fromEntries(
        Object.keys(record.files).map((name) => [name, readTensors(join(path, `${name}.safetensors`))]),
      );
    },
  };
}

function readState(path: string): StateFile {
  let text: string;
  try {
    text = Deno.readTextFileSync(join(path, "state.json"));
  } catch (error) {
    throw new Error(
      `Cannot use the checkpoint ${path}: state.json cannot be read (${(error as Error).message}).`,
    );
  }
  try {
    const record = fromJson(text) as StateFile;
    if (Number.isSafeInteger(record.step) && record.files && record.state) return record;
  } catch {
    // Reported below.
  }
  throw new Error(`Cannot use the checkpoint ${path}: state.json is damaged.`);
}

function readTensors(path: string): Record<string, TensorData> {
  const weights = readSafetensors(path);
  return Object.fromEntries(
    Array.from(weights.tensors, ([name, { shape }]) => [name, { shape, data: weights.read(name) }]),
  );
}

/** The newest checkpoint in `directory` that is whole, and the newer ones that are not. */
export function newestCheckpoint(
  directory: string,
): { checkpoint?: SavedCheckpoint; skipped: SkippedCheckpoint[] } {
  const skipped: SkippedCheckpoint[] = [];
  for (const step of checkpointSteps(directory)) {
    const path = stepPath(directory, step);
    try {
      return { checkpoint: readCheckpoint(path), skipped };
    } catch (error) {
      skipped.push({ path, reason: (error as Error).message });
    }
  }
  return { skipped };
}

/** Removes what killed processes left half-written. Only for the process that holds the run's lock. */
export function removeUnfinished(directory: string): void {
  try {
    for (const { name } of Deno.readDirSync(directory)) {
      if (/^step-\d+\.(tmp|old)-\d+$/.test(name)) removeQuietly(join(directory, name));
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/**
 * Moves checkpoints of later steps to `step-N.superseded-TIME`, for a run that goes on from an earlier one; they are kept
 * for whoever wants them back.
 */
export function supersedeAfter(directory: string, step: number): string[] {
  const later = checkpointSteps(directory).filter((other) => other > step);
  for (const other of later) {
    const path = stepPath(directory, other);
    Deno.renameSync(path, `${path}.superseded-${Date.now()}`);
  }
  return later.map((other) => stepPath(directory, other));
}
