/**
 * The rows of `run.db`.
 *
 * @module
 */

/** One stored metric. */
export interface MetricRow {
  /** The stage, e.g. `sft`. */
  stage: string;
  /** The step, from 1; 0 is before the first. */
  step: number;
  /** The name. */
  name: string;
  /** The value. */
  value: number;
  /** Unix time in seconds. */
  time: number;
}

/** All metrics of a step. */
export interface LoggedStep {
  /** The step, from 1; 0 is before the first. */
  step: number;
  /** Unix time in seconds. */
  time: number;
  /** Values in the order of their names. */
  metrics: Record<string, number>;
}

/** A completion that is kept for reading. */
export interface Sample {
  /** The text before. */
  prompt: string;
  /** The text that was sampled. */
  completion: string;
  /** Tokens of the completion. */
  tokens: number;
  /** Every component of the reward by name. */
  rewards: Record<string, number>;
  /** Where the prompt is from, `train` if not given. */
  split?: "train" | "eval";
}

/** One stored sample. */
export interface SampleRow extends Required<Sample> {
  /** The stage, e.g. `sft`. */
  stage: string;
  /** The step, from 1; 0 is before the first. */
  step: number;
}

/** Something that happened: a resumption, a skipped step, an interruption. */
export interface EventRow {
  /** Unix time in seconds. */
  time: number;
  /** The stage, e.g. `sft`. */
  stage: string;
  /** The step, from 1; 0 is before the first. */
  step: number;
  /** What happened, e.g. `resumed`. */
  kind: string;
  /** What there is to know about it. */
  detail: Record<string, unknown>;
}

/** A setting that was changed while the run was going; it holds from `step` on. */
export interface KnobRow {
  /** The stage, e.g. `sft`. */
  stage: string;
  /** The step, from 1; 0 is before the first. */
  step: number;
  /** The name. */
  name: string;
  /** The value. */
  value: number;
  /** Who changed it, e.g. `http` or `watch`. */
  who: string;
  /** Unix time in seconds. */
  time: number;
}

/** What may be asked of a run while it goes. */
export type RequestKind = "set" | "pause" | "resume" | "stop" | "checkpoint" | "roll_back";

/** Something that was asked of a run, and what came of it. */
export interface RequestRow {
  /** From 1, in the order they were made. */
  id: number;
  /** Unix time in seconds. */
  time: number;
  /** Who asked, e.g. `http`. */
  who: string;
  /** The stage it is meant for; whichever comes first if null. */
  stage: string | null;
  /** What was asked. */
  kind: RequestKind;
  /** `set`: the settings by name; `roll_back`: `{ step }`; else empty. */
  detail: Record<string, unknown>;
  /** Unix time of the answer; null while it waits. */
  answered: number | null;
  /** The step at which it was answered: changed settings hold from the next one on. */
  step: number | null;
  /** Why it was refused; null where it was done. */
  refusal: string | null;
}

/** One entry of everything that was ever told of a run, in order and never taken back. */
export interface StreamRow {
  /** From 1, growing. */
  seq: number;
  /** Unix time in seconds. */
  time: number;
  /** `metrics`, `samples`, or the kind of an event. */
  kind: string;
  /** The stage. */
  stage: string;
  /** The step. */
  step: number;
  /** `metrics`: the metrics; `samples`: how many; else the event's detail. */
  data: Record<string, unknown>;
}
