/**
 * What trainers yield.
 *
 * @module
 */

/** One finished step of a trainer. */
export interface StepEvent {
  stage: string;
  /** From 1. */
  step: number;
  /** Steps of the whole stage. */
  total: number;
  /** TRL's metric names. */
  metrics: Record<string, number>;
}
