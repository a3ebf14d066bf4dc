/**
 * What a tracker is: the metrics of a stage once more, in the files of a tool that people look at runs with.
 *
 * `run.db` is the truth. A tracker only says which bytes stand for what is in it; see `trackers.ts` for when they are written.
 *
 * @module
 */
import type { LoggedStep, Sample } from "../rows.ts";

/** Name of a tracker. */
export type TrackerName = "tensorboard" | "jsonl" | "wandb";

/** Names of all trackers. */
export const TRACKERS = ["tensorboard", "jsonl", "wandb"] as const satisfies TrackerName[];

/** A stage whose metrics are tracked. */
export interface TrackedStage {
  /** Its folder. */
  dir: string;
  /** Its name, e.g. `sft`. */
  stage: string;
  /** Name of the run. */
  run: string;
  /** Whether it is the only stage of its run. */
  only: boolean;
  /** What the run was started with, by TRL's names. */
  settings: Record<string, unknown>;
}

/** A file from its first byte on; each part follows the one before. */
export interface TrackerFile {
  /** Where it belongs. */
  path: string;
  /** The beginning. */
  begin(): Uint8Array;
  /** A step. */
  step(logged: LoggedStep): Uint8Array;
  /** Samples of a step, where the tool has a place for texts. */
  samples?(step: number, time: number, samples: Sample[]): Uint8Array;
  /** The end, once the stage is done. */
  end(): Uint8Array;
  /** Called when it is in its place: tidies up what was there before. */
  placed?(): void;
}

const encoder = new TextEncoder();

/** A text in UTF-8. */
export function utf8(text: string): Uint8Array {
  return encoder.encode(text);
}

/** Byte arrays one after the other. */
export function concat(parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** The name that transformers gives a metric in TensorBoard and W&B: `eval_loss` → `eval/loss`, `loss` → `train/loss`. */
export function reportedName(metric: string): string {
  const evaluated = /^eval[_/](.+)$/s.exec(metric)?.[1];
  return evaluated === undefined ? `train/${metric}` : `eval/${evaluated}`;
}

/** Names in a folder that match; none where there is no folder. */
export function namesIn(folder: string, pattern: RegExp): string[] {
  try {
    return Array.from(Deno.readDirSync(folder), ({ name }) => name).filter((name) => pattern.test(name))
      .sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return [];
    throw error;
  }
}
