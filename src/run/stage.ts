/**
 * A stage of a run: what a trainer reads its start from and writes its progress to.
 *
 * @module
 */
import { join, resolve, sep } from "node:path";
import { fileExists } from "../model/json_file.ts";
import { writeTextAtomically } from "../model/atomic_file.ts";
import {
  type CheckpointFiles,
  type CheckpointOptions,
  newestCheckpoint,
  readCheckpoint,
  removeUnfinished,
  type SavedCheckpoint,
  supersedeAfter,
  writeCheckpoint,
} from "./checkpoint.ts";
import { fromJson, toJson } from "./json.ts";
import { type Asked, type Listening, openListener } from "./listen.ts";
import type { RunStore, Sample } from "./store.ts";
import { openTrackers, type Report } from "./trackers.ts";

/** A stage of an open run: what a trainer writes to. */
export interface StageRun {
  /** Its name, e.g. `sft`. */
  readonly name: string;
  /** Its folder, which is the run's own where there is one stage. */
  readonly dir: string;
  /** Stores the metrics of a step. */
  log(step: number, metrics: Record<string, number>): void;
  /** Stores samples of a step. */
  samples(step: number, samples: Sample[]): void;
  /** Records that something happened, at `detail.step` or else the step that was logged last. */
  event(kind: string, detail?: Record<string, unknown>): void;
  /** Writes a checkpoint; everything logged before it is made safe on disk first. */
  checkpoint(
    step: number,
    files: CheckpointFiles,
    state: Record<string, unknown>,
    options?: Pick<CheckpointOptions, "best">,
  ): void;
  /** Has this written into the folder of every checkpoint, so that it is a model's directory which transformers loads. */
  accompany(write: (directory: string) => void): void;
  /** The newest checkpoint that is whole, or the one that the run was told to start from. */
  newest(): SavedCheckpoint | undefined;
  /** Marks the stage as done. */
  finish(step: number): void;
  /** The final step of a stage that is done. */
  finished(): number | undefined;
  /** Whether the trainer should stop after this step and its checkpoint. */
  interrupted(): boolean;
  /**
   * Answers what was asked of the stage since the last step, and waits while it is paused. Called before every step; `step` is
   * the last one that was made.
   */
  listen(step: number, how: Listening): Promise<Asked>;
}

/** Where a stage is and how it is to be opened. */
export interface StageSettings {
  /** Its name. */
  name: string;
  /** Its folder. */
  dir: string;
  /** Whether it is the only stage of its run. */
  only: boolean;
  /** Name of its run. */
  run: string;
  /** The run's database. */
  store: RunStore;
  /** Gets what a person should know. */
  notes: string[];
  /** Go on from the newest checkpoint. */
  resume?: boolean;
  /** A checkpoint to start from. */
  resumeFromCheckpoint?: string;
  /** Newest checkpoints that stay. */
  saveTotalLimit?: number;
  /** Where metrics go besides the database. */
  report?: Report;
  /** Polled between steps. */
  interrupted?: () => boolean;
}

/** Opens a stage; the caller holds the lock of its run. */
export function openStage(settings: StageSettings): StageRun {
  const { name, dir, only, run, store, notes, resume, resumeFromCheckpoint, saveTotalLimit } = settings;
  const { report = { to: [] }, interrupted = () => false } = settings;
  const checkpoints = join(dir, "checkpoints"), doneFile = join(dir, "done.json");
  Deno.mkdirSync(checkpoints, { recursive: true });
  removeUnfinished(checkpoints);
  let lastStep = 0;
  let accompany: ((directory: string) => void) | undefined;
  /** Where the stage was told to start; its own checkpoints go before it once there are later ones. */
  let start: SavedCheckpoint | undefined;

  const finished = () =>
    fileExists(doneFile) ? (fromJson(Deno.readTextFileSync(doneFile)) as { step: number }).step : undefined;

  if (resumeFromCheckpoint !== undefined && concerns(resumeFromCheckpoint, dir, only)) {
    start = readCheckpoint(resumeFromCheckpoint);
    const inside = resolve(resumeFromCheckpoint).startsWith(resolve(checkpoints) + sep);
    const moved = supersedeAfter(checkpoints, inside ? start.step : -1);
    if (moved.length) {
      notes.push(`Moved aside, being later than ${resumeFromCheckpoint}: ${moved.join(", ")}.`);
    }
    if (fileExists(doneFile)) Deno.removeSync(doneFile);
  }
  const newest = (): SavedCheckpoint | undefined => {
    const { checkpoint, skipped } = newestCheckpoint(checkpoints);
    for (const { path, reason } of skipped) {
      const note = `${reason} It was passed over.`;
      if (notes.includes(note)) continue;
      notes.push(note);
      store.appendEvent(name, lastStep, "checkpoint_skipped", { path, reason });
    }
    return start && (!checkpoint || checkpoint.step <= start.step) ? start : checkpoint;
  };
  if (resume && finished() === undefined) {
    lastStep = newest()?.step ?? 0;
    // A stage that begins anew logs step 0 again. Settings that were changed later are changed again at the same steps,
    // unless someone chose to start from an earlier checkpoint.
    if (start) store.rollBack(name, lastStep, { who: "resume_from_checkpoint" });
    else store.truncateAfter(name, lastStep === 0 ? -1 : lastStep);
  }

  const trackers = openTrackers({
    names: report.to,
    tracked: { dir, stage: name, run, only, settings: report.settings ?? {} },
    store,
    lastStep: () => lastStep,
    done: () => finished() !== undefined,
    notes,
  });
  const listener = openListener({
    stage: name,
    checkpoints,
    store,
    interrupted,
    rolledBack(step) {
      lastStep = step;
      trackers.makeAnew();
    },
  });

  return {
    name,
    dir,
    log(step, metrics) {
      lastStep = step;
      store.appendMetrics(name, step, metrics);
      trackers.logged(step);
    },
    samples(step, samples) {
      store.appendSamples(name, step, samples);
      trackers.sampled(step, samples);
    },
    event(kind, detail = {}) {
      const step = typeof detail.step === "number" ? detail.step : lastStep;
      store.appendEvent(name, step, kind, detail);
    },
    checkpoint(step, files, state, { best } = {}) {
      store.sync();
      writeCheckpoint(checkpoints, step, { files, state }, { saveTotalLimit, best, accompany });
    },
    accompany: (write) => accompany = write,
    newest,
    finish(step) {
      writeTextAtomically(doneFile, toJson({ step }) + "\n");
      trackers.finished();
    },
    finished,
    interrupted: listener.stopped,
    listen: listener.listen,
  };
}

/** Whether a checkpoint to start from is meant for the stage in `dir`: the only one, or the one it lies in. */
function concerns(checkpoint: string, dir: string, only: boolean): boolean {
  return only || resolve(checkpoint).startsWith(resolve(dir) + sep);
}
