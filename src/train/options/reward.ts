/**
 * Options of reward modelling: TRL 1.16's `RewardConfig`.
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
import { modelFields, type ModelOptions } from "./model.ts";
import type { DataOptions } from "./data.ts";

/** Options of `reward`. */
export interface RewardOptions extends TrainingOptions, DataOptions, ModelOptions {
  /** Longest sequence in tokens; a pair with a longer side is dropped; `null` for no limit. */
  maxLength: number | null;
  /** Weight c of c·mean((r_chosen + r_rejected)²), which keeps scores near 0 (arXiv 2312.09244); 0.01 is usual. */
  centerRewardsCoefficient?: number;
}

/** Schema of {@linkcode RewardOptions}. */
export const rewardSchema = z.strictObject({
  ...trainingFields,
  ...modelFields,
  learningRate: learningRateOption(1e-4),
  ...heldOutFields,
  maxLength: maxLengthField("pairs with a longer side are dropped"),
  centerRewardsCoefficient: option(
    GROUPS.method,
    "Weight c of c*mean((r_chosen + r_rejected)^2), which keeps scores near 0 (arXiv 2312.09244); 0.01 is usual.",
    z.number().min(0).optional(),
  ),
});

true satisfies Agree<z.output<typeof rewardSchema>, RewardOptions>;
