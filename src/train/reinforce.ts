/**
 * REINFORCE++ (arXiv 2501.03262): the return of each token, normalised over all tokens of a batch, is its advantage; no critic and,
 * unless a baseline is asked for, no groups.
 *
 * A step is one optimiser step, as in GRPO; completions last for as many steps as the options say.
 *
 * @module
 */
import { type DataCursor, FIRST_ROW } from "../data/batches.ts";
import { centreGroups, clipRewards, flatGroups } from "../rl/group_advantages.ts";
import { GRPO_DEFAULTS, grpoLoss } from "../rl/grpo_loss.ts";
import { normaliseTokens, returnsToGo, tokenRewards } from "../rl/token_advantages.ts";
import type { PerToken } from "../rl/token_loss.ts";
import type { SavedCheckpoint } from "../run/checkpoint.ts";
import type { StageRun } from "../run/run.ts";
import { breathe, type StepEvent } from "./events.ts";
import { generationPlan, onlineSteps, stepsOfEpoch } from "./generation.ts";
import {
  countedSamples,
  learnPart,
  type LearntPart,
  meanKl,
  scoreLater,
  stepMetrics,
} from "./group_learning.ts";
import {
  drawnKl,
  type Generation,
  groupSampler,
  NOTHING_SAMPLED,
  type OnlineInputs,
  referenceScorer,
  shuffled,
  storedSamples,
} from "./group_rollout.ts";
import { openGuard } from "./guard.ts";
import { openLearner } from "./learner.ts";
import { movingReference } from "./moving_reference.ts";
import type { ReinforceOptions } from "./options/reinforce.ts";
import { openPasses } from "./policy_pass.ts";
import { isDue, learningRateAt } from "./schedule.ts";
import { steer } from "./steering.ts";

