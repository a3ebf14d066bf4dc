/**
 * Direct preference optimisation (arXiv 2305.18290) and its kin: a policy learns from pairs of answers, held near a reference.
 *
 * @module
 */
import { type DataCursor, FIRST_ROW, type Rows } from "../data/batches.ts";
import type { PreferenceExample } from "../data/preference.ts";
import type { Model } from "../model/decoder.ts";
import { answerLogprobs, dpoLoss, dpoProblem, type PreferencePair } from "../rl/dpo_loss.ts";
import type { Both } from "../rl/pair_metrics.ts";
import type { SavedCheckpoint } from "../run/checkpoint.ts";
import type { StageRun } from "../run/run.ts";
import type { Workspace } from "../tape/plan.ts";
import { breathe, type StepEvent } from "./events.ts";
import { openGuard, type Pass } from "./guard.ts";
import { openLearner } from "./learner.ts";
import { sequenceOf } from "./load_preferences.ts";
import type { DpoOptions } from "./options/dpo.ts";
import { movingReference } from "./moving_reference.ts";
import { openPasses, sequenceScorer, type TokenScores } from "./policy_pass.ts";
import { answerStatistics } from "./answer_statistics.ts";
import { meanMetrics, partOf, takeMicroBatches } from "./micro_batches.ts";
import { precomputeRows, type RowNumbers } from "./precompute.ts";
import { checkMoving } from "./reference.ts";
import { epochAt, isDue, learningRateAt, totalSteps } from "./schedule.ts";
import { steer } from "./steering.ts";

/** What {@linkcode dpo} trains and on what. */
export interface DpoInputs {
  /** Where to train. */
  workspace: Workspace;
  /** Trained in place. */
  model: Model;
  /**
   * Frozen. It may be left out where its log-probabilities are computed before the first step: it is then the model as it
   * begins. Where it is moved towards the policy it is float32, in memory of its own.
   */
  reference?: Model;
  /** Pairs. */
  examples: Rows<PreferenceExample>;
  /** Held-out pairs. */
  evalExamples?: Rows<PreferenceExample>;
  /** Is told how far the reference's log-probabilities are. */
  say?: (line: string) => void;
}

/**
 * Trains `model` in place and yields one event per optimiser step.
 *
 * Metrics: loss, grad_norm, learning_rate, rewards/chosen, rewards/rejected, rewards/accuracies, rewards/margins,
 * logps/chosen, logps/rejected, logits/chosen, logits/rejected, entropy, mean_token_accuracy (each the mean over
 * micro-batches), num_tokens, epoch; of held-out pairs with eval_ before their names.
 */
