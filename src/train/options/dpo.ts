/**
 * Options of direct preference optimisation: TRL 1.16's `DPOConfig`.
 *
 * @module
 */
import { z } from "zod";
import type { TruncationMode } from "../../data/preference.ts";
import { F_DIVERGENCES } from "../../rl/divergence.ts";
import { DPO_LOSS_TYPES, type DpoLossOptions } from "../../rl/dpo_loss.ts";
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

/** Options of `dpo`. */
export interface DpoOptions
  extends TrainingOptions, DataOptions, ModelOptions, ReferenceOptions, DpoLossOptions {
  /** Longest sequence in tokens, longer ones are cut; `null` for no limit. */
  maxLength: number | null;
  /** Which end of a longer sequence is kept. */
  truncationMode: TruncationMode;
}

const { method } = GROUPS;
const lossType = z.enum(DPO_LOSS_TYPES), number = z.number();

/** Schema of {@linkcode DpoOptions}. */
export const dpoSchema = z.strictObject({
  ...trainingFields,
  ...modelFields,
  learningRate: learningRateOption(1e-6),
  ...heldOutFields,
  maxLength: maxLengthField("longer ones are cut, and pairs whose prompt is longer are dropped"),
  truncationMode: option(
    GROUPS.data,
    "Which end of a longer sequence is kept.",
    z.enum(["keep_start", "keep_end"]).default("keep_start"),
  ),
  ...referenceFields,
  lossType: option(
    method,
    "What is learnt from a pair; several by commas are added up. sigmoid is DPO itself; hinge, ipo, exo_pair, nca_pair, robust, bco_pair, sppo_hard, aot, aot_unpaired, apo_zero, apo_down, discopop, sft and sigmoid_norm are TRL's; cdpo is DPO with smoothed labels, which TRL does not have.",
    z.union([z.array(lossType).min(1), lossType]).default(["sigmoid"]).transform((types) => [types].flat()),
  ),
  lossWeights: option(
    method,
    "Weights of the loss types; 1 each if not given.",
    z.union([z.array(number), number]).transform((weights) => [weights].flat()).optional(),
  ),
  beta: option(
    method,
    "Strength of the hold of the reference: larger keeps the policy nearer to it.",
    z.number().gt(0).default(0.1),
  ),
  labelSmoothing: option(
    method,
    "Share of labels that are taken to be wrong. As in TRL, only exo_pair, robust, aot and aot_unpaired read it, and cdpo.",
    z.number().min(0).lt(1).default(0),
  ),
  fDivergenceType: option(
    method,
    "Divergence that holds the policy near the reference (arXiv 2309.16240).",
    z.enum(F_DIVERGENCES).default("reverse_kl"),
  ),
  fAlphaDivergenceCoef: option(method, "Alpha of the alpha divergence.", z.number().default(0.5)),
  ldAlpha: option(
    method,
    "Weight of the tokens beyond the shorter answer's length, against long answers (arXiv 2409.06411); 1 if not given.",
    z.number().min(0).max(1).optional(),
  ),
  useWeighting: option(
    method,
    "Weigh pairs by how likely the policy itself is to give both answers (WPO, arXiv 2406.11827).",
    z.boolean().default(false),
  ),
  discopopTau: option(method, "Temperature of discopop's mixture.", z.number().gt(0).default(0.05)),
  ipoLengthNormalization: option(
    method,
    "ipo compares log-ratios per token, as TRL and the paper's experiments do; false: of whole answers, as the paper's formula.",
    z.boolean().default(true),
  ),
});

true satisfies Agree<z.output<typeof dpoSchema>, DpoOptions>;
