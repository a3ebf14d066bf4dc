/**
 * A controller of the entropy bonus (arXiv 2505.22312): its weight grows while the entropy is below a target.
 *
 * @module
 */

/** Plain data, part of a checkpoint. */
export interface EntropyControl {
  /** Weight of the bonus, where it is applied. */
  entropyCoef: number;
  /** Mean entropy of the last step in nats per token; infinite before the first. */
  lastEntropy: number;
}

/** Settings under TRL's names. */
export interface EntropyControlOptions {
  /** Nats per token. */
  entropyTarget: number;
  /** Change of the weight in a step. */
  entropyCoefDelta: number;
  entropyCoefMin: number;
  entropyCoefMax: number;
}

/** The weight of a step: none while the entropy of the last one was above the target, and none in the first step. */
export function appliedEntropyCoef(
  { entropyCoef, lastEntropy }: EntropyControl,
  { entropyTarget }: EntropyControlOptions,
): number {
  return lastEntropy <= entropyTarget ? entropyCoef : 0;
}

/** The controller after a step whose tokens had a mean entropy of `entropy` nats. */
export function updateEntropyCoef(
  { entropyCoef }: Pick<EntropyControl, "entropyCoef">,
  entropy: number,
  { entropyTarget, entropyCoefDelta, entropyCoefMin, entropyCoefMax }: EntropyControlOptions,
): EntropyControl {
  const moved = entropy <= entropyTarget
    ? Math.min(entropyCoefMax, entropyCoef + entropyCoefDelta)
    : Math.max(entropyCoefMin, entropyCoef - entropyCoefDelta);
  return { entropyCoef: moved, lastEntropy: entropy };
}
