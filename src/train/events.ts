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

/** Milliseconds after which {@linkcode breathe} rests for a moment. */
const REST_AFTER = 100;

let rested = performance.now();

/**
 * Lets signals, timers and GPU errors be handled: a loop over synchronous reads never returns to the event loop by itself.
 *
 * Deno looks for signals only when it has nothing to do. A turn of the event loop alone delays Ctrl-C by dozens of steps; a
 * rest does not, but costs about 2 ms, too much for every one of the smallest steps.
 */
export function breathe(): Promise<void> {
  return new Promise((resolve) => {
    if (performance.now() - rested < REST_AFTER) {
      setImmediate(resolve);
      return;
    }
    setTimeout(() => {
      rested = performance.now();
      resolve();
    }, 0);
  });
}
