/**
 * From sampled completions to what PPO learns from: log-probabilities, scores, rewards, advantages and returns.
 *
 * @module
 */
import { packBatch, type PackedBatch } from "../data/batches.ts";
import { batchInputs, decoder, headOf, type Model } from "../model/decoder.ts";
import { weightOf } from "../model/block.ts";
import { gae } from "../rl/gae.ts";
import { klEstimate, type KlPenalty } from "../rl/kl.ts";
import { moments, whiten } from "../rl/whiten.ts";
import { exactKl, logProb } from "../tape/ops/log_prob.ts";
import { scalarHead } from "../tape/ops/linear.ts";
import { gather } from "../tape/ops/reduce.ts";
import { planCache } from "../tape/plans.ts";
import type { Workspace } from "../tape/plan.ts";
import type { Tape } from "../tape/tape.ts";

/** A prompt with one sampled completion, scored by all models. Arrays are one number per completion token. */
export interface Rollout {
  prompt: number[];
  /** Tokens drawn, the stop token included. */
  completion: number[];
  ended: boolean;
  logprobs: Float64Array;
  refLogprobs: Float64Array;
  entropy: Float64Array;
  /** Exact KL(π‖π_ref) of the next-token distribution before each token. */
  exactKl: Float64Array;
  /** The critic's value before each token, and after the last: one more than tokens. */
  values: Float64Array;
  /** The reward model's score, before penalties; 0 where none was asked. */
  score: number;
}

/** The models that score rollouts. */
export interface ScoringModels {
  policy: Model;
  reference: Model;
  /** Absent where scores come from elsewhere. */
  reward?: Model;
  /** Absent where nothing is learnt, as in evaluations; values are then 0. */
  value?: Model;
}

/** Scores are reported and used as (score − mean) / std. */
export interface Standardisation {
  /** Mean of the raw scores. */
  mean: number;
  /** Standard deviation of the raw scores. */
  std: number;
}

/** A function that scores completions with all four models in one pass, at a temperature. */
export type RolloutScorer = (
  samples: { prompt: number[]; completion: number[]; ended: boolean }[],
  temperature: number,
) => Promise<Rollout[]>;

/** Records the scoring of `rows` rollouts of `tokens` tokens in all. */
export function recordScoring(
  tape: Tape,
  models: ScoringModels,
  { tokens, rows, temperature }: { tokens: number; rows: number; temperature: number },
): void {
  const batch = batchInputs(tape, tokens);
  const targets = tape.input("targets", [tokens], "u32");
  const side = (model: Model) => {
    const hidden = decoder(tape, model, batch, { frozen: true });
    const head = headOf(tape, model, true);
    return { hidden, head, ...logProb(tape, hidden, head, targets, temperature) };
  };
  const policy = side(models.policy), reference = side(models.reference);
  tape.output("logprob", policy.logprob);
  tape.output("entropy", policy.entropy);
  tape.output("refLogprob", reference.logprob);
  tape.output("kl", exactKl(tape, policy, reference, temperature));
  const headed = (model: Model) => {
    const hidden = decoder(tape, model, batch, { frozen: true });
    return scalarHead(tape, hidden, weightOf(tape, model, "score", true));
  };
  if (models.value) tape.output("values", headed(models.value));
  if (models.reward) {
    tape.output("scores", gather(tape, headed(models.reward), tape.input("last", [rows], "u32")));
  }
}

/** Rows scored in one pass. */
export function rolloutScorer(
  workspace: Workspace,
  models: ScoringModels,
  { batchSize, scoreScale, valueScale }: {
    batchSize: number;
    scoreScale: Standardisation;
    valueScale: Standardisation;
  },
): RolloutScorer {
  const plan = planCache(
    workspace,
    (tape, tokens: number, rows: number, temperature: number) =>
      recordScoring(tape, models, { tokens, rows, temperature }),
  );

  return async (samples, temperature) => {
    const rollouts: Rollout[] = [];
    for (let at = 0; at < samples.length; at += batchSize) {
      const part = samples.slice(at, at + batchSize);
      const packed = packBatch(part.map(({ prompt, completion }) => [...prompt, ...completion]));
      const out = await plan(packed.tokens, part.length, temperature).run({
        ...packedInputs(packed),
        last: packed.first.map((first, i) => first + packed.lengths[i] - 1),
      });
      part.forEach(({ prompt, completion, ended }, i) => {
        // The numbers of a token stand at the token before it.
        const first = packed.first[i] + prompt.length - 1;
        const cut = (all: Float32Array, extra = 0) =>
          Float64Array.from(all.subarray(first, first + completion.length + extra));
        rollouts.push({
          prompt,
          completion,
          ended,
          logprobs: cut(out.logprob),
          refLogprobs: cut(out.refLogprob),
          entropy: cut(out.entropy),
          exactKl: cut(out.kl),
          values: out.values
            ? cut(out.values, 1).map((v) => (v - valueScale.mean) / valueScale.std)
            : new Float64Array(completion.length + 1),
          score: out.scores ? (out.scores[i] - scoreScale.mean) / scoreScale.std : 0,
        });
      });
    }
    return rollouts;
  };
}

/** The arrays of a packed batch that a plan reads, with each token's target. */
export function packedInputs(packed: PackedBatch): Record<string, Uint32Array> {
  const { ids, positions, starts, ends, order, positionOrder } = packed;
  const targets = new Uint32Array(packed.tokens);
  packed.first.forEach((first, i) => {
    const length = packed.lengths[i];
    targets.set(ids.subarray(first + 1, first + length), first);
  });
  return { ids, positions, starts, ends, order, positionOrder, targets };
}

