/**
 * Complete options from some of them, for use without the command line.
 *
 * @module
 */
import { type CpoOptions, cpoSchema } from "./cpo.ts";
import { type DpoOptions, dpoSchema } from "./dpo.ts";
import { type GrpoOptions, grpoSchema } from "./grpo.ts";
import { type KtoOptions, ktoSchema } from "./kto.ts";
import { type LabelOptions, labelSchema } from "./label.ts";
import { type OnlineDpoOptions, onlineDpoSchema } from "./online_dpo.ts";
import { type OrpoOptions, orpoSchema } from "./orpo.ts";
import { type PpoOptions, ppoSchema } from "./ppo.ts";
import { type ReinforceOptions, reinforceSchema } from "./reinforce.ts";
import { type RewardOptions, rewardSchema } from "./reward.ts";
import { type RlooOptions, rlooSchema } from "./rloo.ts";
import { type SftOptions, sftSchema } from "./sft.ts";

/** Paths that the trainers themselves do not read: models and data are handed to them. */
const UNUSED = { modelNameOrPath: "none", datasetName: "none", outputDir: "none" };

/** Options of {@linkcode sft}; what is not given has TRL's default. Throws where a value is out of its range. */
export function sftOptions(given: Partial<SftOptions> = {}): SftOptions {
  return sftSchema.parse({ ...UNUSED, ...given });
}

/** Options of {@linkcode reward}; what is not given has TRL's default. */
export function rewardOptions(given: Partial<RewardOptions> = {}): RewardOptions {
  return rewardSchema.parse({ ...UNUSED, ...given });
}

/** Options of {@linkcode ppo}; what is not given has TRL's default. */
export function ppoOptions(given: Partial<PpoOptions> = {}): PpoOptions {
  return ppoSchema.parse({ ...UNUSED, rewardModelPath: ["none"], ...given });
}

/** Options of {@linkcode dpo}; what is not given has TRL's default. */
export function dpoOptions(given: Partial<DpoOptions> = {}): DpoOptions {
  return dpoSchema.parse({ ...UNUSED, ...given });
}

/** Options of {@linkcode kto}; what is not given has TRL's default. */
export function ktoOptions(given: Partial<KtoOptions> = {}): KtoOptions {
  return ktoSchema.parse({ ...UNUSED, ...given });
}

/** Options of {@linkcode orpo}; what is not given has TRL's default. */
export function orpoOptions(given: Partial<OrpoOptions> = {}): OrpoOptions {
  return orpoSchema.parse({ ...UNUSED, ...given });
}

/** Options of {@linkcode cpo}; what is not given has TRL's default. */
export function cpoOptions(given: Partial<CpoOptions> = {}): CpoOptions {
  return cpoSchema.parse({ ...UNUSED, ...given });
}

/** Options of {@linkcode grpo}; what is not given has TRL's default. */
export function grpoOptions(given: Partial<GrpoOptions> = {}): GrpoOptions {
  return grpoSchema.parse({ ...UNUSED, ...given });
}

/** Options of {@linkcode rloo}; what is not given has TRL's default. */
export function rlooOptions(given: Partial<RlooOptions> = {}): RlooOptions {
  return rlooSchema.parse({ ...UNUSED, ...given });
}

/** Options of {@linkcode reinforce}; what is not given has OpenRLHF's default. */
export function reinforceOptions(given: Partial<ReinforceOptions> = {}): ReinforceOptions {
  return reinforceSchema.parse({ ...UNUSED, ...given });
}

/** Options of {@linkcode label}; what is not given has the default of `keel label`. */
export function labelOptions(given: Partial<LabelOptions> = {}): LabelOptions {
  return labelSchema.parse({ ...UNUSED, ...given });
}

/** Options of {@linkcode onlineDpo}; what is not given has TRL's default. */
export function onlineDpoOptions(given: Partial<OnlineDpoOptions> = {}): OnlineDpoOptions {
  return onlineDpoSchema.parse({ ...UNUSED, ...given });
}