export async function* dpo(run: StageRun, data: DpoInputs, options: DpoOptions): AsyncGenerator<StepEvent> {
  const { workspace, examples, evalExamples } = data;
  const { gpu } = workspace;
  checkDpo(data.model, options);

  // 1. Policy and reference
  const learner = openLearner(gpu, data.model);
  const passes = openPasses(workspace, learner.model, {
    checkpointing: options.gradientCheckpointing,
    withStatistics: true,
  });
  const evaluate = sequenceScorer(workspace, learner.model, {
    batchSize: 2 * options.perDeviceEvalBatchSize,
    withStatistics: true,
  });
  const reference = data.reference ?? (options.precomputeRefLogProbs ? learner.model : undefined);
  if (!reference) throw new Error("DPO needs a reference, and got none.");
  const moving = options.syncRefModel ? movingReference(gpu, reference, learner.model) : undefined;
  const scoreReference = sequenceScorer(workspace, reference, { batchSize: Infinity });
  const referenceOf = async (pairs: PreferenceExample[]): Promise<Both[]> => {
    const { logprobs } = await scoreReference(sequencesOf(pairs));
    return pairs.map((_, i) => answerLogprobs(logprobs[i], logprobs[pairs.length + i], options.ldAlpha));
  };
  const known = { train: undefined as RowNumbers | undefined, eval: undefined as RowNumbers | undefined };
  if (options.precomputeRefLogProbs) {
    const { precomputeRefBatchSize: size, perDeviceTrainBatchSize, perDeviceEvalBatchSize } = options;
    for (
      const [set, rows, usual] of [
        ["train", examples, perDeviceTrainBatchSize],
        ["eval", evalExamples, perDeviceEvalBatchSize],
      ] as const
    ) {
      if (!rows?.length) continue;
      known[set] = await precomputeRows(run, rows.length, size ?? usual, async (numbers) => {
        const refs = await referenceOf(numbers.map((row) => rows.at(row)!));
        return refs.map(({ chosen, rejected }) => [chosen, rejected] as const);
      }, data.say ?? (() => {}));
      if (!known[set]) return learner.close();
    }
  }
  /** The reference's log-probabilities of pairs, known or computed. */
  const refsOf = async (set: keyof typeof known, rows: number[], pairs: PreferenceExample[]) => {
    const numbers = known[set];
    if (!numbers) return await referenceOf(pairs);
    return rows.map((row) => ({ chosen: numbers(row)[0], rejected: numbers(row)[1] }));
  };

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
    moving?.restore(saved.files);
  };
  const saved = run.newest();
  if (saved) restore(saved);
  const checkpoint = async () => {
    Object.assign(state, { optimizerSteps: learner.steps, guard: guard.state });
    run.checkpoint(state.step, { ...await learner.files(), ...await moving?.files() }, state);
  };

  while (state.step < total) {
    const { stop, rollBack, settings } = await steer(run, "dpo", state.step, options, checkpoint);
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
      const refs = await refsOf("train", rows, pairs);
      const { result, pass } = await passes.learn(sequencesOf(pairs), (scores) => {
        const loss = dpoLoss(scoredPairs(scores, refs), settings);
        return partOf({ ...loss, metrics: metricsOf(loss.loss, loss.metrics, scores) }, microBatches.length);
      });
      learnt.push(pass);
      micros.push(result.metrics);
      state.numTokens += tokensOf(pairs);
    }
    const learningRate = learningRateAt(state.step, total, settings);
    const means = meanMetrics(micros);
    const { gradNorm, skipped } = await learner.step({ ...settings, learningRate }, means.loss);
    state.step++;
    if (skipped) await guard.examine(state.step, learnt, [learner]);
    guard.count(state.step, skipped);
    if (state.step % options.refModelSyncSteps === 0) {
      moving?.move(options.refModelMixupAlpha);
    }

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
        const size = Math.min(options.perDeviceEvalBatchSize, evalExamples.length - at);
        const rows = Array.from({ length: size }, (_, i) => at + i);
        const pairs = rows.map((row) => evalExamples.at(row)!);
        const scores = await evaluate(sequencesOf(pairs));
        const loss = dpoLoss(scoredPairs(scores, await refsOf("eval", rows, pairs)), settings);
        parts.push(metricsOf(loss.loss, loss.metrics, scores));
        sizes.push(size);
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

/** Throws where options exclude each other, before anything is computed. */
export function checkDpo(model: { adapter?: unknown }, options: DpoOptions): void {
  const problem = dpoProblem(options);
  if (problem) throw new Error(problem);
  checkMoving(model, options);
}

/** All chosen answers, then all rejected ones. */
function sequencesOf(pairs: PreferenceExample[]) {
  return [
    ...pairs.map(({ chosen }) => sequenceOf(chosen)),
    ...pairs.map(({ rejected }) => sequenceOf(rejected)),
  ];
}

function scoredPairs({ logprobs, statistics }: TokenScores, refs: Both[]): PreferencePair[] {
  const { logSumSquares } = statistics!, count = refs.length;
  return refs.map((ref, i) => ({
    chosen: logprobs[i],
    rejected: logprobs[count + i],
    ref,
    logSumSquares: { chosen: logSumSquares[i], rejected: logSumSquares[count + i] },
  }));
}

function metricsOf(loss: number, metrics: Record<string, number>, scores: TokenScores) {
  const half = scores.logprobs.length / 2;
  return { loss, ...metrics, ...answerStatistics(scores, scores.logprobs.map((_, i) => i < half)) };
}

function tokensOf(pairs: PreferenceExample[]): number {
  return pairs.reduce((sum, { chosen, rejected }) => sum + chosen.ids.length + rejected.ids.length, 0);
}
