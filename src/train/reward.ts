/**
 * Reward modelling: a Bradley–Terry loss on pairs, the score read at each side's last token.
 *
 * @module
 */
import { type DataCursor, FIRST_ROW, packBatch, type Rows, rowsBetween } from "../data/batches.ts";
import type { PairExample } from "../data/tokenize.ts";
import { batchInputs, decoder, type Model } from "../model/decoder.ts";
import { weightOf } from "../model/block.ts";
import { bradleyTerryLoss } from "../rl/losses.ts";
import type { SavedCheckpoint } from "../run/checkpoint.ts";
import type { StageRun } from "../run/run.ts";
import { scalarHead } from "../tape/ops/linear.ts";
import { gather } from "../tape/ops/reduce.ts";
import { planCache } from "../tape/plans.ts";
import type { Inputs, Workspace } from "../tape/plan.ts";
import type { Tape } from "../tape/tape.ts";
import { breathe, type StepEvent } from "./events.ts";
import { openGuard, type Pass } from "./guard.ts";
import { openLearner } from "./learner.ts";
import { meanMetrics, takeMicroBatches } from "./micro_batches.ts";
import type { RewardOptions } from "./options/reward.ts";
import { epochAt, isDue, learningRateAt, totalSteps } from "./schedule.ts";
import { steer } from "./steering.ts";

/** What {@linkcode reward} trains and on what. `model` has a head of one output. */
export interface RewardInputs {
  /** Where to train. */
  workspace: Workspace;
  /** Trained in place; its head has one output. */
  model: Model;
  /** Pairs. */
  examples: Rows<PairExample>;
  /** Held-out pairs. */
  evalExamples?: Rows<PairExample>;
}

/**
 * Trains `model` in place and yields one event per optimiser step.
 *
 * The loss is −ln σ(chosen − rejected − margin), plus center_rewards_coefficient · (chosen + rejected)², averaged over the
 * pairs of a micro-batch and then over micro-batches. Metrics: loss, grad_norm, learning_rate, accuracy, margin, min_reward,
 * mean_reward, max_reward (each the mean over micro-batches), num_tokens, epoch.
 */
export async function* reward(
  run: StageRun,
  data: RewardInputs,
  options: RewardOptions,
): AsyncGenerator<StepEvent> {
  const { workspace, examples } = data;
  const { gpu } = workspace;

  // 1. Plans
  const learner = openLearner(gpu, data.model);
  const build = (frozen: boolean) =>
    planCache(
      workspace,
      (tape, tokens: number, pairs: number) =>
        recordReward(tape, learner.model, tokens, pairs, options, frozen),
    );
  const trainPlan = build(false), evalPlan = build(true);
  const center = new Float32Array([options.centerRewardsCoefficient ?? 0]);

  // 2. Where we are
  const total = totalSteps(examples.length, options);
  const guard = openGuard(run);
  const state = {
    step: 0,
    cursor: FIRST_ROW as DataCursor,
    numTokens: 0,
    optimizerSteps: 0,
    guard: guard.state,
  };
  const restore = (saved: SavedCheckpoint) => {
    Object.assign(state, saved.state);
    guard.state = state.guard;
    learner.restore(saved.files, state.optimizerSteps);
  };
  const saved = run.newest();
  if (saved) restore(saved);
  const checkpoint = async () => {
    Object.assign(state, { optimizerSteps: learner.steps, guard: guard.state });
    run.checkpoint(state.step, await learner.files(), state);
  };

  // 3. Steps
  while (state.step < total) {
    const { stop, rollBack, settings } = await steer(run, "reward", state.step, options, checkpoint);
    if (stop) break;
    if (rollBack) {
      restore(rollBack);
      continue;
    }
    const taken = takeMicroBatches(state.cursor, examples.length, options);
    const microBatches = taken.microBatches.map((rows) => rows.map((row) => examples.at(row)!));
    state.cursor = taken.next;
    const micros: Record<string, number>[] = [];
    const passes: Pass[] = [];
    for (const micro of microBatches) {
      const { tokens, inputs: pairs } = pairInputs(micro, 1 / (micro.length * microBatches.length));
      const inputs = { ...pairs, center, one: ONE };
      const plan = trainPlan(tokens, micro.length);
      const out = await plan.run(inputs);
      passes.push({ plan, inputs });
      micros.push({
        loss: out.loss[0] * microBatches.length,
        ...pairMetrics(micro, out.chosen, out.rejected),
      });
      state.numTokens += micro.reduce((n, pair) => n + pair.chosen.length + pair.rejected.length, 0);
    }
    const learningRate = learningRateAt(state.step, total, settings);
    const means = meanMetrics(micros);
    const { gradNorm, skipped } = await learner.step({ ...settings, learningRate }, means.loss);
    state.step++;
    if (skipped) await guard.examine(state.step, passes, [learner]);
    guard.count(state.step, skipped);

    const metrics: Record<string, number> = {
      ...means,
      grad_norm: gradNorm,
      learning_rate: learningRate,
      num_tokens: state.numTokens,
      epoch: epochAt(state.cursor, examples.length, options),
      skipped_steps: guard.state.skipped,
    };
    if (data.evalExamples?.length && isDue(state.step, settings.evalSteps, total)) {
      const parts: Record<string, number>[] = [], sizes: number[] = [];
      for (let at = 0; at < data.evalExamples.length; at += options.perDeviceEvalBatchSize) {
        const part = rowsBetween(data.evalExamples, at, at + options.perDeviceEvalBatchSize);
        const { tokens, inputs } = pairInputs(part, 1 / part.length);
        const out = await evalPlan(tokens, part.length).run({ ...inputs, center });
        parts.push({ loss: out.loss[0], ...pairMetrics(part, out.chosen, out.rejected) });
        sizes.push(part.length);
      }
      for (const [name, value] of Object.entries(meanMetrics(parts, sizes))) metrics[`eval_${name}`] = value;
    }
    run.log(state.step, metrics);
    await breathe();
    const interrupted = run.interrupted();
    if (interrupted || guard.saveDue(state.step, settings.saveSteps, total)) await checkpoint();
    yield { stage: run.name, step: state.step, total, metrics };
    if (interrupted) break;
  }
  learner.close();
}

