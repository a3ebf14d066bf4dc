/**
 * Online DPO (arXiv 2402.04792): the policy answers each prompt twice, rewards or a judge say which answer is better, and DPO's
 * loss is taken of that pair.
 *
 * A step is one batch of prompts and one optimiser step.
 *
 * @module
 */
import { type DataCursor, FIRST_ROW, type Rows, takeWholeBatch } from "../data/batches.ts";
import type { PromptRow } from "../data/tokenize.ts";
import type { Model } from "../model/decoder.ts";
import { answerLogprobs, dpoLoss, type PreferencePair } from "../rl/dpo_loss.ts";
import type { SavedCheckpoint } from "../run/checkpoint.ts";
import type { StageRun } from "../run/run.ts";
import { openGenerator } from "../sample/generate.ts";
import type { Workspace } from "../tape/plan.ts";
import { breathe, type StepEvent } from "./events.ts";
import { openGuard, type Pass } from "./guard.ts";
import { openLearner } from "./learner.ts";
import type { OnlineDpoOptions } from "./options/online_dpo.ts";
import type { CompletionPair, PairJudge } from "./pair_judges.ts";
import { openPasses, type Sequence, sequenceScorer, type TokenScores } from "./policy_pass.ts";
import { meanMetrics, partOf } from "./micro_batches.ts";
import { isDue, learningRateAt, totalSteps } from "./schedule.ts";
import { steer } from "./steering.ts";

/** What {@linkcode onlineDpo} trains and on what. */
export interface OnlineDpoInputs {
  /** Where to train. */
  workspace: Workspace;
  /** Trained in place. */
  policy: Model;
  /** Frozen. */
  reference: Model;
  /** What completions are sampled for. */
  prompts: Rows<PromptRow>;
  /** Says which of two completions is better. */
  judge: PairJudge;
  /** Tokens that end a completion. */
  stopIds: number[];
  /** Text of token ids, for the samples that are kept. */
  decode: (ids: number[]) => string;
  /** Called before the first step and at every evaluation; its metrics join the step's. */
  evaluate?: (step: number, policy: Model) => Promise<Record<string, number>>;
}

/** Samples of each batch that are kept in the run's database. */
const KEPT_SAMPLES = 8;

/** A completion with the log-probabilities that its tokens were drawn with. */
interface Drawn extends Sequence {
  logprobs: number[];
}

/** A pair of which one side is better. */
interface DecidedPair {
  chosen: Drawn;
  rejected: Drawn;
}

