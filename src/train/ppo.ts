/**
 * Proximal policy optimisation (arXiv 1707.06347) for RLHF (arXiv 2203.02155), r = R_RM(x, y) − β·KL(π ‖ π_SFT).
 *
 * A step is one batch of rollouts and the optimiser steps on it. TRL's loop, with each choice on which implementations
 * differ as an option.
 *
 * @module
 */
import { type DataCursor, FIRST_ROW, type Rows, takeWholeBatch } from "../data/batches.ts";
import { randomStream } from "../random/stream.ts";
import type { PromptExample } from "../data/tokenize.ts";
import type { Model } from "../model/decoder.ts";
import { type KlController, updateKlCoef } from "../rl/kl.ts";
import { NOTHING_SEEN, type RunningMoments, scaleScores, updateMoments } from "../rl/running_moments.ts";
import type { SavedCheckpoint } from "../run/checkpoint.ts";
import type { StageRun } from "../run/run.ts";
import { openGenerator } from "../sample/generate.ts";
import type { Workspace } from "../tape/plan.ts";
import type { CompletionScorer } from "./completion_scores.ts";
import { breathe, type StepEvent } from "./events.ts";
import { openGuard } from "./guard.ts";
import { openAverage } from "./average.ts";
import { openLearner } from "./learner.ts";
import type { PpoOptions } from "./options/ppo.ts";
import { ppoUpdater } from "./ppo_update.ts";
import { advantagesOf, rolloutMetrics, rolloutScorer, type Standardisation } from "./rollout.ts";
import { isDue, learningRateAt } from "./schedule.ts";
import { steer } from "./steering.ts";

/** What {@linkcode ppo} trains and on what. */
export interface PpoInputs<P extends PromptExample = PromptExample> {
  /** Where to train. */
  workspace: Workspace;
  /** Trained in place. */
  policy: Model;
  /** Frozen: the SFT model. */
  reference: Model;
  /** What gives the scores: a frozen model with a head of one output, or anything else. */
  reward: Model | CompletionScorer<P>;
  /** Trained in place, with a head of one output. */
  value: Model;
  /** How scores of the reward model are standardised; mean 0 and std 1 leave them as they are. */
  scoreScale: Standardisation;
  /** The same for the critic's output: that of the reward model where the critic is its copy. */
  valueScale: Standardisation;
  /** What completions are sampled for. */
  prompts: Rows<P>;
  /** Tokens that end a completion. */
  stopIds: number[];
  /** Text of token ids, for the samples that are kept. */
  decode: (ids: number[]) => string;
  /** Called after the last step with the policy's moving average, where one is kept. */
  keepAverage?: (average: Model) => Promise<void>;
  /** Called before the first step and at every evaluation; its metrics join the step's. */
  evaluate?: (step: number, policy: Model) => Promise<Record<string, number>>;
}

/** Samples of each batch that are kept in the run's database. */
const KEPT_SAMPLES = 8;

/** Steps of a PPO run. */
export function ppoSteps(options: PpoOptions, prompts: number): number {
  if (options.maxSteps > 0) return options.maxSteps;
  const episodes = options.totalEpisodes ?? options.numTrainEpochs * prompts;
  return Math.max(1, Math.ceil(episodes / ppoBatchSize(options)));
}

/** Rollouts of a step. */
export function ppoBatchSize(options: PpoOptions): number {
  return options.perDeviceTrainBatchSize * options.gradientAccumulationSteps;
}

