/**
 * Supervised fine-tuning: next-token loss on documents, or on their completions.
 *
 * @module
 */
import {
  type DataCursor,
  FIRST_ROW,
  packBatch,
  type PackedBatch,
  type Rows,
  rowsBetween,
} from "../data/batches.ts";
import type { SftExample } from "../data/tokenize.ts";
import { batchInputs, decoder, headOf, type Model } from "../model/decoder.ts";
import { dftLoss, nllLoss } from "../rl/losses.ts";
import type { SavedCheckpoint } from "../run/checkpoint.ts";
import type { StageRun } from "../run/run.ts";
import { logProb } from "../tape/ops/log_prob.ts";
import { planCache } from "../tape/plans.ts";
import type { Plan, Workspace } from "../tape/plan.ts";
import type { Tape } from "../tape/tape.ts";
import { breathe, type StepEvent } from "./events.ts";
import { openGuard, type Pass } from "./guard.ts";
import { openLearner } from "./learner.ts";
import { takeMicroBatches } from "./micro_batches.ts";
import type { SftOptions } from "./options/sft.ts";
import { epochAt, isDue, learningRateAt, totalSteps } from "./schedule.ts";
import { steer } from "./steering.ts";

/** What {@linkcode sft} trains and on what. */
export interface SftInputs {
  /** Where to train. */
  workspace: Workspace;
  /** Trained in place. */
  model: Model;
  /** A row is one document, or several that were packed together. */
  examples: Rows<SftExample | SftExample[]>;
  /** Held-out documents, likewise. */
  evalExamples?: Rows<SftExample | SftExample[]>;
}

/**
 * Trains `model` in place and yields one event per optimiser step.
 *
 * The loss is the sum over the scored tokens of a step divided by their number, whatever the micro-batches. Metrics: loss,
 * grad_norm, learning_rate, entropy (nats) and mean_token_accuracy (means of micro-batches, as in TRL), num_tokens, epoch.
 */
