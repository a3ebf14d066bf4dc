/**
 * Group relative policy optimisation (GRPO, arXiv 2402.03300) and its kin: several completions of each prompt are sampled, and
 * each is judged by how its reward compares with the others', so that no critic is needed.
 *
 * A step is one optimiser step, as in TRL's loop; completions last for as many steps as the options say.
 *
 * @module
 */
import { type DataCursor, FIRST_ROW } from "../data/batches.ts";
import { appliedEntropyCoef, updateEntropyCoef } from "../rl/entropy_control.ts";
import { type FunctionRewards, groupAdvantages } from "../rl/group_advantages.ts";
import { grpoLoss, learntEntropy } from "../rl/grpo_loss.ts";
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
  type GroupRollout,
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
import type { GrpoOptions } from "./options/grpo.ts";
import { openPasses } from "./policy_pass.ts";
import { type KeptGroup, replaceFlatGroups } from "./replay_buffer.ts";
import { isDue, learningRateAt } from "./schedule.ts";
import { steer } from "./steering.ts";

/** Trains `policy` in place and yields one event per optimiser step. Metric names are TRL's. */
export async function* grpo(
  run: StageRun,
  data: OnlineInputs,
  options: GrpoOptions,
): AsyncGenerator<StepEvent> {
  const { workspace, prompts } = data;
  const { gpu } = workspace;
  checkGrpo(options);
  const plan = generationPlan(options);
  const names = data.rewards.map(({ name }) => name), weights = data.rewards.map(({ weight }) => weight);

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
    kept: [] as KeptGroup[],
    entropy: { entropyCoef: options.entropyCoef, lastEntropy: Infinity },
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
    const { stop, rollBack, settings, fresh } = await steer(run, "grpo", state.step, options, checkpoint);
    if (stop) break;
    if (rollBack) {
      restore(rollBack);
      continue;
    }
    if (fresh.includes("entropy_coef")) state.entropy.entropyCoef = settings.entropyCoef;
    const entropyCoef = options.useAdaptiveEntropy
      ? appliedEntropyCoef(state.entropy, settings)
      : settings.entropyCoef;
    const metrics: Record<string, number> = {}, parts: LearntPart[] = [], entropy = { sum: 0, count: 0 };
    for (let pass = 0; pass < options.gradientAccumulationSteps; pass++) {
      const micro = state.step * options.gradientAccumulationSteps + pass;
      if (micro % plan.every === 0 || state.generation.samples.length === 0) {
        // 3. Sample groups of completions and have them scored
        const rollout = await sample({ ...state, step: state.step + 1 }, settings);
        const { cursor, rounds, numTokens } = rollout;

        // 4. Compare them within their groups
        const kl = reference && !inLoss ? drawnKl(rollout.samples, options.klEstimator) : undefined;
        const penalised = withPenalty(rollout, weights, kl, settings.beta);
        const { advantages, zeroStd } = groupAdvantages(penalised.rewards, penalised.weights, options);
        rollout.samples.forEach((sample, i) => sample.advantages = [advantages[i]]);
        const replay = replaceFlatGroups(rollout, state.kept, options);
        const samples = shuffled(replay.samples, options.seed, rounds);
        const generation = { samples, temperature: settings.temperature };
        Object.assign(state, { cursor, rounds, numTokens, generation, kept: replay.kept });
        await scoreLater(passes, generation, micro, plan, options);
        Object.assign(metrics, rollout.metrics, { frac_reward_zero_std: zeroStd });
        if (kl) metrics.kl = meanKl(kl, countedSamples(rollout.samples, options));
        if (options.replayBufferSize > 0) metrics["replay_buffer/frac_replaced"] = replay.replaced;
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
          (inputs, scale) => {
            const { sum, count } = learntEntropy(inputs, settings.topEntropyQuantile);
            entropy.sum += sum;
            entropy.count += count;
            return grpoLoss(inputs, { ...settings, entropyCoef, beta: inLoss ? settings.beta : 0 }, scale);
          },
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
    if (options.useAdaptiveEntropy && !skipped) {
      const mean = entropy.sum / Math.max(1, entropy.count);
      state.entropy = updateEntropyCoef(state.entropy, mean, settings);
      metrics.entropy_coef = state.entropy.entropyCoef;
    }
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

/** The rewards with −β·KL of each completion as one more, but not of those that nobody could score. */
export function withPenalty(
  { rewards, sums }: Pick<GroupRollout, "rewards" | "sums">,
  weights: number[],
  kl: PerToken | undefined,
  beta: number,
): { rewards: FunctionRewards; weights: number[] } {
  if (!kl) return { rewards, weights };
  const penalties = kl.map((row, i) => Number.isNaN(sums[i]) ? null : -beta * row.reduce((a, b) => a + b, 0));
  return { rewards: [...rewards, penalties], weights: [...weights, 1] };
}

/** Throws where options of {@linkcode grpo} do not go together, and says what may surprise. */
export function checkGrpo(options: GrpoOptions, say: (line: string) => void = () => {}): void {
  const { lossType, importanceSamplingMode: mode, delta, epsilon, epsilonHigh = epsilon } = options;
  if (lossType === "gmpo" && mode !== "none") {
    throw new Error(
      "loss_type gmpo has no importance_sampling_mode. Leave it out, or use another loss_type.",
    );
  }
  if (options.klPlacement === "reward" && options.multiObjectiveAggregation === "normalize_then_sum") {
    throw new Error(
      "kl_placement reward takes the KL off the sum of the rewards, but normalize_then_sum normalises each for itself. Use kl_placement loss, or sum_then_normalize.",
    );
  }
  if (lossType === "cispo" && epsilonHigh < 1) {
    say(
      `With loss_type cispo epsilon_high is the largest ratio itself, not a distance from 1; ${epsilonHigh} makes every step ${epsilonHigh} times as large. Its paper has 5.`,
    );
  }
  if (delta !== undefined && delta <= 1 + epsilonHigh && lossType !== "cispo") {
    throw new Error(
      `delta = ${delta} bounds the ratio below the clipping at 1 + epsilon_high = ${
        1 + epsilonHigh
      }, which then has no effect. Expected a larger delta.`,
    );
  }
}
