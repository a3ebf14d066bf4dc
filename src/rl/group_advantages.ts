/**
 * Advantages of completions that are compared with the others of their prompt: GRPO and its kin, and RLOO.
 *
 * Completions come group by group: `numGenerations` of the first prompt, then of the second, and so on. A reward that does not
 * apply is null; a completion to which no reward applies has the reward NaN and the advantage 0, and is in no baseline.
 *
 * @module
 */

/** Rewards by function: [functions][completions]. */
export type FunctionRewards = (number | null)[][];

/** How advantages are divided: by the deviation of their group, of the whole batch, or not at all (arXiv 2503.20783). */
export type ScaleRewards = "group" | "batch" | "none";

/** Whether rewards are summed before they are normalised (GRPO) or after (GDPO, arXiv 2601.05242). */
export type MultiObjectiveAggregation = "sum_then_normalize" | "normalize_then_sum";

/** Advantages of a batch. */
export interface GroupAdvantages {
  /** [completions]; 0 for one that no function could score. */
  advantages: Float64Array;
  /** Share of the completions whose deviation is 0, so that they teach nothing. */
  zeroStd: number;
}

/** Added to a standard deviation that is divided by, as in TRL. */
const EPSILON = 1e-4;

/** Deviations below this count as zero. */
const ZERO = 1e-8;

/** Mean and standard deviation (n − 1) of the numbers that are not NaN; NaN where there are too few. */
export function momentsWithout(values: ArrayLike<number>): { mean: number; std: number; count: number } {
  const known = Array.from(values).filter((x) => !Number.isNaN(x)), count = known.length;
  const mean = known.reduce((a, b) => a + b, 0) / count;
  const squares = known.reduce((sum, x) => sum + (x - mean) ** 2, 0);
  return { mean, std: count > 1 ? Math.sqrt(squares / (count - 1)) : NaN, count };
}

/**
 * Σ_f w_f r_f of each completion over the functions that apply to it; NaN where none does.
 *
 * @example
 * ```ts
 * import { sumRewards } from "./group_advantages.ts";
 * console.log([...sumRewards([[1, 0, null], [null, 2, null]], [1, 0.5])]); // [1, 1, NaN]
 * ```
 */
export function sumRewards(rewards: FunctionRewards, weights: number[]): Float64Array {
  return Float64Array.from(rewards[0], (_, i) => {
    const known = rewards.map((row, f) => [row[i], weights[f]] as const).filter(([reward]) =>
      reward !== null
    );
    return known.length ? known.reduce((sum, [reward, weight]) => sum + weight * reward!, 0) : NaN;
  });
}

/**
 * GRPO's advantages (arXiv 2402.03300): A = (r − mean of the group) / (deviation + 1e-4), the deviation with n − 1.
 *
 * With `normalize_then_sum` each function's rewards are normalised within the group first, then summed with their weights,
 * and the sums normalised over the batch; `scaleRewards` has no effect then.
 *
 * @param rewards [functions][completions]
 * @param weights [functions]
 *
 * @example
 * ```ts
 * import { groupAdvantages } from "./group_advantages.ts";
 * const { advantages } = groupAdvantages([[1, 0, 3, 3]], [1], { numGenerations: 2, scaleRewards: "none" });
 * console.log([...advantages]); // [0.5, -0.5, 0, 0]
 * ```
 */
export function groupAdvantages(
  rewards: FunctionRewards,
  weights: number[],
  { numGenerations, scaleRewards, multiObjectiveAggregation = "sum_then_normalize" }: {
    numGenerations: number;
    scaleRewards: ScaleRewards;
    multiObjectiveAggregation?: MultiObjectiveAggregation;
  },
): GroupAdvantages {
  if (multiObjectiveAggregation === "normalize_then_sum") {
    const normalised = rewards.map((row) => {
      const values = Float64Array.from(row, (reward) => reward ?? NaN);
      const scaled = byGroup(values, numGenerations, (group) => {
        const { mean, std } = momentsWithout(group);
        return group.map((x) => (x - mean) / (std + EPSILON));
      });
      // The only completion of its group that a function applies to says nothing about the others.
      return Array.from(scaled, (x) => Number.isNaN(x) ? null : x);
    });
    const applies = sumRewards(rewards, weights);
    const sums = sumRewards(normalised, weights).map((x, i) =>
      Number.isNaN(applies[i]) ? NaN : Number.isNaN(x) ? 0 : x
    );
    const { mean, std } = momentsWithout(sums);
    return {
      advantages: sums.map((x) => orZero((x - mean) / (std + EPSILON))),
      zeroStd: std <= ZERO ? 1 : 0,
    };
  }
  const sums = sumRewards(rewards, weights);
  const whole = momentsWithout(sums).std;
  let zero = 0;
  const advantages = byGroup(sums, numGenerations, (group) => {
    const { mean, std: own } = momentsWithout(group);
    const std = scaleRewards === "batch" ? whole : own;
    if (std <= ZERO) zero += group.length;
    return group.map((x) => orZero((x - mean) / (scaleRewards === "none" ? 1 : std + EPSILON)));
  });
  return { advantages, zeroStd: zero / sums.length };
}

