/**
 * Kahneman–Tversky optimisation (arXiv 2402.01306): a policy learns from single answers that are good or bad, held near a
 * reference.
 *
 * @module
 */
import { type DataCursor, FIRST_ROW, type Rows } from "../data/batches.ts";
import type { UnpairedExample } from "../data/tokenize.ts";
import type { Model } from "../model/decoder.ts";
import { ktoLoss, mismatchedKl } from "../rl/kto_loss.ts";
import { sumOf } from "../rl/pair_metrics.ts";
import type { SavedCheckpoint } from "../run/checkpoint.ts";
import type { StageRun } from "../run/run.ts";
import type { Workspace } from "../tape/plan.ts";
import { breathe, type StepEvent } from "./events.ts";
import { openGuard, type Pass } from "./guard.ts";
import { openLearner } from "./learner.ts";
import { lengthLimit } from "./load_data.ts";
import { sequenceOf } from "./load_preferences.ts";
import { movingReference } from "./moving_reference.ts";
import type { KtoOptions } from "./options/kto.ts";
import { openPasses, type Sequence, sequenceScorer, type TokenScores } from "./policy_pass.ts";
import { precomputeRows, type RowNumbers } from "./precompute.ts";
import { answerStatistics } from "./answer_statistics.ts";
import { meanMetrics, partOf, takeMicroBatches } from "./micro_batches.ts";
import { checkMoving } from "./reference.ts";
import { epochAt, isDue, learningRateAt, totalSteps } from "./schedule.ts";
import { steer } from "./steering.ts";

/** What {@linkcode kto} trains and on what. */
export interface KtoInputs {
  /** Where to train. */
  workspace: Workspace;
  /** Trained in place. */
  model: Model;
  /** As in DPO: frozen, or left out where its log-probabilities are computed before the first step. */
  reference?: Model;
  /** Answers; they are cut to max_length with their own prompts and with others. */
  examples: Rows<UnpairedExample>;
  /** Held-out answers. */
  evalExamples?: Rows<UnpairedExample>;
  /** Is told how far the reference's log-probabilities are. */
  say?: (line: string) => void;
}

/**
 * Trains `model` in place and yields one event per optimiser step.
 *
 * The KL divergence that answers are compared with is estimated from the prompts of a micro-batch, each with the answer of
 * the row before it. Metrics: loss, grad_norm, learning_rate, kl, rewards/chosen, rewards/rejected, rewards/margins,
 * logps/chosen, logps/rejected, logits/chosen, logits/rejected, entropy (each the mean over the micro-batches that have it),
 * num_tokens, epoch; of held-out answers with eval_ before their names.
 */
