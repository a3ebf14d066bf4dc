/**
 * Options of Kahneman-Tversky optimisation: TRL 1.16's `KTOConfig`.
 *
 * @module
 */
import { z } from "zod";
import { KTO_LOSS_TYPES, type KtoLossOptions } from "../../rl/kto_loss.ts";
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
import { referenceFields, type ReferenceOptions } from "./reference.ts";

/** Options of `kto`. */
export interface KtoOptions
  extends TrainingOptions, DataOptions, ModelOptions, ReferenceOptions, KtoLossOptions {
  /** Longest sequence in tokens, longer ones are cut; `null` for no limit. */
  maxLength: number | null;
}

const { method } = GROUPS;

/** Schema of {@linkcode KtoOptions}. */
export const ktoSchema = z.strictObject({
  ...trainingFields,
  ...modelFields,
  learningRate: learningRateOption(1e-6),
  ...heldOutFields,
  maxLength: maxLengthField("longer ones are cut, and rows whose prompt is longer are dropped"),
  ...referenceFields,
  lossType: option(
    method,
    "kto compares answers with an estimate of the KL divergence, from answers to other prompts of the same micro-batch; apo_zero_unpaired (arXiv 2408.06266) does without.",
    z.enum(KTO_LOSS_TYPES).default("kto"),
  ),
  beta: option(
    method,
    "Strength of the hold of the reference: larger keeps the policy nearer to it.",
    z.number().gt(0).default(0.1),
  ),
  desirableWeight: option(
    method,
    "Weight of good answers. Where there are more of one kind, desirable_weight times their number should be 1 to 4/3 of undesirable_weight times the number of bad ones.",
    z.number().min(0).default(1),
  ),
  undesirableWeight: option(method, "Weight of bad answers.", z.number().min(0).default(1)),
});

true satisfies Agree<z.output<typeof ktoSchema>, KtoOptions>;