/** Trains `policy` in place and yields one event per optimiser step. Metric names are TRL's. */
export async function* reinforce(
  run: StageRun,
  data: OnlineInputs,
  options: ReinforceOptions,
): AsyncGenerator<StepEvent> {
  const { workspace, prompts } = data;
  const { gpu } = workspace;
  const plan = generationPlan(options);
  const names = data.rewards.map(({ name }) => name);
  checkReinforce(options);

  // 1. Models
  const policy = openLearner(gpu, data.policy);
  const reference = options.beta === 0 ? undefined : data.reference;
  const exact = options.klEstimator === "exact", inLoss = options.klPlacement === "loss";
  const passes = openPasses(workspace, policy.model, {
    checkpointing: options.gradientCheckpointing,
    ...(exact && inLoss && { exactKlTo: reference }),
  });
  const ask = reference && !(exact && inLoss)
    ? referenceScorer(workspace, reference, {
      batchSize: options.localRolloutForwardBatchSize,
      ...(exact && { policy: policy.model }),
    })
    : undefined;
  const sample = groupSampler(policy.model, data, plan, options, ask);
  const moving = options.syncRefModel ? movingReference(gpu, reference, policy.model) : undefined;

  // 2. Where we are
  const total = onlineSteps(options, prompts.length);
  const guard = openGuard(run);
  const state = {
    step: 0,
    cursor: FIRST_ROW as DataCursor,
    rounds: 0,
    generation: NOTHING_SAMPLED as Generation,
    numTokens: 0,
    optimizerSteps: 0,
    guard: guard.state,
  };
  const restore = (saved: SavedCheckpoint) => {
    Object.assign(state, saved.state);
    guard.state = state.guard;
    const { files } = saved;
    policy.restore(files, state.optimizerSteps);
    moving?.restore(files);
  };
  const saved = run.newest();
  if (saved) restore(saved);
  const checkpoint = async () => {
    Object.assign(state, { optimizerSteps: policy.steps, guard: guard.state });
    run.checkpoint(state.step, { ...await policy.files(), ...await moving?.files() }, state);
  };
  if (state.step === 0 && data.evaluate) {
    const metrics = await data.evaluate(0, policy.model);
    run.log(0, metrics);
    yield { stage: run.name, step: 0, total, metrics };
  }

  while (state.step < total) {
    const { stop, rollBack, settings } = await steer(run, "reinforce", state.step, options, checkpoint);
    if (stop) break;
    if (rollBack) {
      restore(rollBack);
      continue;
    }
    const metrics: Record<string, number> = {}, parts: LearntPart[] = [];
    for (let pass = 0; pass < options.gradientAccumulationSteps; pass++) {
      const micro = state.step * options.gradientAccumulationSteps + pass;
      if (micro % plan.every === 0 || state.generation.samples.length === 0) {
        // 3. Sample groups of completions and have them scored
        const rollout = await sample({ ...state, step: state.step + 1 }, settings);
        const { cursor, rounds, numTokens } = rollout;

        // 4. Returns of their tokens
        const counted = countedSamples(rollout.samples, options);
        const kl = reference && !inLoss ? drawnKl(rollout.samples, options.klEstimator) : undefined;
        const lengths = rollout.samples.map(({ completion }) => completion.length);
        const advantages = reinforceAdvantages(rollout.sums, { kl, lengths, counted }, settings);
        rollout.samples.forEach((sample, i) => sample.advantages = Array.from(advantages[i]));
        const samples = shuffled(rollout.samples, options.seed, rounds);
        const generation = { samples, temperature: settings.temperature };
        Object.assign(state, { cursor, rounds, numTokens, generation });
        await scoreLater(passes, generation, micro, plan, options);
        Object.assign(metrics, rollout.metrics);
        if (options.advantageEstimator === "reinforce_baseline") {
          const flat = flatGroups(rollout.sums, options.numGenerations);
          metrics.frac_reward_zero_std = flat.filter(Boolean).length / flat.length;
        }
        if (kl) metrics.kl = meanKl(kl, counted);
        run.samples(state.step + 1, storedSamples(rollout, names, data.decode));
      }

      // 5. Learn
      parts.push(
        await learnPart(
          passes,
          state.generation,
          micro,
          plan,
          options,
          (inputs, scale) =>
            grpoLoss(inputs, {
              ...GRPO_DEFAULTS,
              ...settings,
              beta: inLoss ? settings.beta : 0,
              useBiasCorrectionKl: false,
            }, scale),
        ),
      );
    }
    Object.assign(metrics, stepMetrics(parts));
    const learningRate = learningRateAt(state.step, total, settings);
    const { gradNorm, skipped } = await policy.step({ ...settings, learningRate }, metrics.loss);
    state.step++;
    if (skipped) await guard.examine(state.step, parts.map(({ pass }) => pass), [policy]);
    guard.count(state.step, skipped);
    // What a step that was skipped has left, or what nothing is left to learn from, must not stay.
    if (skipped || state.step * options.gradientAccumulationSteps % plan.every === 0) {
      state.generation = NOTHING_SAMPLED;
    }
    if (state.step % options.refModelSyncSteps === 0) {
      moving?.move(options.refModelMixupAlpha);
    }

    // 6. Report
    Object.assign(metrics, {
      grad_norm: gradNorm,
      learning_rate: learningRate,
      epoch: state.step / stepsOfEpoch(prompts.length, options),
      skipped_steps: guard.state.skipped,
    });
    if (data.evaluate && isDue(state.step, settings.evalSteps, total)) {
      Object.assign(metrics, await data.evaluate(state.step, policy.model));
    }
    run.log(state.step, metrics);
    await breathe();
    const interrupted = run.interrupted();
    if (interrupted || guard.saveDue(state.step, settings.saveSteps, total)) await checkpoint();
    yield { stage: run.name, step: state.step, total, metrics };
    if (interrupted) break;
  }
  policy.close();
}

/** Throws where options of {@linkcode reinforce} do not go together. */
export function checkReinforce(
  { advantageEstimator, numGenerations, dynamicSampling }: ReinforceOptions,
): void {
  if (numGenerations > 1) return;
  const what = advantageEstimator === "reinforce_baseline"
    ? "advantage_estimator reinforce_baseline"
    : dynamicSampling
    ? "dynamic_sampling"
    : undefined;
  if (!what) return;
  throw new Error(
    `${what} compares completions of one prompt, of which there is one. Give --num_generations.`,
  );
}

/**
 * Advantages per token from the rewards of completions (NaN: unknown, nothing is learnt) and the KL per token where it is part of
 * the reward.
 */
export function reinforceAdvantages(
  sums: Float64Array,
  { kl, lengths, counted }: { kl?: PerToken; lengths: number[]; counted: boolean[] },
  options: Pick<
    ReinforceOptions,
    | "advantageEstimator"
    | "beta"
    | "gamma"
    | "normalizeAdvantages"
    | "whitenUnbiased"
    | "rewardClipRange"
    | "numGenerations"
  >,
): PerToken {
  const compared = options.advantageEstimator === "reinforce_baseline"
    ? centreGroups(sums, options.numGenerations)
    : sums;
  const scores = clipRewards(compared, options.rewardClipRange);
  const penalties = kl ?? lengths.map((length) => new Float64Array(length));
  const returns = returnsToGo(tokenRewards(scores, penalties, options.beta), options.gamma);
  if (!options.normalizeAdvantages) return returns;
  const learnt = counted.map((one, i) => one && !Number.isNaN(sums[i]));
  return normaliseTokens(returns, learnt, options.whitenUnbiased);
}
