/**
 * PPO's learning phase: epochs of mini-batches over one batch of rollouts, policy and critic together.
 *
 * @module
 */
import { packBatch } from "../data/batches.ts";
import { batchInputs, decoder, headOf, type Model } from "../model/decoder.ts";
import { weightOf } from "../model/block.ts";
import { policyLoss, valueLoss, weightedSum } from "../rl/losses.ts";
import { add, multiply, subtract } from "../tape/ops/elementwise.ts";
import { scalarHead } from "../tape/ops/linear.ts";
import { logProb } from "../tape/ops/log_prob.ts";
import { planCache } from "../tape/plans.ts";
import type { Inputs, Workspace } from "../tape/plan.ts";
import type { Tape } from "../tape/tape.ts";
import type { Pass } from "./guard.ts";
import type { Learner } from "./learner.ts";
import type { StepResult } from "./optimizer.ts";
import { type MicroStats, microStats, openStats } from "./ppo_stats.ts";
import type { Advantages, Rollout, Standardisation, WhitenScope } from "./rollout.ts";
import { packedInputs, whitenSome } from "./rollout.ts";

/** Settings of one update, read afresh every time so that they can be turned between two. */
export interface UpdateSettings {
  /** Log-probabilities are taken at this temperature. */
  temperature: number;
  learningRate: number;
  valueLearningRate: number;
  cliprange: number;
  /** No clipping where it is `null`. */
  cliprangeValue: number | null;
  /** Bound of the loss where the advantage is negative. */
  dualClip?: number;
  /** Only the critic learns. */
  onlyCritic?: boolean;
  vfCoef: number;
  /** Weight of the mean entropy that is taken off the loss. */
  entropyCoef: number;
  maxGradNorm: number;
  weightDecay: number;
  adamBeta1: number;
  adamBeta2: number;
  adamEpsilon: number;
  /** Stop the update when the mean approximate KL of a mini-batch passes 1.5 times this. */
  targetKl?: number;
  /** Skip mini-batches whose mean ratio passes this. */
  ratioThreshold?: number;
}

/** Stands for a limit where there is none: a value loss that is not clipped, a loss without a ceiling. */
const UNBOUNDED = 3e38;

/** Results of an update. */
export interface UpdateResult {
  metrics: Record<string, number>;
  /** A mini-batch had a loss or a gradient that was not finite. */
  skipped: boolean;
}

/**
 * Learns from rollouts; `epochs[e][m]` lists the rollouts of mini-batch m of epoch e. `examine` gets the passes of the first
 * mini-batch that was skipped.
 */
export type PpoUpdate = (
  rollouts: Rollout[],
  advantages: Advantages[],
  epochs: number[][][],
  settings: UpdateSettings,
  examine?: (passes: Pass[]) => Promise<void>,
) => Promise<UpdateResult>;

/** Records the losses of policy and critic on `tokens` tokens of rollouts, and their gradients. */
export function recordUpdate(
  tape: Tape,
  policy: Model,
  value: Model,
  { tokens, temperature, bonus, dualClip, checkpointing }: {
    tokens: number;
    temperature: number;
    /** Whether there is an entropy bonus. */
    bonus: boolean;
    /** Whether the loss of a token has a ceiling. */
    dualClip: boolean;
    checkpointing: boolean;
  },
): void {
  const batch = batchInputs(tape, tokens);
  const vector = (name: string) => tape.input(name, [tokens]);
  const scalar = (name: string) => tape.input(name, [1]);
  const targets = tape.input("targets", [tokens], "u32");
  const hidden = decoder(tape, policy, batch, { checkpointing });
  const { logprob, entropy } = logProb(
    tape,
    hidden,
    headOf(tape, policy),
    targets,
    temperature,
  );
  const pg = policyLoss(tape, {
    logprob,
    oldLogprob: vector("oldLogprob"),
    advantages: vector("advantages"),
    weights: vector("policyWeights"),
    low: scalar("ratioLow"),
    high: scalar("ratioHigh"),
    ceiling: dualClip ? vector("ceiling") : undefined,
  });
  const critic = decoder(tape, value, batch, { checkpointing });
  const raw = scalarHead(tape, critic, weightOf(tape, value, "score"));
  const values = multiply(tape, subtract(tape, raw, scalar("valueMean")), scalar("valueInverseStd"));
  const vf = valueLoss(tape, {
    values,
    oldValues: vector("oldValues"),
    returns: vector("returns"),
    weights: vector("valueWeights"),
    low: scalar("valueLow"),
    high: scalar("valueHigh"),
  });
  let loss = add(tape, pg.loss, vf);
  if (bonus) {
    loss = subtract(
      tape,
      loss,
      weightedSum(tape, entropy, vector("entropyWeights")),
    );
  }
  for (const [name, t] of Object.entries({ pg: pg.loss, vf, logprob, entropy, values })) {
    tape.output(name, t);
  }
  tape.backward(loss, scalar("one"));
}

