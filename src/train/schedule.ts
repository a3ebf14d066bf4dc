/**
 * Learning-rate schedules and the number of steps, as in Hugging Face's Trainer.
 *
 * @module
 */

import type { DataCursor } from "../data/batches.ts";

/** Shape of the learning rate over time. */
export type LrSchedulerType =
  | "linear"
  | "cosine"
  | "constant"
  | "constant_with_warmup"
  | "warmup_stable_decay";

/** Share of the steps over which warmup_stable_decay falls, and the share of the rate that it keeps. */
const DECAY_SHARE = 0.25, LOWEST_RATE = 0.02;

/** Options that determine the schedule. */
export interface ScheduleOptions {
  learningRate: number;
  lrSchedulerType: LrSchedulerType;
  warmupSteps: number;
  /** Share of all steps; used where warmupSteps is 0. */
  warmupRatio: number;
}

/**
 * Learning rate of step `step` (from 0) of `total`. With a warm-up the first step has rate 0: the rate is taken before the
 * step is counted.
 */
export function learningRateAt(step: number, total: number, options: ScheduleOptions): number {
  const { learningRate, lrSchedulerType } = options;
  if (lrSchedulerType === "constant") return learningRate;
  const warmup = options.warmupSteps > 0 ? options.warmupSteps : Math.ceil(options.warmupRatio * total);
  if (step < warmup) return learningRate * step / Math.max(1, warmup);
  if (lrSchedulerType === "constant_with_warmup") return learningRate;
  if (lrSchedulerType === "warmup_stable_decay") {
    return learningRate * Math.max(LOWEST_RATE, Math.min(1, (total - step) / (DECAY_SHARE * total)));
  }
  const progress = (step - warmup) / Math.max(1, total - warmup);
  if (lrSchedulerType === "linear") return learningRate * Math.max(0, 1 - progress);
  return learningRate * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress)));
}

/** Options that determine the number of steps. */
export interface LengthOptions {
  maxSteps: number;
  numTrainEpochs: number;
  perDeviceTrainBatchSize: number;
  gradientAccumulationSteps: number;
}

/** Optimiser steps of one pass over `rows` rows; the last may accumulate fewer micro-batches. */
export function stepsPerEpoch(rows: number, options: LengthOptions): number {
  const batches = Math.ceil(rows / options.perDeviceTrainBatchSize);
  return Math.max(1, Math.ceil(batches / options.gradientAccumulationSteps));
}

/** Optimiser steps of the run: `maxSteps` where it is positive, else the epochs. */
export function totalSteps(rows: number, options: LengthOptions): number {
  if (options.maxSteps > 0) return options.maxSteps;
  return Math.max(1, Math.ceil(options.numTrainEpochs * stepsPerEpoch(rows, options)));
}

/** True at every `every`-th step and at the last; never where `every` is 0, but for the last. */
export function isDue(step: number, every: number, total: number): boolean {
  return step === total || (every > 0 && step % every === 0);
}

/** Passes over the data at a cursor, in fractions of micro-batches, as Hugging Face's Trainer counts them. */
export function epochAt(cursor: DataCursor, rows: number, options: LengthOptions): number {
  const size = options.perDeviceTrainBatchSize;
  return cursor.epoch + Math.ceil(cursor.row / size) / Math.ceil(rows / size);
}
