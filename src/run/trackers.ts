/**
 * `--report_to`: keeps the files of trackers in step with `run.db`.
 *
 * A file is made anew from the database when its stage is opened, thus also when a run is resumed, and when it is rolled
 * back; in between every logged step is added to its end. So a step stands in it once, whatever happened to the run. A file
 * that cannot be written never stops a run: that is told once, and the file is made when there is the next occasion.
 *
 * @module
 */
import { basename, dirname, join } from "node:path";
import { fileExists } from "../model/json_file.ts";
import type { RunStore, Sample } from "./store.ts";
import { jsonlFile, jsonlPaths } from "./trackers/jsonl.ts";
import { tensorboardFile, tensorboardPaths } from "./trackers/tensorboard.ts";
import { concat, type TrackedStage, type TrackerFile, type TrackerName } from "./trackers/tracker.ts";
import { wandbFile, wandbPaths } from "./trackers/wandb.ts";

/** Where metrics go besides `run.db`. */
export interface Report {
  /** The trackers. */
  to: TrackerName[];
  /** What they show as the settings of the run, by TRL's names. */
  settings?: Record<string, unknown>;
}

/** The trackers of a stage. */
export interface Trackers {
  /** Makes all files anew from the database. */
  makeAnew(): void;
  /** Adds a step that was stored. */
  logged(step: number): void;
  /** Adds samples that were stored. */
  sampled(step: number, samples: Sample[]): void;
  /** Ends the files of a stage that is done. */
  finished(): void;
}

/** What {@linkcode openTrackers} works with. */
export interface TrackersSettings {
  /** Their names. */
  names: TrackerName[];
  /** What they track. */
  tracked: TrackedStage;
  /** The run's database. */
  store: RunStore;
  /** The step that was logged last. */
  lastStep: () => number;
  /** Whether the stage is done. */
  done: () => boolean;
  /** Gets what a person should know. */
  notes: string[];
}

/** Bytes that are written at a time where a file is made anew. */
const CHUNK = 1 << 20;

/** Opens the trackers of a stage and makes their files. */
export function openTrackers({ names, tracked, store, lastStep, done, notes }: TrackersSettings): Trackers {
  const { stage } = tracked;
  const files = new Map<TrackerName, TrackerFile>();

  /** Does something to a file; where that fails, the run goes on without it. */
  function attempt(name: TrackerName, action: () => void): void {
    try {
      action();
    } catch (error) {
      files.delete(name);
      const reason = (error as Error).message;
      store.appendEvent(stage, lastStep(), "tracker_failed", { tracker: name, reason });
      notes.push(
        `Cannot write the files of ${name}: ${reason}. The run goes on without them; its metrics are in run.db, and --resume makes the files anew.`,
      );
    }
  }

  function* content(file: TrackerFile): Generator<Uint8Array> {
    yield file.begin();
    for (const logged of store.steps(stage)) {
      yield file.step(logged);
      if (file.samples) yield file.samples(logged.step, logged.time, store.samplesOf(stage, logged.step));
    }
    if (done()) yield file.end();
  }

  function makeAnew(): void {
    for (const name of names) {
      attempt(name, () => {
        const file = fileOf(name, tracked);
        files.set(name, file);
        write(file.path, content(file));
        file.placed?.();
      });
    }
  }

  function add(part: (file: TrackerFile) => Uint8Array | undefined): void {
    for (const [name, file] of files) {
      attempt(name, () => {
        const bytes = part(file);
        // Opened anew for every step: nothing stays open whatever becomes of the run, for 4 µs.
        if (bytes?.length) Deno.writeFileSync(file.path, bytes, { append: true, create: false });
      });
    }
  }

  makeAnew();
  return {
    makeAnew,
    logged(step) {
      if (files.size === 0) return;
      // As they will be read when the file is made anew.
      const [logged] = [...store.steps(stage, step, step)];
      add((file) => file.step(logged));
    },
    sampled: (step, samples) => add((file) => file.samples?.(step, Date.now() / 1000, samples)),
    finished: () => add((file) => file.end()),
  };
}

function fileOf(name: TrackerName, tracked: TrackedStage): TrackerFile {
  switch (name) {
    case "tensorboard":
      return tensorboardFile(tracked);
    case "jsonl":
      return jsonlFile(tracked);
    case "wandb":
      return wandbFile(tracked);
  }
}

/** Removes what trackers left in the folder of a stage, and nothing else that is in `tb` and `wandb`. */
export function removeTracked(dir: string): void {
  for (const path of [tensorboardPaths, jsonlPaths, wandbPaths].flatMap((paths) => paths(dir))) {
    Deno.removeSync(path, { recursive: true });
    const folder = dirname(path);
    if (folder !== dir && Deno.readDirSync(folder)[Symbol.iterator]().next().done) Deno.removeSync(folder);
  }
}

/** Writes a file aside, under a name that no reader of event files looks at, and puts it in its place. */
function write(path: string, parts: Iterable<Uint8Array>): void {
  Deno.mkdirSync(dirname(path), { recursive: true });
  const temporary = join(dirname(path), ".making.tmp");
  try {
    const file = Deno.openSync(temporary, { write: true, create: true, truncate: true });
    try {
      let waiting: Uint8Array[] = [], bytes = 0;
      const flush = () => {
        const chunk = concat(waiting);
        for (let at = 0; at < chunk.length;) at += file.writeSync(chunk.subarray(at));
        waiting = [];
        bytes = 0;
      };
      for (const part of parts) {
        waiting.push(part);
        bytes += part.length;
        if (bytes >= CHUNK) flush();
      }
      flush();
    } finally {
      file.close();
    }
    Deno.renameSync(temporary, path);
  } catch (error) {
    if (fileExists(temporary)) Deno.removeSync(temporary);
    throw new Error(`${basename(path)}: ${(error as Error).message}`, { cause: error });
  }
}
