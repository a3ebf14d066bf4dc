/**
 * Corrections for completions that were drawn from another distribution than the one that learns from them, as with
 * truncated sampling or when they were kept for later.
 *
 * @module
 */
import type { PerToken } from "./token_loss.ts";

/** Whether the ratios of tokens or of whole sequences are limited, and whether one beyond the limits is cut or makes 0. */
export type ImportanceSamplingMode = "token_truncate" | "token_mask" | "sequence_truncate" | "sequence_mask";

/** Limits of the ratios; no limit where null. */
export interface CorrectionOptions {
  mode: ImportanceSamplingMode;
  clipMin: number | null;
  clipMax: number | null;
}

/**
 * π / π_sampled, per token or one for a sequence (the product of its tokens'), within the limits: truncated importance
 * sampling, or masked.
 *
 * @param logprobs of the policy when learning begins
 * @param sampled log-probabilities when the tokens were drawn
 */
export function importanceWeights(
  logprobs: PerToken,
  sampled: PerToken,
  { mode, clipMin, clipMax }: CorrectionOptions,
): PerToken {
  const low = clipMin ?? -Infinity, high = clipMax ?? Infinity;
  const truncates = mode === "token_truncate" || mode === "sequence_truncate";
  const limit = (ratio: number) =>
    truncates ? Math.min(high, Math.max(low, ratio)) : ratio < low || ratio > high ? 0 : ratio;
  return logprobs.map((row, i) => {
    const differences = row.map((logprob, t) => logprob - sampled[i][t]);
    const logs = mode.startsWith("sequence")
      ? Float64Array.of(differences.reduce((a, b) => a + b, 0))
      : differences;
    return logs.map((log) => limit(Math.exp(log)));
  });
}

/** How far the two are apart, of the tokens of some sequences, and what the weights are, under TRL's names. */
export function correctionMetrics(
  logprobs: PerToken,
  sampled: PerToken,
  weights: PerToken,
): Record<string, number> {
  const apart = logprobs.flatMap((row, i) => Array.from(row, (x, t) => Math.abs(x - sampled[i][t])));
  const all = weights.flatMap((row) => Array.from(row));
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / Math.max(1, values.length);
  const largest = (values: number[]) => values.reduce((a, b) => Math.max(a, b), 0);
  return {
    "sampling/sampling_logp_difference/mean": mean(apart),
    "sampling/sampling_logp_difference/max": largest(apart),
    "sampling/importance_sampling_ratio/min": all.reduce((a, b) => Math.min(a, b), all[0] ?? 0),
    "sampling/importance_sampling_ratio/mean": mean(all),
    "sampling/importance_sampling_ratio/max": largest(all),
  };
}