/** The update of a policy and a critic. `microBatch`: rollouts in one pass; gradients of a mini-batch accumulate. */
export function ppoUpdater(
  workspace: Workspace,
  policy: Learner,
  value: Learner,
  { microBatch, valueScale, checkpointing, lossAggregation, whitenScope, whitenUnbiased }: {
    microBatch: number;
    valueScale: Standardisation;
    checkpointing: boolean;
    lossAggregation: "micro_batch" | "mini_batch";
    whitenScope: WhitenScope;
    whitenUnbiased: boolean;
  },
): PpoUpdate {
  const trainPlan = planCache(
    workspace,
    (tape, tokens: number, temperature: number, bonus: "bonus" | "plain", clip: "dual" | "single") =>
      recordUpdate(tape, policy.model, value.model, {
        tokens,
        temperature,
        bonus: bonus === "bonus",
        dualClip: clip === "dual",
        checkpointing,
      }),
  );

  return async (rollouts, given, epochs, settings, examine) => {
    const stats = openStats();
    let skipped = false;
    learning:
    for (const miniBatches of epochs) {
      for (const miniBatch of miniBatches) {
        const advantages = whitenScope === "mini_batch"
          ? whitenSome(given, miniBatch, whitenUnbiased)
          : given;
        const micros: number[][] = [];
        for (let at = 0; at < miniBatch.length; at += microBatch) {
          micros.push(miniBatch.slice(at, at + microBatch));
        }
        const counts = countTokens(miniBatch, rollouts, advantages);
        const results: MicroStats[] = [], passes: Pass[] = [];
        for (const micro of micros) {
          const own = countTokens(micro, rollouts, advantages);
          const scale = lossAggregation === "mini_batch"
            ? { policy: 1 / counts.policy, value: 1 / counts.value }
            : { policy: 1 / (own.policy * micros.length), value: 1 / (own.value * micros.length) };
          const { tokens, inputs, firsts } = updateInputs(
            micro,
            rollouts,
            advantages,
            scale,
            settings,
            valueScale,
          );
          const plan = trainPlan(
            tokens,
            settings.temperature,
            settings.entropyCoef === 0 ? "plain" : "bonus",
            settings.dualClip === undefined ? "single" : "dual",
          );
          passes.push({ plan, inputs });
          const out = await plan.run(inputs);
          results.push(microStats(micro, firsts, rollouts, advantages, out, settings));
        }
        const mini = stats.add(results, counts, settings.vfCoef);
        if (settings.targetKl !== undefined && mini.approxKl > 1.5 * settings.targetKl) {
          stats.stoppedEarly = true;
          policy.discard();
          value.discard();
          break learning;
        }
        if (settings.ratioThreshold !== undefined && mini.ratio > settings.ratioThreshold) {
          stats.rejected++;
          policy.discard();
          value.discard();
          continue;
        }
        const lossOf = (name: "pg" | "vf") => results.reduce((sum, micro) => sum + micro[name], 0);
        const valueSettings = { ...settings, learningRate: settings.valueLearningRate };
        const first = settings.onlyCritic ? restOf(policy) : await policy.step(settings, lossOf("pg"));
        const second = await value.step(valueSettings, lossOf("vf"));
        stats.gradNorms.push([first.gradNorm, second.gradNorm]);
        if (!skipped && (first.skipped || second.skipped)) {
          skipped = true;
          await examine?.(passes);
        }
      }
    }
    return { metrics: stats.metrics(), skipped };
  };
}

/** Tokens that the policy loss and the value loss count. */
function countTokens(which: number[], rollouts: Rollout[], advantages: Advantages[]) {
  let policy = 0, value = 0;
  for (const i of which) {
    policy += rollouts[i].completion.length;
    value += advantages[i].returns.length;
  }
  return { policy, value };
}

function updateInputs(
  micro: number[],
  rollouts: Rollout[],
  advantages: Advantages[],
  scale: { policy: number; value: number },
  s: UpdateSettings,
  valueScale: Standardisation,
) {
  const packed = packBatch(micro.map((i) => [...rollouts[i].prompt, ...rollouts[i].completion]));
  const zeros = () => new Float32Array(packed.tokens);
  const oldLogprob = zeros(), policyWeights = zeros(), entropyWeights = zeros(), valueWeights = zeros();
  const advantage = zeros(), oldValues = zeros(), returns = zeros();
  const firsts = micro.map((i, row) => packed.first[row] + rollouts[i].prompt.length - 1);
  micro.forEach((i, row) => {
    const first = firsts[row], rollout = rollouts[i];
    oldLogprob.set(rollout.logprobs, first);
    advantage.set(advantages[i].advantages, first);
    policyWeights.fill(scale.policy, first, first + rollout.completion.length);
    entropyWeights.fill(scale.policy * s.entropyCoef, first, first + rollout.completion.length);
    const slots = advantages[i].returns.length;
    oldValues.set(rollout.values.subarray(0, slots), first);
    returns.set(advantages[i].returns, first);
    valueWeights.fill(0.5 * s.vfCoef * scale.value, first, first + slots);
  });
  const one = (x: number) => new Float32Array([x]);
  const inputs: Inputs = {
    ...packedInputs(packed),
    oldLogprob,
    advantages: advantage,
    policyWeights,
    ...s.entropyCoef === 0 ? {} : { entropyWeights },
    ...s.dualClip === undefined
      ? {}
      : { ceiling: advantage.map((a) => a < 0 ? -s.dualClip! * a : UNBOUNDED) },
    oldValues,
    returns,
    valueWeights,
    ratioLow: one(1 - s.cliprange),
    ratioHigh: one(1 + s.cliprange),
    valueLow: one(-(s.cliprangeValue ?? UNBOUNDED)),
    valueHigh: one(s.cliprangeValue ?? UNBOUNDED),
    valueMean: one(valueScale.mean),
    valueInverseStd: one(1 / valueScale.std),
    one: one(1),
  };
  return { tokens: packed.tokens, inputs, firsts };
}

/** A policy that does not learn in this step: what it has accumulated goes. */
function restOf(policy: Learner): StepResult {
  policy.discard();
  return { gradNorm: 0, skipped: false };
}