const ONE = new Float32Array([1]);

/** Records the loss of `pairs` pairs of `tokens` tokens in all and, where it is not `frozen`, its gradient. */
export function recordReward(
  tape: Tape,
  model: Model,
  tokens: number,
  pairs: number,
  { gradientCheckpointing, centerRewardsCoefficient }: Pick<
    RewardOptions,
    "gradientCheckpointing" | "centerRewardsCoefficient"
  >,
  frozen = false,
): void {
  const checkpointing = gradientCheckpointing && !frozen;
  const hidden = decoder(tape, model, batchInputs(tape, tokens), { frozen, checkpointing });
  const scores = scalarHead(tape, hidden, weightOf(tape, model, "score", frozen)); // [tokens]
  const chosen = gather(tape, scores, tape.input("chosen", [pairs], "u32")); // [pairs]
  const rejected = gather(tape, scores, tape.input("rejected", [pairs], "u32"));
  const margin = tape.input("margin", [pairs]), weights = tape.input("pairWeights", [pairs]);
  const center = centerRewardsCoefficient ? tape.input("center", [1]) : undefined;
  const loss = bradleyTerryLoss(tape, { chosen, rejected, margin, weights }, center);
  for (const [name, tensor] of Object.entries({ loss, chosen, rejected })) tape.output(name, tensor);
  if (!frozen) tape.backward(loss, tape.input("one", [1]));
}

/** Both sides of all pairs as one packed batch, chosen first. */
function pairInputs(pairs: PairExample[], weight: number): { tokens: number; inputs: Inputs } {
  const packed = packBatch([...pairs.map((pair) => pair.chosen), ...pairs.map((pair) => pair.rejected)]);
  const lastToken = (side: number) =>
    Uint32Array.from(pairs, (_, i) => {
      const document = side * pairs.length + i;
      return packed.first[document] + packed.lengths[document] - 1;
    });
  const { ids, positions, starts, ends, order, positionOrder } = packed;
  return {
    tokens: packed.tokens,
    inputs: {
      ids,
      positions,
      starts,
      ends,
      order,
      positionOrder,
      chosen: lastToken(0),
      rejected: lastToken(1),
      margin: Float32Array.from(pairs, (pair) => pair.margin ?? 0),
      pairWeights: new Float32Array(pairs.length).fill(weight),
    },
  };
}

function pairMetrics(
  pairs: PairExample[],
  chosen: Float32Array,
  rejected: Float32Array,
): Record<string, number> {
  const all: number[] = [];
  let right = 0, margin = 0;
  for (let i = 0; i < pairs.length; i++) {
    all.push(chosen[i], rejected[i]);
    if (chosen[i] > rejected[i]) right++;
    margin += chosen[i] - rejected[i];
  }
  return {
    accuracy: right / pairs.length,
    margin: margin / pairs.length,
    min_reward: Math.min(...all),
    mean_reward: all.reduce((a, b) => a + b) / all.length,
    max_reward: Math.max(...all),
  };
}