export async function* kto(run: StageRun, data: KtoInputs, options: KtoOptions): AsyncGenerator<StepEvent> {
  const { workspace, examples, evalExamples } = data;
  checkKto(data.model, options);
  const positions = [data.model, data.reference ?? data.model].map(({ config }) => config.maxPositions);
  const limit = lengthLimit(options.maxLength, Math.min(...positions));
  const block = options.perDeviceTrainBatchSize;
  const compared = options.lossType === "kto";

  // 1. Policy and reference
  const learner = openLearner(workspace.gpu, data.model);
  const passes = openPasses(workspace, learner.model, {
    checkpointing: options.gradientCheckpointing,
    withStatistics: true,
  });
  const evaluate = sequenceScorer(workspace, learner.model, { batchSize: Infinity, withStatistics: true });
  const reference = data.reference ?? (options.precomputeRefLogProbs ? learner.model : undefined);
  if (!reference) throw new Error("KTO needs a reference, and got none.");
  const moving = options.syncRefModel ? movingReference(workspace.gpu, reference, learner.model) : undefined;
  const scoreReference = sequenceScorer(workspace, reference, { batchSize: Infinity });
  const ownOf = (answer: UnpairedExample) => sequenceOf(answer, limit);
  /** ln π_ref of answers, and of the mismatched ones beside them. */
  const referenceOf = async (own: Sequence[], others: Sequence[]) => {
    const [first, second] = [await scoreReference(own), await scoreReference(others)];
    return own.map((_, i) => [sumOf(first.logprobs[i]), compared ? sumOf(second.logprobs[i]) : 0] as const);
  };
  /** Mismatched answers beside those of rows of a dataset, which lie in blocks of one training batch. */
  const othersOf = (rows: Rows<UnpairedExample>, numbers: number[]) =>
    compared
      ? numbers.map((row) => {
        const begin = row - row % block, end = Math.min(begin + block, rows.length);
        return mismatched(rows.at(row)!, rows.at(row === begin ? end - 1 : row - 1)!, limit);
      })
      : [];
  const known = { train: undefined as RowNumbers | undefined, eval: undefined as RowNumbers | undefined };
  if (options.precomputeRefLogProbs) {
    const { precomputeRefBatchSize: size, perDeviceEvalBatchSize } = options;
    for (
      const [set, rows, usual] of [
        ["train", examples, block],
        ["eval", evalExamples, perDeviceEvalBatchSize],
      ] as const
    ) {
      if (!rows?.length) continue;
      known[set] = await precomputeRows(
        run,
        rows.length,
        size ?? usual,
        (numbers) => referenceOf(numbers.map((row) => ownOf(rows.at(row)!)), othersOf(rows, numbers)),
        data.say ?? (() => {}),
      );
      if (!known[set]) return learner.close();
    }
  }
  /** What the reference says of rows, known or computed. */
  const refsOf = async (set: keyof typeof known, rows: number[], own: Sequence[], others: Sequence[]) =>
    known[set] ? rows.map(known[set]) : await referenceOf(own, others);

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
    const { stop, rollBack, settings } = await steer(run, "kto", state.step, options, checkpoint);
    if (stop) break;
    if (rollBack) {
      restore(rollBack);
      continue;
    }

    // 3. Learn from the answers of each micro-batch
    const { microBatches, next } = takeMicroBatches(state.cursor, examples.length, options);
    state.cursor = next;
    const micros: Record<string, number>[] = [], learnt: Pass[] = [];
    for (const rows of microBatches) {
      const answers = rows.map((row) => examples.at(row)!), own = answers.map(ownOf);
      const others = compared
        ? answers.map((answer, i) => mismatched(answer, answers.at(i - 1)!, limit))
        : [];
      const refs = await refsOf("train", rows, own, others);
      const kl = compared ? klOf((await passes.score(others)).logprobs, refs) : 0;
      const { result, pass } = await passes.learn(own, (scores) => {
        const loss = ktoLoss(scoredAnswers(scores, answers, refs), kl, settings);
        const metrics = metricsOf(loss.loss, loss.metrics, scores, answers);
        return partOf({ ...loss, metrics }, microBatches.length);
      });
      learnt.push(pass);
      micros.push(result.metrics);
      state.numTokens += own.reduce(
        (sum, { prompt, completion }) => sum + prompt.length + completion.length,
        0,
      );
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
        const answers = rows.map((row) => evalExamples.at(row)!), own = answers.map(ownOf);
        const others = othersOf(evalExamples, rows);
        const refs = await refsOf("eval", rows, own, others);
        const kl = compared ? klOf((await evaluate(others)).logprobs, refs) : 0;
        const scores = await evaluate(own);
        const loss = ktoLoss(scoredAnswers(scores, answers, refs), kl, settings);
        parts.push(metricsOf(loss.loss, loss.metrics, scores, answers));
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
export function checkKto(model: { adapter?: unknown }, options: KtoOptions): void {
  checkMoving(model, options);
  if (options.lossType !== "kto") return;
  if (options.perDeviceTrainBatchSize < 2) {
    throw new Error(
      "loss_type kto estimates the KL divergence from answers to other prompts of a micro-batch, so per_device_train_batch_size must be at least 2; got 1. loss_type apo_zero_unpaired does without.",
    );
  }
  if (options.precomputeRefLogProbs && options.shuffleDataset) {
    throw new Error(
      "precompute_ref_log_probs needs the same micro-batches in every epoch, because loss_type kto pairs each prompt with another row's answer. Give --shuffle_dataset false, or leave precompute_ref_log_probs out.",
    );
  }
}

/** A prompt with the answer of another row, cut to `limit` tokens. */
function mismatched(prompt: UnpairedExample, answer: UnpairedExample, limit: number): Sequence {
  const { promptLength } = prompt;
  const ids = [...prompt.ids.slice(0, promptLength), ...answer.ids.slice(answer.promptLength)];
  return sequenceOf({ ids, promptLength }, limit);
}

/** The KL divergence by mismatched answers. */
function klOf(logprobs: Float64Array[], refs: (readonly [number, number])[]): number {
  return mismatchedKl(logprobs.map(sumOf), refs.map(([, other]) => other));
}

function scoredAnswers(
  { logprobs }: TokenScores,
  answers: UnpairedExample[],
  refs: (readonly [number, number])[],
) {
  return answers.map(({ label }, i) => ({
    logprobs: logprobs[i],
    refLogprob: refs[i][0],
    desirable: label,
  }));
}

function metricsOf(
  loss: number,
  metrics: Record<string, number>,
  scores: TokenScores,
  answers: UnpairedExample[],
) {
  return { loss, ...metrics, ...answerStatistics(scores, answers.map(({ label }) => label)) };
}
