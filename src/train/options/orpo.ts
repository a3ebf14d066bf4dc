/**
 * Options of odds-ratio preference optimisation: TRL 1.16's `ORPOConfig`.
 *
 * @module
 */
import { z } from "zod";
import {
  type Agree,
  GROUPS,
  heldOutFields,
  learningRateOption,
  maxLengthField,
  option,
  trainingFields,
  type TrainingOptions,
} from "./common.ts";
import type { DataOptions } from "./data.ts";
import { modelFields, type ModelOptions } from "./model.ts";

/** Options of `orpo`. */
export interface OrpoOptions extends TrainingOptions, DataOptions, ModelOptions {
  /** Longest sequence in tokens, longer ones are cut; `null` for no limit. */
  maxLength: number | null;
  /** Weight of the odds ratio beside the likelihood. */
  beta: number;
}

/** Schema of {@linkcode OrpoOptions}. */
export const orpoSchema = z.strictObject({
  ...trainingFields,
  ...modelFields,
  learningRate: learningRateOption(1e-6),
  ...heldOutFields,
  maxLength: maxLengthField("longer ones are cut, and pairs whose prompt is longer are dropped"),
  beta: option(
    GROUPS.method,
    "Weight of the odds ratio beside the likelihood of prompt and chosen answer (lambda in the paper).",
    z.number().min(0).default(0.1),
  ),
});

true satisfies Agree<z.output<typeof orpoSchema>, OrpoOptions>;
