/**
 * Options of labelling: preference pairs from a policy's own completions.
 *
 * @module
 */
import { z } from "zod";
import { type Agree, option } from "./common.ts";
import { sampledFields, type SampledOptions } from "./sampled.ts";

/** Options of `label`. */
export interface LabelOptions extends SampledOptions {
  /** Whether the judge compares two answers, or scores one. */
  judgeMode: "pairwise" | "score";
  /** Which labeller decides: `judge`, the name of a reward, or `rewards`, their weighted sum. */
  labelBy?: string;
  /** Pairs of a prompt: the best with the worst, or all that differ. */
  pairs: "best_worst" | "all";
  /** Smaller differences of scores are ties. */
  minMargin: number;
}

const labels = "Labels";

/** Schema of {@linkcode LabelOptions}. */
export const labelSchema = z.strictObject({
  ...sampledFields,
  judgeMode: option(
    labels,
    "pairwise: the judge is shown two answers, in both orders, and says which is better; a verdict that follows the place is a tie. score: it gives each answer a score from 1 to 10.",
    z.enum(["pairwise", "score"]).default("pairwise"),
  ),
  labelBy: option(
    labels,
    "Who decides where there are several labellers: judge, the name of a reward, or rewards, their weighted sum. If not given, the judge where there is one. The others are compared with it in the report.",
    z.string().min(1).optional(),
  ),
  pairs: option(
    labels,
    "Pairs of a prompt: the best answer with the worst, or all whose answers differ. A pairwise judge orders more than two answers by the comparisons that they win.",
    z.enum(["best_worst", "all"]).default("best_worst"),
  ),
  minMargin: option(
    labels,
    "Differences of scores up to this are ties, which are dropped and counted; of no meaning for a pairwise judge.",
    z.number().min(0).default(0),
  ),
});

true satisfies Agree<z.output<typeof labelSchema>, LabelOptions>;
