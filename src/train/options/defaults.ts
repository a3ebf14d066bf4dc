/**
 * Complete options from some of them, for use without the command line.
 *
 * @module
 */
import { type PpoOptions, ppoSchema } from "./ppo.ts";
import { type RewardOptions, rewardSchema } from "./reward.ts";
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
  return ppoSchema.parse({ ...UNUSED, rewardModelPath: "none", ...given });
}
