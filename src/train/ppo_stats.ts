/**
 * What is counted while PPO learns, under TRL's names.
 *
 * @module
 */
import { moments } from "../rl/whiten.ts";
import type { Outputs } from "../tape/plan.ts";
import type { UpdateSettings } from "./ppo_update.ts";
import type { Advantages, Rollout } from "./rollout.ts";

/** Sums over the tokens of a micro-batch. */
export interface MicroStats {
  pg: number;
  vf: number;
  kl: number;
  clipped: number;
  valueClipped: number;
  entropy: number;
  ratio: number;
}

/** What the rollouts `micro` have become under the present weights; row i of a batch begins at token `firsts[i]` of `out`. */
export function microStats(
  micro: number[],
  firsts: number[],
  rollouts: Rollout[],
  advantages: Advantages[],
  out: Outputs,
  s: Pick<UpdateSettings, "cliprange" | "cliprangeValue">,
): MicroStats {
  const stats: MicroStats = {
    pg: out.pg[0],
    vf: out.vf[0],
    kl: 0,
    clipped: 0,
    valueClipped: 0,
    entropy: 0,
    ratio: 0,
  };
  micro.forEach((i, row) => {
    const { completion, logprobs, values } = rollouts[i];
    for (let t = 0; t < completion.length; t++) {
      const difference = out.logprob[firsts[row] + t] - logprobs[t];
      const ratio = Math.exp(difference), a = advantages[i].advantages[t];
      const limited = Math.min(1 + s.cliprange, Math.max(1 - s.cliprange, ratio));
      stats.kl += 0.5 * difference * difference;
      stats.ratio += ratio;
      stats.entropy += out.entropy[firsts[row] + t];
      if (-a * limited > -a * ratio) stats.clipped++;
    }
    const { returns } = advantages[i];
    for (let t = 0; t < returns.length; t++) {
      const v = out.values[firsts[row] + t];
      const range = s.cliprangeValue ?? Infinity;
      const limited = values[t] + Math.min(range, Math.max(-range, v - values[t]));
      if ((limited - returns[t]) ** 2 > (v - returns[t]) ** 2) stats.valueClipped++;
    }
  });
  return stats;
}

/** Means over the mini-batches of an update. */
export function openStats() {
  const rows: Record<string, number>[] = [];
  return {
    gradNorms: [] as [number, number][],
    stoppedEarly: false,
    rejected: 0,
    add(micros: MicroStats[], counts: { policy: number; value: number }, vfCoef: number) {
      const total = (name: keyof MicroStats) => micros.reduce((sum, m) => sum + m[name], 0);
      const row = {
        "policy/approxkl_avg": total("kl") / counts.policy,
        "policy/clipfrac_avg": total("clipped") / counts.policy,
        "policy/entropy_avg": total("entropy") / counts.policy,
        "loss/policy_avg": total("pg"),
        "loss/value_avg": vfCoef === 0 ? 0 : total("vf") / vfCoef,
        "val/clipfrac_avg": total("valueClipped") / counts.value,
        "val/ratio": total("ratio") / counts.policy,
      };
      rows.push(row);
      return { approxKl: row["policy/approxkl_avg"], ratio: row["val/ratio"] };
    },
    metrics(): Record<string, number> {
      const column = (name: string) => rows.map((row) => row[name]);
      const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / Math.max(1, values.length);
      return {
        ...Object.fromEntries(Object.keys(rows[0]).map((name) => [name, mean(column(name))])),
        "val/ratio_var": moments(column("val/ratio")).variance,
        grad_norm: mean(this.gradNorms.map(([norm]) => norm)),
        value_grad_norm: mean(this.gradNorms.map(([, norm]) => norm)),
        "policy/stopped_early": this.stoppedEarly ? 1 : 0,
        "policy/rejected_minibatches": this.rejected,
      };
    },
  };
}
