/**
 * Seeing over-optimisation: the proxy goes on rising while gold, measured on held-out prompts, falls (arXiv 2210.10760).
 *
 * @module
 */
import { type Difference, pairedDifference } from "./bootstrap.ts";

/** One evaluation: gold and proxy of every held-out prompt, in a fixed order. */
export interface Evaluation {
  step: number;
  gold: number[];
  proxy: number[];
  /** Mean KL per reply in nats. */
  kl: number;
}

/** Gold that must be lost for sure before an evaluation counts as a fall. */
const MARGIN = 0.05;

/** Evaluations in a row that must show a fall. */
const PATIENCE = 2;

const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** The evaluation with the highest mean gold, the earliest where several are equal. */
export function bestEvaluation(evaluations: Evaluation[]): Evaluation {
  return evaluations.reduce((best, one) => mean(one.gold) > mean(best.gold) ? one : best);
}

/**
 * The step at which over-optimisation was certain, if it was: for two evaluations in a row the proxy is above that of the best
 * evaluation so far and the 95 % paired bound of the loss in gold is beyond 0.05.
 */
export function overOptimisedAt(evaluations: Evaluation[]): number | undefined {
  let row = 0;
  for (let i = 1; i < evaluations.length; i++) {
    const now = evaluations[i], best = bestEvaluation(evaluations.slice(0, i));
    const fell = pairedDifference(best.gold, now.gold).high < -MARGIN && mean(now.proxy) > mean(best.proxy);
    row = fell ? row + 1 : 0;
    if (row === PATIENCE) return now.step;
  }
  return undefined;
}

/** Rise to the peak and fall from it. */
export interface RiseAndFall {
  peakStep: number;
  /** gold(peak) − gold(first evaluation). */
  rise: Difference;
  /** gold(last evaluation) − gold(peak). */
  fall: Difference;
}

/**
 * Rise and fall of gold. The peak is chosen on one half of the prompts and both are measured on the other, so that picking
 * the maximum does not make them look larger.
 */
export function riseAndFall(evaluations: Evaluation[]): RiseAndFall {
  const half = (values: number[], which: number) => values.filter((_, i) => Math.floor(i / 2) % 2 === which);
  const part = (which: number) => evaluations.map((one) => ({ ...one, gold: half(one.gold, which) }));
  const peakStep = bestEvaluation(part(0)).step;
  const measured = part(1);
  const peak = measured.find((one) => one.step === peakStep)!;
  return {
    peakStep,
    rise: pairedDifference(measured[0].gold, peak.gold),
    fall: pairedDifference(peak.gold, measured[measured.length - 1].gold),
  };
}