export async function* sft(run: StageRun, data: SftInputs, options: SftOptions): AsyncGenerator<StepEvent> {
  const { workspace, examples } = data;
  const { gpu } = workspace;

  // 1. Plans
  const learner = openLearner(gpu, data.model);
  const trainPlan = planCache(
    workspace,
    (tape, tokens: number) => recordSft(tape, learner.model, tokens, options),
  );
  const evalPlan = planCache(workspace, (tape, tokens: number) => {
    const batch = batchInputs(tape, tokens);
    const hidden = decoder(tape, learner.model, batch, { frozen: true });
    const { logprob, entropy, correct } = logProb(
      tape,
      hidden,
      headOf(tape, learner.model, true),
      tape.input("targets", [tokens], "u32"),
    );
    for (const [name, tensor] of Object.entries({ logprob, entropy, correct })) tape.output(name, tensor);
  });

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
    const { stop, rollBack, settings } = await steer(run, "sft", state.step, options, checkpoint);
    if (stop) break;
    if (rollBack) {
      restore(rollBack);
      continue;
    }
    const taken = takeMicroBatches(state.cursor, examples.length, options);
    const microBatches = taken.microBatches.map((rows) => rows.map((row) => examples.at(row)!).flat());
    state.cursor = taken.next;
    const scoredTokens = Math.max(1, countScored(microBatches.flat()));
    let loss = 0;
    const entropies: number[] = [], accuracies: number[] = [];
    const passes: Pass[] = [];
    for (const micro of microBatches) {
      const packed = packBatch(micro.map((example) => example.ids));
      // Every pass of the run has a key of its own.
      const pass = state.step * options.gradientAccumulationSteps + passes.length;
      const dropoutKey = Uint32Array.of(options.seed, pass);
      const inputs = { ...supervised(packed, micro, scoredTokens), one: ONE, dropoutKey };
      const plan = trainPlan(packed.tokens);
      const out = await plan.run(inputs);
      passes.push({ plan, inputs });
      loss += out.loss[0];
      entropies.push(meanWhere(inputs.weights, out.entropy));
      accuracies.push(meanWhere(inputs.weights, out.correct));
      state.numTokens += micro.reduce((n, example) => n + example.ids.length, 0);
    }
    const learningRate = learningRateAt(state.step, total, settings);
    const { gradNorm, skipped } = await learner.step({ ...settings, learningRate }, loss);
    state.step++;
    if (skipped) await guard.examine(state.step, passes, [learner]);
    guard.count(state.step, skipped);

    const metrics: Record<string, number> = {
      loss,
      grad_norm: gradNorm,
      learning_rate: learningRate,
      entropy: mean(entropies),
      mean_token_accuracy: mean(accuracies),
      num_tokens: state.numTokens,
      epoch: epochAt(state.cursor, examples.length, options),
      skipped_steps: guard.state.skipped,
    };
    if (data.evalExamples?.length && isDue(state.step, settings.evalSteps, total)) {
      Object.assign(metrics, await evaluateSft(evalPlan, data.evalExamples, options));
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

/** Records the loss of a batch of `tokens` tokens and its gradient. */
export function recordSft(
  tape: Tape,
  model: Model,
  tokens: number,
  { gradientCheckpointing, lossType }: Pick<SftOptions, "gradientCheckpointing" | "lossType">,
): void {
  const hidden = decoder(tape, model, batchInputs(tape, tokens), {
    checkpointing: gradientCheckpointing,
    dropoutKey: tape.input("dropoutKey", [2], "u32"),
  });
  const targets = tape.input("targets", [tokens], "u32");
  const { logprob, entropy, correct } = logProb(tape, hidden, headOf(tape, model), targets);
  const weights = tape.input("weights", [tokens]);
  const loss = lossType === "dft" ? dftLoss(tape, logprob, weights) : nllLoss(tape, logprob, weights);
  for (const [name, tensor] of Object.entries({ loss, entropy, correct })) tape.output(name, tensor);
  tape.backward(loss, tape.input("one", [1]));
}

const ONE = new Float32Array([1]);

const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** Mean of the values whose weight is not zero. */
function meanWhere(weights: Float32Array, values: Float32Array): number {
  return mean(Array.from(values.subarray(0, weights.length)).filter((_, t) => weights[t] !== 0));
}

function countScored(examples: SftExample[]): number {
  return examples.reduce((n, { scored }) => n + scored.filter(Boolean).length, 0);
}

/** Inputs of a packed batch with each token's target and weight. */
export function supervised(
  packed: PackedBatch,
  examples: SftExample[],
  scoredTokens: number,
): Record<"ids" | "positions" | "starts" | "ends" | "order" | "positionOrder" | "targets", Uint32Array> & {
  weights: Float32Array;
} {
  const targets = new Uint32Array(packed.tokens), weights = new Float32Array(packed.tokens);
  examples.forEach(({ ids, scored }, i) => {
    for (let t = 1; t < ids.length; t++) {
      const at = packed.first[i] + t - 1;
      targets[at] = ids[t];
      weights[at] = scored[t] ? 1 / scoredTokens : 0;
    }
  });
  const { ids, positions, starts, ends, order, positionOrder } = packed;
  return { ids, positions, starts, ends, order, positionOrder, targets, weights };
}

/** Mean loss, entropy and accuracy per scored token of `examples`, as eval_… metrics. */
async function evaluateSft(
  planFor: (tokens: number) => Plan,
  examples: Rows<SftExample | SftExample[]>,
  { perDeviceEvalBatchSize: batchSize, lossType }: SftOptions,
): Promise<Record<string, number>> {
  const sums = { loss: 0, entropy: 0, correct: 0 };
  const batch = (from: number) => rowsBetween(examples, from, from + batchSize).flat();
  let scored = 0;
  for (let at = 0; at < examples.length; at += batchSize) scored += countScored(batch(at));
  scored = Math.max(1, scored);
  for (let at = 0; at < examples.length; at += batchSize) {
    const part = batch(at);
    const packed = packBatch(part.map((example) => example.ids));
    const { weights, order: _, ...inputs } = supervised(packed, part, scored);
    const out = await planFor(packed.tokens).run(inputs);
    weights.forEach((weight, t) => {
      if (weight === 0) return;
      sums.loss -= out.logprob[t] * (lossType === "dft" ? Math.exp(out.logprob[t]) : 1);
      sums.entropy += out.entropy[t];
      sums.correct += out.correct[t];
    });
  }
  return {
    eval_loss: sums.loss / scored,
    eval_entropy: sums.entropy / scored,
    eval_mean_token_accuracy: sums.correct / scored,
  };
}
