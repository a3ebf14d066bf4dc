/**
 * `keel ppo`: a policy against a reward model.
 *
 * @module
 */
import { join } from "node:path";
import { checkVocabulary, loadTokenizer } from "../../data/tokenizer.ts";
import { loadHeaded } from "../../model/headed.ts";
import { describeModel, saveModel } from "../../model/load.ts";
import { configOf, tokenizerSource } from "../../model/peft.ts";
import type { StageRun } from "../../run/run.ts";
import type { StepEvent } from "../../train/events.ts";
import { completionScorer } from "../../train/completion_scores.ts";
import { allBut, lengthLimit, loadPromptRows, longestPrompt } from "../../train/load_data.ts";
import { checkPpoMemory } from "../../train/needs.ts";
import { destroyModels, loadReference, loadTrained, loadTrainedHeaded } from "../../train/open_model.ts";
import { openJudgeAnswers } from "../../run/judge_cache.ts";
import { criticPath, onlyRewardModel, type PpoOptions } from "../../train/options/ppo.ts";
import { ppo } from "../../train/ppo.ts";
import { openRewards } from "../../train/rewards.ts";
import { fetchNamed } from "../hub_names.ts";
import type { CommandBody } from "../program.ts";
import { type Session, trainingSession } from "../session.ts";

/** Scores are used as the reward model gives them. */
const AS_THEY_ARE = { mean: 0, std: 1 };

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options, recorded } = await fetchNamed<PpoOptions>(given, io);
  const steps = (session: Session) => ppoStage(session, session.run.stage("ppo"), options);
  return trainingSession({ name: "ppo", stages: ["ppo"], steps }, recorded, io);
};

/** The stage, from the options' models and prompts to a policy in its folder; the last `heldOut` prompts are left alone. */
export async function* ppoStage(
  { workspace, run, say }: Session,
  stage: StageRun,
  options: PpoOptions,
  heldOut = 0,
): AsyncGenerator<StepEvent> {
  const { gpu } = workspace, directory = options.sftModelPath ?? options.modelNameOrPath;
  const tokenizerFrom = tokenizerSource(directory), { maxPositions } = configOf(directory);
  const tokenizer = loadTokenizer(tokenizerFrom);
  const judge = onlyRewardModel(options), critic = criticPath(options, directory);
  for (const path of [directory, critic, ...judge === undefined ? [] : [judge]]) {
    checkVocabulary(tokenizer, configOf(path).vocabSize, path);
  }
  const { dtype, seed, responseLength: maxCompletionLength } = options;
  const room = maxPositions - maxCompletionLength;
  if (room < 1) {
    throw new Error(
      `Completions of ${maxCompletionLength} tokens leave no room for a prompt in the model's ${maxPositions} positions. Use a smaller --response_length.`,
    );
  }
  const limit = lengthLimit(options.maxPromptLength, room);
  const prompts = allBut(
    await loadPromptRows(options, tokenizer, limit, { directory: run.dir, say }),
    heldOut,
  );
  checkPpoMemory({ gpu, say }, options, directory, longestPrompt(prompts));
  const decode = (ids: number[]) => tokenizer.decode(ids),
    judgeCache = openJudgeAnswers(join(run.dir, "run.db"));
  const sources = judge === undefined
    ? await openRewards(workspace, options, { tokenizer, maxCompletionLength, dtype, seed, say, judgeCache })
    : [];
  const policy = loadTrained(gpu, directory, options, say);
  stage.accompany((to) => describeModel(policy, to, { tokenizerFrom }));
  const models = {
    policy,
    reference: loadReference(gpu, directory, policy, options),
    value: loadTrainedHeaded(gpu, critic, options, say),
  };
  const rewardModel = judge === undefined ? undefined : loadHeaded(gpu, judge, seed, { dtype });
  try {
    yield* ppo(stage, {
      workspace,
      ...models,
      reward: rewardModel ?? completionScorer(sources, decode),
      scoreScale: AS_THEY_ARE,
      valueScale: AS_THEY_ARE,
      prompts,
      stopIds: stopIdsOf(options, directory),
      decode,
      keepAverage: (average) => saveModel(gpu, average, join(stage.dir, "model_ema"), { tokenizerFrom }),
    }, options);
  } finally {
    for (const source of sources) source.close?.();
    judgeCache.close();
  }
  if (stage.interrupted()) return;
  await saveModel(gpu, policy, join(stage.dir, "model"), { tokenizerFrom });
  stage.finish(stage.newest()!.step);
  destroyModels(gpu, policy, models.reference, models.value, rewardModel);
}

/** Tokens that end a completion. */
function stopIdsOf({ stopTokenId, stopToken }: PpoOptions, directory: string): number[] {
  if (stopTokenId !== undefined) return [stopTokenId];
  return stopToken === "eos" ? configOf(directory).eosIds : [];
}
