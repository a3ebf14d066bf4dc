/**
 * The whole job: base model → supervised fine-tuning → reward model → PPO, each stage a folder of one run.
 *
 * Every stage starts from what the one before wrote to disk, so a run that was killed goes on where it was, to the same bits.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Rows, rowsBetween } from "../data/batches.ts";
import type { PairExample, PromptExample, SftExample } from "../data/tokenize.ts";
import { writeTextAtomically } from "../model/atomic_file.ts";
import type { Model } from "../model/decoder.ts";
import type { Dtype } from "../model/frozen.ts";
import { loadHeaded } from "../model/headed.ts";
import { describeModel, destroyModel, loadFrozen, loadModel, saveModel } from "../model/load.ts";
import { isAdapterDirectory } from "../model/peft.ts";
import { moments } from "../rl/whiten.ts";
import type { Run, StageRun } from "../run/run.ts";
import { documentScorer } from "../sample/score.ts";
import type { Workspace } from "../tape/plan.ts";
import type { StepEvent } from "./events.ts";
import type { PpoOptions } from "./options/ppo.ts";
import type { RewardOptions } from "./options/reward.ts";
import type { SftOptions } from "./options/sft.ts";
import { ppo } from "./ppo.ts";
import { reward } from "./reward.ts";
import type { Standardisation } from "./rollout.ts";
import { sft } from "./sft.ts";

/** Names of the stages, in order. */
export const STAGES = ["sft", "reward", "ppo"] as const;

/** Models that stand when the reward model is trained. */
export interface JudgedModels {
  sft: Model;
  reward: Model;
  scoreScale: Standardisation;
}

/** What the pipeline trains and on what. */
export interface PipelineTask {
  base: Model;
  /** Directory whose tokenizer files belong to the base model. */
  tokenizerFrom: string;
  demonstrations: Rows<SftExample>;
  demonstrationsEval?: Rows<SftExample>;
  /** Comparisons for the reward model, perhaps made with the SFT model; `stage` is where they are trained on. */
  comparisons: (
    sft: Model,
    stage: StageRun,
  ) => Promise<{ train: Rows<PairExample>; eval?: Rows<PairExample> }>;
  prompts: Rows<PromptExample>;
  stopIds: number[];
  decode: (ids: number[]) => string;
  /** Called once when the reward model is trained; returns PPO's evaluation. */
  judge?: (
    models: JudgedModels,
    stage: StageRun,
  ) => Promise<(step: number, policy: Model) => Promise<Record<string, number>>>;
}

/** Options of the three stages. */
export interface PipelineOptions {
  seed: number;
  /** Form in which frozen weights are held. */
  dtype?: Dtype;
  sft: SftOptions;
  reward: RewardOptions;
  ppo: PpoOptions;
}

/** Pairs whose scores fix the reward's scale. */
const SCALE_PAIRS = 1024;

/** Runs the stages that are not finished and yields every step of each. Returns early when the run is interrupted. */
export async function* pipeline(
  run: Run,
  workspace: Workspace,
  task: PipelineTask,
  options: PipelineOptions,
): AsyncGenerator<StepEvent> {
  const { gpu } = workspace, { dtype } = options;
  // Of an adapter the base is frozen, of a whole model nothing.
  const trained = (path: string) => loadModel(gpu, path, isAdapterDirectory(path) ? { dtype } : {});

  // 1. Supervised fine-tuning of the base model
  const sftRun = run.stage("sft");
  const sftDir = join(sftRun.dir, "model");
  const described = (stage: StageRun, model: Model) =>
    stage.accompany((directory) => describeModel(model, directory, { tokenizerFrom: task.tokenizerFrom }));
  if (sftRun.finished() === undefined) {
    described(sftRun, task.base);
    const examples = task.demonstrations, evalExamples = task.demonstrationsEval;
    const step = yield* all(
      sftRun,
      sft(sftRun, { workspace, model: task.base, examples, evalExamples }, options.sft),
    );
    if (sftRun.interrupted()) return;
    await saveModel(gpu, task.base, sftDir, { tokenizerFrom: task.tokenizerFrom });
    sftRun.finish(step);
  }
  const reference = loadFrozen(gpu, sftDir, dtype);
  destroyModel(gpu, task.base);

  // 2. Reward model on comparisons, from the SFT model's body and a fresh head
  const rewardRun = run.stage("reward");
  const rewardDir = join(rewardRun.dir, "model"), scaleFile = join(rewardRun.dir, "score_scale.json");
  if (rewardRun.finished() === undefined) {
    const pairs = await task.comparisons(reference, rewardRun);
    const model = loadHeaded(gpu, sftDir, options.seed, { dtype });
    described(rewardRun, model);
    const step = yield* all(
      rewardRun,
      reward(
        rewardRun,
        { workspace, model, examples: pairs.train, evalExamples: pairs.eval },
        options.reward,
      ),
    );
    if (rewardRun.interrupted()) return;
    const scale = await scoreScaleOf(workspace, model, rowsBetween(pairs.train, 0, SCALE_PAIRS));
    writeTextAtomically(scaleFile, JSON.stringify(scale));
    await saveModel(gpu, model, rewardDir, { tokenizerFrom: task.tokenizerFrom });
    rewardRun.finish(step);
    destroyModel(gpu, model);
  }
  const rewardModel = loadFrozen(gpu, rewardDir, dtype);
  const scoreScale: Standardisation = JSON.parse(readFileSync(scaleFile, "utf8"));

  // 3. PPO on the prompts, from the SFT model, with a critic that starts as the reward model
  const ppoRun = run.stage("ppo");
  if (ppoRun.finished() === undefined) {
    const policy = trained(sftDir);
    const evaluate = await task.judge?.({ sft: reference, reward: rewardModel, scoreScale }, ppoRun);
    described(ppoRun, policy);
    const step = yield* all(
      ppoRun,
      ppo(ppoRun, {
        workspace,
        policy,
        reference,
        reward: rewardModel,
        value: trained(rewardDir),
        scoreScale,
        valueScale: scoreScale,
        prompts: task.prompts,
        stopIds: task.stopIds,
        decode: task.decode,
        evaluate,
      }, options.ppo),
    );
    if (ppoRun.interrupted()) return;
    await saveModel(gpu, policy, join(ppoRun.dir, "model"), { tokenizerFrom: task.tokenizerFrom });
    ppoRun.finish(step);
  }
}

/** Passes on all events of a stage and returns its last step. */
async function* all(run: StageRun, events: AsyncGenerator<StepEvent>): AsyncGenerator<StepEvent, number> {
  let step = run.newest()?.step ?? 0;
  for await (const event of events) {
    step = event.step;
    yield event;
  }
  return step;
}

/** Mean and standard deviation of a reward model's scores over both sides of the pairs. */
async function scoreScaleOf(
  workspace: Workspace,
  model: Model,
  pairs: PairExample[],
): Promise<Standardisation> {
  const score = documentScorer(workspace, model);
  const { mean, variance } = moments(await score(pairs.flatMap((pair) => [pair.chosen, pair.rejected])));
  return { mean, std: Math.sqrt(variance) };
}
