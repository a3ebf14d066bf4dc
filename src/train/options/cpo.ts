/**
 * Options of contrastive preference optimisation, SimPO and AlphaPO: TRL 1.16's `CPOConfig`.
 *
 * @module
 */
import { z } from "zod";
import { CPO_LOSS_TYPES, type CpoLossOptions } from "../../rl/cpo_loss.ts";
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

/** Options of `cpo`. */
export interface CpoOptions extends TrainingOptions, DataOptions, ModelOptions, CpoLossOptions {
  /** Longest sequence in tokens, longer ones are cut; `null` for no limit. */
  maxLength: number | null;
}

const { method } = GROUPS;

/** Schema of {@linkcode CpoOptions}. */
export const cpoSchema = z.strictObject({
  ...trainingFields,
  ...modelFields,
  learningRate: learningRateOption(1e-6),
  ...heldOutFields,
  maxLength: maxLengthField("longer ones are cut, and pairs whose prompt is longer are dropped"),
  lossType: option(
    method,
    "sigmoid, hinge and ipo are CPO's; simpo compares log-probabilities per token and wants a margin (arXiv 2405.14734), with cpo_alpha 0 as its paper has it; alphapo is simpo with cpo_alpha 0, for use with alpha (arXiv 2501.03884).",
    z.enum(CPO_LOSS_TYPES).default("sigmoid"),
  ),
  beta: option(method, "Scale of the rewards; simpo's paper has 2 to 10.", z.number().gt(0).default(0.1)),
  labelSmoothing: option(
    method,
    "Share of labels that are taken to be wrong; sigmoid and simpo read it.",
    z.number().min(0).max(1).default(0),
  ),
  cpoAlpha: option(
    method,
    "Weight of the likelihood of the chosen answers.",
    z.number().min(0).default(1),
  ),
  simpoGamma: option(method, "Margin of the rewards that simpo wants.", z.number().default(0.5)),
  alpha: option(
    method,
    "Shape of the reward: log p for 0, else (1 - p^-alpha) / alpha.",
    z.number().default(0),
  ),
});

true satisfies Agree<z.output<typeof cpoSchema>, CpoOptions>;
