/**
 * `keel reward`: a reward model from preference pairs.
 *
 * @module
 */
import { join } from "node:path";
import { checkVocabulary, loadTokenizer } from "../../data/tokenizer.ts";
import { describeModel, saveModel } from "../../model/load.ts";
import { configOf, tokenizerSource } from "../../model/peft.ts";
import type { StageRun } from "../../run/run.ts";
import type { StepEvent } from "../../train/events.ts";
import { lengthLimit, loadPairs, longestOf } from "../../train/load_data.ts";
import { checkRewardMemory } from "../../train/needs.ts";
import { destroyModels, loadTrainedHeaded } from "../../train/open_model.ts";
import type { RewardOptions } from "../../train/options/reward.ts";
import { reward } from "../../train/reward.ts";
import { fetchNamed } from "../hub_names.ts";
import type { CommandBody } from "../program.ts";
import { type Session, trainingSession } from "../session.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options, recorded } = await fetchNamed<RewardOptions>(given, io);
  const steps = (session: Session) => rewardStage(session, session.run.stage("reward"), options);
  return trainingSession({ name: "reward", stages: ["reward"], steps }, recorded, io);
};

/** The stage, from the options' model and pairs to a reward model in its folder. */
export async function* rewardStage(
  { workspace, run, say }: Session,
  stage: StageRun,
  options: RewardOptions,
): AsyncGenerator<StepEvent> {
  const { gpu } = workspace, directory = options.modelNameOrPath;
  const tokenizerFrom = tokenizerSource(directory), { vocabSize, maxPositions } = configOf(directory);
  const tokenizer = loadTokenizer(tokenizerFrom);
  checkVocabulary(tokenizer, vocabSize, directory);
  const limit = lengthLimit(options.maxLength, maxPositions);
  const { examples, evalExamples } = await loadPairs(options, tokenizer, limit, { directory: run.dir, say });
  checkRewardMemory({ gpu, say }, options, directory, longestOf(examples));
  const model = loadTrainedHeaded(gpu, directory, options, say);
  stage.accompany((to) => describeModel(model, to, { tokenizerFrom }));
  yield* reward(stage, { workspace, model, examples, evalExamples }, options);
  if (stage.interrupted()) return;
  await saveModel(gpu, model, join(stage.dir, "model"), { tokenizerFrom });
  stage.finish(stage.newest()!.step);
  destroyModels(gpu, model);
}