/** Over what advantages are whitened: a batch of rollouts, each mini-batch for itself, or nothing. */
export type WhitenScope = "batch" | "mini_batch" | "none";

/** Choices of {@linkcode advantagesOf}; the names are PPO's options. */
export interface AdvantageOptions {
  klCoef: number;
  klEstimator: KlPenalty;
  gamma: number;
  lam: number;
  whitenRewards: boolean;
  whitenUnbiased: boolean;
  whitenScope: WhitenScope;
  missingEosPenalty?: number;
  scorePlacement: "after_eos" | "eos";
  /** Scores are clipped to ±this. */
  scoreClip?: number;
}

/** What the losses need of one rollout. */
export interface Advantages {
  /** [tokens], whitened over the batch unless mini-batches are to do so. */
  advantages: Float64Array;
  /** [tokens] or [tokens + 1]: one more where the score stands after the end. */
  returns: Float64Array;
  rewards: Float64Array;
  /** Per token, as used in the reward. */
  kl: Float64Array;
  /** After penalty and clipping. */
  score: number;
}

/**
 * Rewards r_t = −β KL_t with the score added at the end, advantages by GAE.
 *
 * TRL and the papers it follows place the score one position after the stop token where the batch leaves room
 * (`after_eos`), OpenRLHF on the stop token (`eos`).
 */
export function advantagesOf(rollouts: Rollout[], options: AdvantageOptions): Advantages[] {
  const width = Math.max(...rollouts.map((rollout) => rollout.completion.length));
  const all = rollouts.map((rollout) => {
    const tokens = rollout.completion.length;
    const kl = Float64Array.from(
      rollout.logprobs,
      (logprob, t) =>
        options.klEstimator === "exact"
          ? rollout.exactKl[t]
          : klEstimate(options.klEstimator, logprob, rollout.refLogprobs[t]),
    );
    let score = rollout.score;
    if (options.scoreClip) score = Math.min(options.scoreClip, Math.max(-options.scoreClip, score));
    if (!rollout.ended && options.missingEosPenalty) score -= options.missingEosPenalty;
    const slots = options.scorePlacement === "after_eos" ? Math.min(tokens + 1, width) : tokens;
    const rewards = new Float64Array(slots);
    kl.forEach((value, t) => rewards[t] = -options.klCoef * value);
    rewards[slots - 1] += score;
    return { kl, score, rewards };
  });
  if (options.whitenRewards) {
    spread(all.map((one) => one.rewards), { keepMean: true, unbiased: options.whitenUnbiased });
  }
  const estimated = all.map(({ rewards }, i) =>
    gae(rewards, rollouts[i].values.subarray(0, rewards.length), options.gamma, options.lam)
  );
  const advantages = estimated.map((one, i) => one.advantages.slice(0, rollouts[i].completion.length));
  if (options.whitenScope === "batch") spread(advantages, { unbiased: options.whitenUnbiased });
  return all.map((one, i) => ({ ...one, advantages: advantages[i], returns: estimated[i].returns }));
}

/** The advantages of some rollouts, whitened over those alone; the others are left as they are. */
export function whitenSome(all: Advantages[], some: number[], unbiased: boolean): Advantages[] {
  const copies = some.map((i) => all[i].advantages.slice());
  spread(copies, { unbiased });
  const out = [...all];
  some.forEach((i, k) => out[i] = { ...all[i], advantages: copies[k] });
  return out;
}

/** Whitens arrays in place, over all their elements together. */
function spread(arrays: Float64Array[], options: { keepMean?: boolean; unbiased: boolean }): void {
  const flat = new Float64Array(arrays.reduce((n, a) => n + a.length, 0));
  let at = 0;
  for (const array of arrays) {
    flat.set(array, at);
    at += array.length;
  }
  const whitened = whiten(flat, options);
  at = 0;
  for (const array of arrays) {
    array.set(whitened.subarray(at, at + array.length));
    at += array.length;
  }
}

/** Metrics of a batch of rollouts, under TRL's names. */
export function rolloutMetrics(
  rollouts: Rollout[],
  advantages: Advantages[],
  klCoef: number,
): Record<string, number> {
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const total = (values: ArrayLike<number>) =>
    Array.prototype.reduce.call(values, (a, b) => a + b, 0) as number;
  const estimate = (kind: "k1" | "k2" | "k3") =>
    mean(rollouts.map((r) => total(r.logprobs.map((lp, t) => klEstimate(kind, lp, r.refLogprobs[t])))));
  const kl = mean(advantages.map((a) => total(a.kl)));
  const scores = advantages.map((a) => a.score);
  const lengths = rollouts.map((r) => r.completion.length);
  return {
    "objective/kl": kl,
    "objective/kl_k1": estimate("k1"),
    "objective/kl_k2": estimate("k2"),
    "objective/kl_k3": estimate("k3"),
    "objective/kl_exact": mean(rollouts.map((r) => total(r.exactKl))),
    "objective/entropy": mean(rollouts.map((r) => total(r.entropy))),
    "objective/non_score_reward": -klCoef * kl,
    "objective/rlhf_reward": mean(scores) - klCoef * kl,
    "objective/scores": mean(scores),
    "objective/scores_std": Math.sqrt(moments(scores).variance),
    "objective/kl_coef": klCoef,
    "tokens/responses_len_mean": mean(lengths),
    "val/num_eos_tokens": rollouts.filter((r) => r.ended).length,
  };
}
