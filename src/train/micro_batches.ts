/**
 * The micro-batches of a step, and means over them.
 *
 * @module
 */
import { type DataCursor, takeBatch } from "../data/batches.ts";
import type { TokenLoss } from "../rl/token_loss.ts";

/** Options that determine which rows a step takes. */
export interface WalkOptions {
  seed: number;
  shuffleDataset: boolean;
  perDeviceTrainBatchSize: number;
  gradientAccumulationSteps: number;
}

/** Row numbers of a step's micro-batches and the cursor after them; the last step of an epoch may have fewer. */
export function takeMicroBatches(
  cursor: DataCursor,
  rows: number,
  options: WalkOptions,
): { microBatches: number[][]; next: DataCursor } {
  const microBatches: number[][] = [];
  let next = cursor;
  while (microBatches.length < options.gradientAccumulationSteps && next.epoch === cursor.epoch) {
    const batch = takeBatch(next, {
      seed: options.seed,
      rows,
      batchSize: options.perDeviceTrainBatchSize,
      shuffle: options.shuffleDataset,
    });
    microBatches.push(Array.from(batch.rows));
    next = batch.next;
  }
  return { microBatches, next };
}

/** A loss whose derivatives are those of its part in the mean over `count` micro-batches; the loss stays as it is. */
export function partOf<L extends TokenLoss>(loss: L, count: number): L {
  return { ...loss, dLogprobs: loss.dLogprobs.map((row) => row.map((d) => d / count)) };
}

/** The mean of each metric over the micro-batches that have it, weighted where weights are given. */
export function meanMetrics(
  micros: Record<string, number>[],
  weights: number[] = micros.map(() => 1),
): Record<string, number> {
  const names = new Set(micros.flatMap((micro) => Object.keys(micro)));
  return Object.fromEntries(Array.from(names, (name) => {
    let sum = 0, whole = 0;
    micros.forEach((micro, i) => {
      if (!(name in micro)) return;
      sum += weights[i] * micro[name];
      whole += weights[i];
    });
    return [name, sum / whole];
  }));
}
