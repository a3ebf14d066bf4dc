/**
 * Options of best-of-n.
 *
 * @module
 */
import { z } from "zod";
import { type Agree, option } from "./common.ts";
import { completionsOption, sampledFields, type SampledOptions } from "./sampled.ts";

/** Options of `bon`. */
export interface BonOptions extends SampledOptions {
  /** Reward models that judge the choice and do not make it. */
  goldModelPath?: string[];
  /** The same of reward functions. */
  goldFuncs?: string[];
}

const group = "Gold";

const names = z.union([z.array(z.string().min(1)).min(1), z.string().min(1)]).transform((given) =>
  [given].flat()
);

/** Schema of {@linkcode BonOptions}. */
export const bonSchema = z.strictObject({
  ...sampledFields,
  numGenerations: completionsOption(16),
  goldModelPath: option(
    group,
    "Reward models that judge the choice and do not make it, so that it shows where the proxy is gamed; several are added.",
    names.optional(),
    ["gold_model"],
  ),
  goldFuncs: option(group, "The same of reward functions, named as in reward_funcs.", names.optional()),
});

true satisfies Agree<z.output<typeof bonSchema>, BonOptions>;
