/**
 * What all losses of pairs report, under TRL's names.
 *
 * @module
 */

/** A number of the better answer and of the other. */
export interface Both {
  chosen: number;
  rejected: number;
}

/** The sum. */
export function sumOf(values: Float64Array): number {
  let sum = 0;
  for (const value of values) sum += value;
  return sum;
}

/** The mean; 0 of nothing. */
export function meanOf(values: number[]): number {
  return values.length ? values.reduce((a, b) => a + b) / values.length : 0;
}

/** Means over the pairs of log-probabilities and implicit rewards, and how often the chosen answer has the larger reward. */
export function pairMetrics(logps: Both[], rewards: Both[]): Record<string, number> {
  return {
    "rewards/chosen": meanOf(rewards.map(({ chosen }) => chosen)),
    "rewards/rejected": meanOf(rewards.map(({ rejected }) => rejected)),
    "rewards/accuracies": meanOf(rewards.map(({ chosen, rejected }) => chosen > rejected ? 1 : 0)),
    "rewards/margins": meanOf(rewards.map(({ chosen, rejected }) => chosen - rejected)),
    "logps/chosen": meanOf(logps.map(({ chosen }) => chosen)),
    "logps/rejected": meanOf(logps.map(({ rejected }) => rejected)),
  };
}
