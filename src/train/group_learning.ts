/**
 * Learning from a part of a generation batch: what the losses of GRPO's kin get of samples, and what is kept of them.
 *
 * @module
 */
import type { GrpoInputs, LossScale } from "../rl/grpo_loss.ts";
import { correctionMetrics, importanceWeights } from "../rl/sampling_correction.ts";
import type { PerToken, TokenLoss } from "../rl/token_loss.ts";
import type { GenerationPlan } from "./generation.ts";
import type { Generation, Sample } from "./group_rollout.ts";
import type { Pass } from "./guard.ts";
import { meanMetrics } from "./micro_batches.ts";
import type { OnlineOptions } from "./options/online.ts";
import type { PolicyPasses, TokenScores } from "./policy_pass.ts";

/** What a pass came to. */
export interface LearntPart {
  /** Its share of the step's loss. */
  loss: number;
  metrics: Record<string, number>;
  /** For `Guard.examine`. */
  pass: Pass;
}

/**
 * Learns from the samples of one micro-batch, whose number in the run is `micro`; `lossOf` gets them as losses read them.
 * Samples that are learnt from for the first time keep the log-probabilities that they have now.
 */
export async function learnPart(
  passes: PolicyPasses,
  { samples, temperature }: Generation,
  micro: number,
  plan: GenerationPlan,
  options: OnlineOptions,
  lossOf: (inputs: GrpoInputs, scale: LossScale) => TokenLoss,
): Promise<LearntPart> {
  const { perDeviceTrainBatchSize: size, gradientAccumulationSteps } = options;
  const first = (micro % plan.slices) * size, part = samples.slice(first, first + size);
  const counted = countedSamples(part, options);
  const scale: LossScale = {
    passes: gradientAccumulationSteps,
    tokens: countTokens(samples, countedSamples(samples, options)) * gradientAccumulationSteps / plan.slices,
    maxCompletionLength: options.maxCompletionLength,
  };
  const isFresh = part.some(({ oldLogprobs }) => !oldLogprobs);
  let extra: Record<string, number> = {};
  const { result, pass } = await passes.learn(part, (scores) => {
    const inputs = lossInputs(part, scores, counted);
    const old = inputs.oldLogprobs, sampled = inputs.samplingLogprobs;
    if (isFresh) extra["sampling/logp_difference"] = largestDifference(old, sampled);
    const { importanceSamplingMode: mode } = options;
    if (mode !== "none") {
      const { importanceSamplingClipMin: clipMin, importanceSamplingClipMax: clipMax } = options;
      inputs.samplingWeights = importanceWeights(old, sampled, { mode, clipMin, clipMax });
      extra = { ...extra, ...correctionMetrics(old, sampled, inputs.samplingWeights) };
    }
    return lossOf(inputs, scale);
  }, temperature);
  const { loss, metrics } = result;
  return { loss, metrics: { ...metrics, ...extra }, pass };
}

/**
 * Takes the log-probabilities of the samples that are learnt from only after a step of the policy; for the others learning
 * itself does. `micro`: the micro-batch of the run that comes next.
 */
export async function scoreLater(
  passes: PolicyPasses,
  { samples, temperature }: Generation,
  micro: number,
  plan: GenerationPlan,
  { perDeviceTrainBatchSize: size, gradientAccumulationSteps }: OnlineOptions,
): Promise<void> {
  const before = new Set<number>();
  for (let next = micro; next === micro || next % gradientAccumulationSteps !== 0; next++) {
    before.add(next % plan.slices);
  }
  for (let slice = 0; slice < plan.slices; slice++) {
    if (before.has(slice)) continue;
    const part = samples.slice(slice * size, (slice + 1) * size);
    keepOld(part, await passes.score(part, temperature));
  }
}

/** Samples as losses read them. */
function lossInputs(
  samples: Sample[],
  scores: TokenScores,
  counted: boolean[],
): GrpoInputs & Required<Pick<GrpoInputs, "oldLogprobs" | "samplingLogprobs">> {
  keepOld(samples, scores);
  const rows = (of: (sample: Sample) => number[]): PerToken =>
    samples.map((one) => Float64Array.from(of(one)));
  return {
    logprobs: scores.logprobs,
    entropies: scores.entropies,
    ...(scores.kl && { exactKl: scores.kl }),
    oldLogprobs: rows((one) => one.oldLogprobs!),
    samplingLogprobs: rows((one) => one.samplingLogprobs),
    ...(samples.every(({ refLogprobs }) => refLogprobs) && { refLogprobs: rows((one) => one.refLogprobs!) }),
    advantages: rows((one) => one.advantages),
    counted,
  };
}

/** Keeps the log-probabilities of samples that have none yet. */
function keepOld(samples: Sample[], { logprobs }: TokenScores): void {
  samples.forEach((sample, i) => sample.oldLogprobs ??= Array.from(logprobs[i]));
}

/** Whether each sample is learnt from. */
export function countedSamples(
  samples: Sample[],
  { maskTruncatedCompletions }: Pick<OnlineOptions, "maskTruncatedCompletions">,
): boolean[] {
  return samples.map(({ ended }) => ended || !maskTruncatedCompletions);
}

/** Mean over the tokens of the samples that are learnt from. */
export function meanKl(kl: PerToken, counted: boolean[]): number {
  const all = kl.flatMap((row, i) => counted[i] ? Array.from(row) : []);
  return all.reduce((a, b) => a + b, 0) / Math.max(1, all.length);
}

function countTokens(samples: Sample[], counted: boolean[]): number {
  return samples.reduce((n, { completion }, i) => n + (counted[i] ? completion.length : 0), 0);
}

function largestDifference(some: PerToken, others: PerToken): number {
  let largest = 0;
  some.forEach((row, i) => row.forEach((x, t) => largest = Math.max(largest, Math.abs(x - others[i][t]))));
  return largest;
}

/** The loss of a step, and the mean of each metric over those passes that have it. */
export function stepMetrics(parts: LearntPart[]): Record<string, number> & { loss: number } {
  return {
    ...meanMetrics(parts.map(({ metrics }) => metrics)),
    loss: parts.reduce((sum, { loss }) => sum + loss, 0),
  };
}