/** Trains `policy` and `value` in place and yields one event per step. Metric names are TRL's. */
export async function* ppo<P extends PromptExample>(
  run: StageRun,
  data: PpoInputs<P>,
  options: PpoOptions,
): AsyncGenerator<StepEvent> {
  const { workspace, prompts } = data;
  const { gpu } = workspace;
  const batchSize = ppoBatchSize(options);
  if (batchSize % options.numMiniBatches) {
    throw new Error(
      `A batch of ${batchSize} rollouts cannot be split into ${options.numMiniBatches} mini-batches. Expected num_mini_batches to divide per_device_train_batch_size × gradient_accumulation_steps.`,
    );
  }

  // 1. Models
  const policy = openLearner(gpu, data.policy), value = openLearner(gpu, data.value);
  const average = options.emaDecay === undefined
    ? undefined
    : openAverage(gpu, policy.model, options.emaDecay);
  const generator = openGenerator(workspace, policy.model);
  const rewardModel = typeof data.reward === "function" ? undefined : data.reward;
  const scorer = rolloutScorer(workspace, {
    policy: policy.model,
    reference: data.reference,
    reward: rewardModel,
    value: value.model,
  }, {
    batchSize: options.localRolloutForwardBatchSize,
    scoreScale: data.scoreScale,
    valueScale: data.valueScale,
  });
  const update = ppoUpdater(workspace, policy, value, {
    microBatch: Math.min(options.perDeviceTrainBatchSize, batchSize / options.numMiniBatches),
    valueScale: data.valueScale,
    checkpointing: options.gradientCheckpointing,
    lossAggregation: options.lossAggregation,
    whitenScope: options.whitenScope,
    whitenUnbiased: options.whitenUnbiased,
  });

  // 2. Where we are
  const total = ppoSteps(options, prompts.length);
  const guard = openGuard(run);
  const state = {
    step: 0,
    cursor: FIRST_ROW as DataCursor,
    episode: 0,
    klCoef: options.adapKlCtrl ? options.initKlCoef : options.klCoef,
    scoreMoments: NOTHING_SEEN as RunningMoments,
    optimizerSteps: { policy: 0, value: 0 },
    guard: guard.state,
  };
  const restore = (saved: SavedCheckpoint) => {
    Object.assign(state, saved.state);
    guard.state = state.guard;
    const { files } = saved;
    policy.restore(files, state.optimizerSteps.policy);
    value.restore(files, state.optimizerSteps.value, "value_");
    average?.restore(files);
  };
  const saved = run.newest();
  if (saved) restore(saved);
  const checkpoint = async () => {
    state.optimizerSteps = { policy: policy.steps, value: value.steps };
    state.guard = guard.state;
    const files = { ...await policy.files(), ...await value.files("value_"), ...await average?.files() };
    run.checkpoint(state.step, files, state);
  };
  if (state.step === 0 && data.evaluate) {
    const metrics = await data.evaluate(0, policy.model);
    run.log(0, metrics);
    yield { stage: run.name, step: 0, total, metrics };
  }

  while (state.step < total) {
    const { stop, rollBack, settings, fresh } = await steer(run, "ppo", state.step, options, checkpoint);
    if (stop) break;
    if (rollBack) {
      restore(rollBack);
      continue;
    }
    if (!settings.adapKlCtrl || fresh.includes("kl_coef")) state.klCoef = settings.klCoef;

    // 3. Sample completions of a batch of prompts
    const { batch, next } = takeWholeBatch(state.cursor, prompts, {
      seed: options.seed,
      batchSize,
      shuffle: options.shuffleDataset,
    });
    state.cursor = next;
    const completions = await generator.generate(
      batch.map((prompt, i) => ({ ids: prompt.ids, samples: [i] })),
      {
        temperature: settings.temperature,
        topK: 0,
        topP: 1,
        stopIds: data.stopIds,
        maxNewTokens: options.responseLength,
        seed: options.seed,
        stream: state.step + 1,
      },
    );

    // 4. Score them with policy, reference, reward model and critic
    const sampled = completions.map(({ ids, finishReason }) => ({ ids, ended: finishReason === "stop" }));
    let rollouts = await scorer(
      sampled.map(({ ids, ended }, i) => ({ prompt: batch[i].ids, completion: ids, ended })),
      settings.temperature,
    );
    const given = typeof data.reward === "function"
      ? await data.reward(batch, sampled, state.step + 1)
      : undefined;
    if (given) rollouts = rollouts.map((rollout, i) => ({ ...rollout, score: given.scores[i] }));
    let { scoreMoments } = state;
    if (options.useScoreScaling) {
      const scores = rollouts.map((rollout) => rollout.score);
      scoreMoments = updateMoments(scoreMoments, scores);
      const scaled = scaleScores(scores, scoreMoments, options.useScoreNorm);
      rollouts = rollouts.map((rollout, i) => ({ ...rollout, score: scaled[i] }));
    }
    const klCoef = state.klCoef;
    const advantages = advantagesOf(rollouts, { ...settings, klCoef });

    // 5. Learn
    const schedule = (learningRate: number) =>
      learningRateAt(state.step, total, { ...settings, learningRate });
    const learningRate = schedule(settings.learningRate);
    const epochs = Array.from(
      { length: options.numPpoEpochs },
      (_, epoch) => miniBatches(options.seed, state.step, epoch, batchSize, options.numMiniBatches),
    );
    const result = await update(rollouts, advantages, epochs, {
      ...settings,
      learningRate,
      onlyCritic: state.step < options.criticWarmup,
      valueLearningRate: schedule(settings.valueLearningRate ?? settings.learningRate),
    }, (passes) => guard.examine(state.step + 1, passes, [policy, value]));
    state.step++;
    state.episode += batchSize;
    guard.count(state.step, result.skipped);
    if (!result.skipped) average?.update();

    // 6. Report
    const metrics: Record<string, number> = {
      ...rolloutMetrics(rollouts, advantages, klCoef),
      ...result.metrics,
      ...given?.metrics,
      "sampling/logp_difference": samplingDifference(completions, rollouts),
      lr: learningRate,
      episode: state.episode,
      skipped_steps: guard.state.skipped,
    };
    // A step that was skipped may have had scores or a KL that are not numbers, which must not stay.
    if (!result.skipped) state.scoreMoments = scoreMoments;
    if (options.adapKlCtrl && !result.skipped) {
      const controller: KlController = { klCoef, target: settings.target, horizon: settings.horizon };
      state.klCoef = updateKlCoef(controller, metrics["objective/kl"], batchSize);
    }
    if (data.evaluate && isDue(state.step, settings.evalSteps, total)) {
      Object.assign(metrics, await data.evaluate(state.step, policy.model));
    }
    run.log(state.step, metrics);
    run.samples(
      state.step,
      rollouts.slice(0, KEPT_SAMPLES).map((rollout, i) => ({
        prompt: batch[i].text,
        completion: data.decode(rollout.completion),
        tokens: rollout.completion.length,
        rewards: { score: advantages[i].score, kl: advantages[i].kl.reduce((a, b) => a + b, 0) },
      })),
    );
    await breathe();
    const interrupted = run.interrupted();
    if (interrupted || guard.saveDue(state.step, settings.saveSteps, total)) await checkpoint();
    yield { stage: run.name, step: state.step, total, metrics };
    if (interrupted) break;
  }
  if (average && state.step === total) await data.keepAverage?.(average.model);
  average?.close();
  policy.close();
  value.close();
}

/** A permutation of the batch, cut into mini-batches. */
function miniBatches(seed: number, step: number, epoch: number, size: number, count: number): number[][] {
  const order = Array.from(randomStream(seed, "mini-batches", step, epoch).shuffle(size));
  const each = size / count;
  return Array.from({ length: count }, (_, m) => order.slice(m * each, (m + 1) * each));
}

/** Largest difference between a token's log-probability when it was drawn and when it was scored. */
function samplingDifference(drawn: { logprobs: number[] }[], rollouts: { logprobs: Float64Array }[]): number {
  let largest = 0;
  drawn.forEach(({ logprobs }, i) =>
    logprobs.forEach((logprob, t) => {
      largest = Math.max(largest, Math.abs(logprob - rollouts[i].logprobs[t]));
    })
  );
  return largest;
}