/**
 * RLOO's advantages (arXiv 2402.14740): A_i = r_i − the mean of the others of its group, optionally normalised over the batch.
 *
 * @param rewards [completions], penalties included; NaN where unknown
 *
 * @example
 * ```ts
 * import { leaveOneOutAdvantages } from "./group_advantages.ts";
 * const { advantages } = leaveOneOutAdvantages([1, 0, 2], { numGenerations: 3 });
 * console.log([...advantages]); // [0, -1.5, 1.5]
 * ```
 */
export function leaveOneOutAdvantages(
  rewards: ArrayLike<number>,
  { numGenerations, normalizeAdvantages = false }: { numGenerations: number; normalizeAdvantages?: boolean },
): GroupAdvantages {
  let zero = 0;
  let advantages = byGroup(Float64Array.from(rewards), numGenerations, (group) => {
    const { mean, std, count } = momentsWithout(group);
    if (std <= ZERO) zero += group.length;
    return group.map((x) => count > 1 ? x - (mean * count - x) / (count - 1) : NaN);
  });
  if (normalizeAdvantages) {
    const { mean, std } = momentsWithout(advantages);
    advantages = advantages.map((x) => (x - mean) / (std + EPSILON));
  }
  return { advantages: advantages.map(orZero), zeroStd: zero / rewards.length };
}

/** Rewards − the mean of their group, and no division (REINFORCE++-baseline, arXiv 2501.03262); NaN stays. */
export function centreGroups(rewards: ArrayLike<number>, numGenerations: number): Float64Array {
  return byGroup(Float64Array.from(rewards), numGenerations, (group) => {
    const { mean } = momentsWithout(group);
    return group.map((x) => x - mean);
  });
}

/** Rewards within a range; NaN stays. */
export function clipRewards(rewards: Float64Array, range?: readonly [number, number] | null): Float64Array {
  return range ? rewards.map((x) => Math.min(range[1], Math.max(range[0], x))) : rewards;
}

/**
 * What is logged of rewards, under TRL's names; `sums` are those of {@linkcode sumRewards}. What a batch has no number for, as
 * the mean of a reward that applies to none of it, is left out.
 */
export function rewardMetrics(
  names: string[],
  rewards: FunctionRewards,
  sums: Float64Array,
): Record<string, number> {
  const metrics: [string, number][] = names.flatMap((name, f) => {
    const { mean, std } = momentsWithout(rewards[f].map((reward) => reward ?? NaN));
    return [[`rewards/${name}/mean`, mean], [`rewards/${name}/std`, std]];
  });
  const { mean, std } = momentsWithout(sums);
  metrics.push(["reward", mean], ["reward_std", std]);
  return Object.fromEntries(metrics.filter(([, value]) => !Number.isNaN(value)));
}

/** Whether all rewards of each group are the same, or fewer than two are known: nothing can be learnt from it. */
export function flatGroups(rewards: Float64Array, numGenerations: number): boolean[] {
  const flat: boolean[] = [];
  byGroup(rewards, numGenerations, (group) => {
    const { std, count } = momentsWithout(group);
    flat.push(count < 2 || std <= ZERO);
    return group;
  });
  return flat;
}

const orZero = (x: number) => Number.isNaN(x) ? 0 : x;

/** Maps the numbers of each group. */
function byGroup(
  values: Float64Array,
  size: number,
  map: (group: Float64Array) => Float64Array,
): Float64Array {
  if (values.length % size) {
    throw new Error(`${values.length} completions are not whole groups of ${size} to a prompt.`);
  }
  const out = new Float64Array(values.length);
  for (let at = 0; at < values.length; at += size) out.set(map(values.subarray(at, at + size)), at);
  return out;
}
