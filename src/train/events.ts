/**
 * What trainers yield, and how they let others have a turn.
 *
 * @module
 */
import { setImmediate } from "node:timers";

/** One finished step of a trainer. */
export interface StepEvent {
  /** Name of the stage, e.g. `sft`. */
  stage: string;
  /** From 1. */
  step: number;
  /** Steps of the whole stage. */
  total: number;
  /** TRL's metric names. */
  metrics: Record<string, number>;
}

/**
 * Lets signals, timers and GPU errors be handled: a loop over synchronous reads never returns to the event loop by itself.
 */
export function breathe(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
