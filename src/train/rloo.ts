/**
 * REINFORCE leave-one-out (RLOO, arXiv 2402.14740): the baseline of a completion is the mean reward of the others of its prompt.
 *
 * A step is one optimiser step, as in TRL's loop; completions last for as many steps as the options say.
 *
 * @module
 */
import { type DataCursor, FIRST_ROW } from "../data/batches.ts";
import { clipRewards, leaveOneOutAdvantages } from "../rl/group_advantages.ts";
import { GRPO_DEFAULTS, type GrpoInputs, grpoLoss, type LossScale } from "../rl/grpo_loss.ts";
import { rlooLoss } from "../rl/rloo_loss.ts";
import { returnsToGo, tokenRewards } from "../rl/token_advantages.ts";
import type { PerToken, TokenLoss } from "../rl/token_loss.ts";
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
import type { RlooOptions } from "./options/rloo.ts";
import { openPasses } from "./policy_pass.ts";
import { isDue, learningRateAt } from "./schedule.ts";
import { steer } from "./steering.ts";

/** Trains `policy` in place and yields one event per optimiser step. Metric names are TRL's. */
export async function* rloo(
  run: StageRun,
  data: OnlineInputs,
  options: RlooOptions,
): AsyncGenerator<StepEvent> {
  const { workspace, prompts } = data;
  const { gpu } = workspace;
  const plan = generationPlan(options);
  const names = data.rewards.map(({ name }) => name);
  checkRloo(options);

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
    const { stop, rollBack, settings } = await steer(run, "rloo", state.step, options, checkpoint);
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

        // 4. Compare each with the others of its group
        const counted = countedSamples(rollout.samples, options);
        const kl = reference && !inLoss
          ? drawnKl(rollout.samples, options.klEstimator).map((row, i) => counted[i] ? row : row.fill(0))
          : undefined;
        const { advantages, zeroStd } = rlooAdvantages(rollout.sums, kl, settings);
        rollout.samples.forEach((sample, i) => sample.advantages = Array.from(advantages[i]));
        const samples = shuffled(rollout.samples, options.seed, rounds);
        const generation = { samples, temperature: settings.temperature };
        Object.assign(state, { cursor, rounds, numTokens, generation });
        await scoreLater(passes, generation, micro, plan, options);
        Object.assign(metrics, rollout.metrics, { frac_reward_zero_std: zeroStd });
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
          (inputs, scale) => lossOf(inputs, scale, settings),
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

/** Throws where options of {@linkcode rloo} do not go together. */
export function checkRloo({ klPlacement, lossLevel, importanceSamplingMode }: RlooOptions): void {
  if (lossLevel === "token") return;
  if (klPlacement !== "reward") {
    throw new Error(
      `kl_placement ${klPlacement} is per token. Give --loss_level token, or kl_placement reward.`,
    );
  }
  if (importanceSamplingMode !== "none") {
    throw new Error(
      "The loss of whole completions has no importance_sampling_mode. Give --loss_level token, or leave it out.",
    );
  }
}

/**
 * Advantages, one per completion or one per token; `kl` is there where it is part of the reward.
 *
 * The KL of the whole completion is taken off its clipped reward before the baseline (TRL), or that of the tokens to come off the
 * clipped difference to the baseline (OpenRLHF).
 */
export function rlooAdvantages(
  sums: Float64Array,
  kl: PerToken | undefined,
  options: Pick<
    RlooOptions,
    "beta" | "klPlacement" | "rewardClipRange" | "numGenerations" | "normalizeAdvantages"
  >,
): { advantages: PerToken; zeroStd: number } {
  const { beta, rewardClipRange: range } = options;
  if (kl && options.klPlacement === "reward_to_go") {
    const { advantages, zeroStd } = leaveOneOutAdvantages(sums, options);
    const clipped = clipRewards(advantages, range).map((a, i) => Number.isNaN(sums[i]) ? NaN : a);
    return { advantages: returnsToGo(tokenRewards(clipped, kl, beta), 1), zeroStd };
  }
  const penalty = (i: number) => kl ? beta * kl[i].reduce((a, b) => a + b, 0) : 0;
  const rewards = clipRewards(sums, range).map((reward, i) => reward - penalty(i));
  const { advantages, zeroStd } = leaveOneOutAdvantages(rewards, options);
  return { advantages: Array.from(advantages, (a) => Float64Array.of(a)), zeroStd };
}

/** The clipped loss of whole completions, or of tokens with the KL where it belongs into the loss. */
function lossOf(inputs: GrpoInputs, scale: LossScale, settings: RlooOptions): TokenLoss {
  const { epsilon, epsilonHigh, lossLevel, klPlacement, klEstimator } = settings;
  if (lossLevel === "sequence") {
    const advantages = inputs.advantages.map(([a]) => a);
    return rlooLoss({ ...inputs, advantages }, { epsilon, epsilonHigh, passes: scale.passes });
  }
  const beta = klPlacement === "loss" ? settings.beta : 0;
  const options = { ...GRPO_DEFAULTS, epsilon, epsilonHigh, beta, klEstimator, useBiasCorrectionKl: false };
  return grpoLoss(inputs, options, scale);
}
