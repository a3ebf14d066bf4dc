/**
 * Odds-ratio preference optimisation (arXiv 2403.07691): a policy learns from pairs of answers without a reference.
 *
 * @module
 */
import { type DataCursor, FIRST_ROW, type Rows, rowsBetween } from "../data/batches.ts";
import type { PreferenceExample } from "../data/preference.ts";
import type { Model } from "../model/decoder.ts";
import { orpoLoss, type OrpoPair } from "../rl/orpo_loss.ts";
import type { SavedCheckpoint } from "../run/checkpoint.ts";
import type { StageRun } from "../run/run.ts";
import type { Workspace } from "../tape/plan.ts";
import { breathe, type StepEvent } from "./events.ts";
import { openGuard, type Pass } from "./guard.ts";
import { openLearner } from "./learner.ts";
import { sequenceOf } from "./load_preferences.ts";
import type { OrpoOptions } from "./options/orpo.ts";
import { openPasses, type Sequence, sequenceScorer, type TokenScores } from "./policy_pass.ts";
import { answerStatistics } from "./answer_statistics.ts";
import { meanMetrics, partOf, takeMicroBatches } from "./micro_batches.ts";
import { epochAt, isDue, learningRateAt, totalSteps } from "./schedule.ts";
import { steer } from "./steering.ts";

/** What {@linkcode orpo} trains and on what. */
export interface OrpoInputs {
  /** Where to train. */
  workspace: Workspace;
  /** Trained in place. */
  model: Model;
  /** Pairs. */
  examples: Rows<PreferenceExample>;
  /** Held-out pairs. */
  evalExamples?: Rows<PreferenceExample>;
}

/**
 * Trains `model` in place and yields one event per optimiser step.
 *
 * Metrics: those of DPO, where rewards are β times the log-probability per token, and nll_loss, log_odds_ratio,
 * log_odds_chosen.
 */
export async function* orpo(
  run: StageRun,
  data: OrpoInputs,
  options: OrpoOptions,
): AsyncGenerator<StepEvent> {
  const { workspace, examples, evalExamples } = data;

  // 1. Policy
  const learner = openLearner(workspace.gpu, data.model);
  const passes = openPasses(workspace, learner.model, {
    checkpointing: options.gradientCheckpointing,
    withStatistics: true,
  });
  const evaluate = sequenceScorer(workspace, learner.model, { batchSize: Infinity, withStatistics: true });

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

  while (state.step < total) {
    const { stop, rollBack, settings } = await steer(run, "orpo", state.step, options, checkpoint);
    if (stop) break;
    if (rollBack) {
      restore(rollBack);
      continue;
    }

    // 3. Learn from the pairs of each micro-batch
    const { microBatches, next } = takeMicroBatches(state.cursor, examples.length, options);
    state.cursor = next;
    const micros: Record<string, number>[] = [], learnt: Pass[] = [];
    for (const rows of microBatches) {
      const pairs = rows.map((row) => examples.at(row)!);
      const { result, pass } = await passes.learn(sequencesOf(pairs), (scores) => {
        const loss = orpoLoss(scoredPairs(scores, pairs), settings);
        const metrics = metricsOf(loss.loss, loss.metrics, scores, pairs);
        return partOf({ ...loss, metrics }, microBatches.length);
      });
      learnt.push(pass);
      micros.push(result.metrics);
      state.numTokens += pairs.reduce(
        (sum, pair) => sum + pair.chosen.ids.length + pair.rejected.ids.length,
        0,
      );
    }
    const learningRate = learningRateAt(state.step, total, settings);
    const means = meanMetrics(micros);
    const { gradNorm, skipped } = await learner.step({ ...settings, learningRate }, means.loss);
    state.step++;
    if (skipped) await guard.examine(state.step, learnt, [learner]);
    guard.count(state.step, skipped);

    // 4. Report
    const metrics: Record<string, number> = {
      ...means,
      grad_norm: gradNorm,
      learning_rate: learningRate,
      num_tokens: state.numTokens,
      epoch: epochAt(state.cursor, examples.length, options),
      skipped_steps: guard.state.skipped,
    };
    if (evalExamples?.length && isDue(state.step, settings.evalSteps, total)) {
      const parts: Record<string, number>[] = [], sizes: number[] = [];
      for (let at = 0; at < evalExamples.length; at += options.perDeviceEvalBatchSize) {
        const pairs = rowsBetween(evalExamples, at, at + options.perDeviceEvalBatchSize);
        const scores = await evaluate(sequencesOf(pairs));
        const loss = orpoLoss(scoredPairs(scores, pairs), settings);
        parts.push(metricsOf(loss.loss, loss.metrics, scores, pairs));
        sizes.push(pairs.length);
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

/** Prompts with their chosen answers, of which all tokens but the first are learnt, then all rejected answers. */
function sequencesOf(pairs: PreferenceExample[]): Sequence[] {
  return [
    ...pairs.map(({ chosen }) => sequenceOf({ ...chosen, promptLength: 1 })),
    ...pairs.map(({ rejected }) => sequenceOf(rejected)),
  ];
}

/** Tokens of a pair's prompt that are learnt. */
function promptTokens({ chosen }: PreferenceExample): number {
  return Math.max(1, chosen.promptLength) - 1;
}

function scoredPairs({ logprobs }: TokenScores, pairs: PreferenceExample[]): OrpoPair[] {
  return pairs.map((pair, i) => ({
    chosen: logprobs[i],
    promptTokens: promptTokens(pair),
    rejected: logprobs[pairs.length + i],
  }));
}

/** Statistics are of the answers' tokens alone. */
function metricsOf(
  loss: number,
  metrics: Record<string, number>,
  { logprobs, entropies, statistics }: TokenScores,
  pairs: PreferenceExample[],
) {
  const answers = (all: Float64Array[]) =>
    all.map((row, i) => i < pairs.length ? row.subarray(promptTokens(pairs[i])) : row);
  const { correct, meanLogit, logSumSquares } = statistics!;
  const scores = {
    logprobs,
    entropies: answers(entropies),
    statistics: { correct: answers(correct), meanLogit: answers(meanLogit), logSumSquares },
  };
  return { loss, ...metrics, ...answerStatistics(scores, logprobs.map((_, i) => i < pairs.length)) };
}
