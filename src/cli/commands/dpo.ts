/**
 * `keel dpo`: a policy from pairs of answers, held near a reference.
 *
 * @module
 */
import { join } from "node:path";
import { checkVocabulary, loadTokenizer } from "../../data/tokenizer.ts";
import { describeModel, saveModel } from "../../model/load.ts";
import { configOf, isAdapterDirectory, tokenizerSource } from "../../model/peft.ts";
import type { StageRun } from "../../run/run.ts";
import { checkDpo, dpo } from "../../train/dpo.ts";
import type { StepEvent } from "../../train/events.ts";
import { lengthLimit, longestOf } from "../../train/load_data.ts";
import { loadPreferences } from "../../train/load_preferences.ts";
import { checkLanguageModel, destroyModels, loadTrained } from "../../train/open_model.ts";
import type { DpoOptions } from "../../train/options/dpo.ts";
import { checkDpoMemory } from "../../train/preference_needs.ts";
import { preferenceReference } from "../../train/reference.ts";
import { fetchNamed } from "../hub_names.ts";
import type { CommandBody } from "../program.ts";
import { type Session, trainingSession } from "../session.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options, recorded } = await fetchNamed<DpoOptions>(given, io);
  const steps = (session: Session) => dpoStage(session, session.run.stage("dpo"), options);
  return trainingSession({ name: "dpo", stages: ["dpo"], steps }, recorded, io);
};

/** The stage, from the options' model and pairs to a model in its folder. */
export async function* dpoStage(
  { workspace, run, say }: Session,
  stage: StageRun,
  options: DpoOptions,
): AsyncGenerator<StepEvent> {
  const { gpu } = workspace, directory = options.modelNameOrPath;
  const tokenizerFrom = tokenizerSource(directory);
  const paths = [directory, ...options.refModel === undefined ? [] : [options.refModel]];
  checkDpo({ adapter: options.usePeft || isAdapterDirectory(directory) }, options);
  const tokenizer = loadTokenizer(tokenizerFrom);
  for (const path of paths) {
    checkLanguageModel(path);
    checkVocabulary(tokenizer, configOf(path).vocabSize, path);
  }
  const maxPositions = Math.min(...paths.map((path) => configOf(path).maxPositions));
  const limit = lengthLimit(options.maxLength, maxPositions);
  const { examples, evalExamples } = await loadPreferences(options, tokenizer, limit, {
    directory: run.dir,
    say,
  });
  checkDpoMemory({ gpu, say }, options, directory, longestOf(examples));
  const model = loadTrained(gpu, directory, options, say);
  stage.accompany((to) => describeModel(model, to, { tokenizerFrom }));
  const reference = preferenceReference(gpu, directory, model, options);
  yield* dpo(stage, { workspace, model, reference, examples, evalExamples, say }, options);
  if (stage.interrupted()) return;
  await saveModel(gpu, model, join(stage.dir, "model"), { tokenizerFrom });
  stage.finish(stage.newest()!.step);
  destroyModels(gpu, model, reference);
}