/** Trains `policy` in place and yields one event per step. Metric names are TRL's. */
export async function* onlineDpo(
  run: StageRun,
  data: OnlineDpoInputs,
  options: OnlineDpoOptions,
): AsyncGenerator<StepEvent> {
  const { workspace, prompts } = data;
  const { gpu } = workspace;
  const microBatch = options.perDeviceTrainBatchSize;
  const batchSize = microBatch * options.gradientAccumulationSteps;

  // 1. Models
  const policy = openLearner(gpu, data.policy);
  const generator = openGenerator(workspace, policy.model);
  const passes = openPasses(workspace, policy.model, { checkpointing: options.gradientCheckpointing });
  const ask = sequenceScorer(workspace, data.reference, { batchSize: 2 * microBatch });

  // 2. Where we are
  const total = totalSteps(prompts.length, options);
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
    policy.restore(saved.files, state.optimizerSteps);
  };
  const saved = run.newest();
  if (saved) restore(saved);
  const checkpoint = async () => {
    Object.assign(state, { optimizerSteps: policy.steps, guard: guard.state });
    run.checkpoint(state.step, await policy.files(), state);
  };
  if (state.step === 0 && data.evaluate) {
    const metrics = await data.evaluate(0, policy.model);
    run.log(0, metrics);
    yield { stage: run.name, step: 0, total, metrics };
  }

  while (state.step < total) {
    const { stop, rollBack, settings } = await steer(run, "online-dpo", state.step, options, checkpoint);
    if (stop) break;
    if (rollBack) {
      restore(rollBack);
      continue;
    }

    // 3. Sample two completions of each prompt
    const { batch, next } = takeWholeBatch(state.cursor, prompts, {
      seed: options.seed,
      batchSize,
      shuffle: options.shuffleDataset,
    });
    state.cursor = next;
    const completions = await generator.generate(
      batch.map(({ ids }, i) => ({ ids, samples: [2 * i, 2 * i + 1] })),
      {
        temperature: settings.temperature,
        topK: options.topK,
        topP: options.topP,
        stopIds: data.stopIds,
        maxNewTokens: options.maxNewTokens,
        seed: options.seed,
        stream: state.step + 1,
      },
    );
    const sampled = completions.map(({ ids, finishReason }) => ({ ids, ended: finishReason === "stop" }));
    const pairs = batch.map((row, i): CompletionPair => ({
      row,
      completions: [sampled[2 * i], sampled[2 * i + 1]],
    }));

    // 4. Have them compared; what is not decided teaches nothing
    const verdicts = await data.judge(pairs, state.step + 1);
    const decided = batch.flatMap(({ ids: prompt }, i): DecidedPair[] => {
      const better = verdicts.better[i];
      if (better === null) return [];
      const side = (which: number): Drawn => {
        const { ids: completion, logprobs } = completions[2 * i + which];
        return { prompt, completion, logprobs };
      };
      return [{ chosen: side(better), rejected: side(1 - better) }];
    });

    // 5. Learn
    const epoch = Math.floor(state.step * batchSize / prompts.length);
    const beta = settings.beta[Math.min(epoch, settings.beta.length - 1)];
    const guarded: Pass[] = [], micros: Record<string, number>[] = [], sizes: number[] = [];
    for (let at = 0; at < decided.length; at += microBatch) {
      const part = decided.slice(at, at + microBatch);
      const sequences = [...part.map(({ chosen }) => chosen), ...part.map(({ rejected }) => rejected)];
      const refs = await ask(sequences, settings.temperature);
      const { result, pass } = await passes.learn(sequences, (scores) => {
        const loss = dpoLoss(pairsOf(scores, refs), {
          lossType: [options.lossType],
          beta,
          labelSmoothing: 0,
          discopopTau: 0.05,
          fDivergenceType: "reverse_kl",
          fAlphaDivergenceCoef: 0.5,
          useWeighting: false,
          ipoLengthNormalization: false,
        });
        Object.assign(loss.metrics, sampledMetrics(scores, refs, sequences), { loss: loss.loss });
        // Every decided pair counts alike, whatever the micro-batches.
        return partOf(loss, decided.length / part.length);
      }, settings.temperature);
      guarded.push(pass);
      micros.push(result.metrics);
      sizes.push(part.length);
    }
    const means = decided.length ? meanMetrics(micros, sizes) : {};
    const learningRate = learningRateAt(state.step, total, settings);
    const { gradNorm, skipped } = decided.length
      ? await policy.step({ ...settings, learningRate }, means.loss)
      : { gradNorm: 0, skipped: false };
    state.step++;
    state.numTokens += pairs.reduce(
      (sum, { row, completions: [a, b] }) => sum + 2 * row.ids.length + a.ids.length + b.ids.length,
      0,
    );
    if (skipped) await guard.examine(state.step, guarded, [policy]);
    guard.count(state.step, skipped);

    // 6. Report
    const metrics: Record<string, number> = {
      ...means,
      ...verdicts.metrics,
      ...scoreMetrics(verdicts.scores),
      "val/contain_eos_token": sampled.filter(({ ended }) => ended).length / sampled.length,
      "completions/mean_length": sampled.reduce((sum, { ids }) => sum + ids.length, 0) / sampled.length,
      "pairs/decided": decided.length / pairs.length,
      beta,
      grad_norm: gradNorm,
      learning_rate: learningRate,
      num_tokens: state.numTokens,
      epoch: state.step * batchSize / prompts.length,
      skipped_steps: guard.state.skipped,
    };
    if (data.evaluate && isDue(state.step, settings.evalSteps, total)) {
      Object.assign(metrics, await data.evaluate(state.step, policy.model));
    }
    run.log(state.step, metrics);
    run.samples(
      state.step,
      pairs.slice(0, KEPT_SAMPLES / 2).flatMap(({ row, completions }, i) =>
        completions.map(({ ids }, side) => ({
          prompt: row.text,
          completion: data.decode(ids),
          tokens: ids.length,
          rewards: {
            better: verdicts.better[i] === null ? 0.5 : Number(verdicts.better[i] === side),
            ...(verdicts.scores?.[i][side] != null && { score: verdicts.scores[i][side]! }),
          },
        }))
      ),
    );
    await breathe();
    const interrupted = run.interrupted();
    if (interrupted || guard.saveDue(state.step, settings.saveSteps, total)) await checkpoint();
    yield { stage: run.name, step: state.step, total, metrics };
    if (interrupted) break;
  }
  policy.close();
}

const sum = (values: Float64Array) => values.reduce((a, b) => a + b, 0);
const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** Pairs of which the first half are the chosen sides. */
function pairsOf({ logprobs }: TokenScores, refs: TokenScores): PreferencePair[] {
  const count = logprobs.length / 2;
  return logprobs.slice(0, count).map((chosen, i) => ({
    chosen,
    rejected: logprobs[count + i],
    ref: answerLogprobs(refs.logprobs[i], refs.logprobs[count + i]),
  }));
}

/** KL to the reference and entropy of completions, in nats per completion, and how far sampling and learning differ. */
function sampledMetrics(
  { logprobs, entropies }: TokenScores,
  refs: TokenScores,
  drawn: Drawn[],
): Record<string, number> {
  const differences = drawn.flatMap((one, i) => one.logprobs.map((x, t) => Math.abs(x - logprobs[i][t])));
  return {
    "sampling/logp_difference": differences.reduce((a, b) => Math.max(a, b), 0),
    "objective/kl": mean(logprobs.map((row, i) => sum(row) - sum(refs.logprobs[i]))),
    "objective/entropy": mean(entropies.map(sum)),
  };
}

/** Scores by which pairs were decided. */
function scoreMetrics(scores: PairScores): Record<string, number> {
  const known = (scores ?? []).filter((pair): pair is [number, number] => !pair.includes(null));
  if (known.length === 0) return {};
  return {
    "objective/scores": mean(known.flat()),
    "objective/scores_margin": mean(known.map(([a, b]) => Math.abs(a - b))),
  };
}

type PairScores = Awaited<ReturnType<PairJudge>>["scores"];
