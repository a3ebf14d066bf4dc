/**
 * Running mean and deviation of reward scores, for scaling them as TRL 0.11 did.
 *
 * @module
 */

/** Plain data, part of a checkpoint. */
export interface RunningMoments {
  mean: number;
  /** Biased variance of everything seen. */
  variance: number;
  count: number;
}

/** Moments before anything was seen. */
export const NOTHING_SEEN: Readonly<RunningMoments> = { mean: 0, variance: 1, count: 0 };

/** The moments after a batch (Chan et al. 1979, "Updating formulae"). */
export function updateMoments(old: RunningMoments, batch: ArrayLike<number>): RunningMoments {
  const n = batch.length;
  if (n === 0) return old;
  let mean = 0;
  for (let i = 0; i < n; i++) mean += batch[i] / n;
  let squares = 0;
  for (let i = 0; i < n; i++) squares += (batch[i] - mean) ** 2;
  const count = old.count + n, delta = mean - old.mean;
  const all = squares + old.variance * old.count + delta * delta * old.count * n / count;
  return { mean: old.mean + delta * n / count, variance: all / count, count };
}

/** Standard deviation, n − 1 in the denominator. */
export function runningStd({ variance, count }: RunningMoments): number {
  return Math.sqrt(variance * count / Math.max(1, count - 1));
}

/** Scores divided by the running deviation, their running mean subtracted first where `center` is set. */
export function scaleScores(scores: ArrayLike<number>, moments: RunningMoments, center: boolean): number[] {
  const scale = 1 / (runningStd(moments) + 1e-8);
  return Array.from(scores, (score) => (score - (center ? moments.mean : 0)) * scale);
}
