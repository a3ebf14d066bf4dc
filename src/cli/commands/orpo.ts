/**
 * `keel orpo`: a policy from pairs of answers, without a reference.
 *
 * @module
 */
import { join } from "node:path";
import { checkVocabulary, loadTokenizer } from "../../data/tokenizer.ts";
import { describeModel, saveModel } from "../../model/load.ts";
import { configOf, tokenizerSource } from "../../model/peft.ts";
import { lengthLimit, longestOf } from "../../train/load_data.ts";
import { loadPreferences } from "../../train/load_preferences.ts";
import { checkLanguageModel, loadTrained } from "../../train/open_model.ts";
import type { OrpoOptions } from "../../train/options/orpo.ts";
import { orpo } from "../../train/orpo.ts";
import { checkOrpoMemory } from "../../train/preference_needs.ts";
import { fetchNamed } from "../hub_names.ts";
import type { CommandBody } from "../program.ts";
import { trainingSession } from "../session.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options, recorded } = await fetchNamed<OrpoOptions>(given, io);
  const directory = options.modelNameOrPath;
  const tokenizerFrom = tokenizerSource(directory);
  return trainingSession(
    {
      name: "orpo",
      stages: ["orpo"],
      async *steps({ workspace, run, say }) {
        const stage = run.stage("orpo");
        const { gpu } = workspace, { vocabSize, maxPositions } = configOf(directory);
        const tokenizer = loadTokenizer(tokenizerFrom);
        checkLanguageModel(directory);
        checkVocabulary(tokenizer, vocabSize, directory);
        const limit = lengthLimit(options.maxLength, maxPositions);
        const { examples, evalExamples } = await loadPreferences(options, tokenizer, limit, {
          directory: run.dir,
          say,
        });
        checkOrpoMemory({ gpu, say }, options, directory, longestOf(examples));
        const model = loadTrained(gpu, directory, options, say);
        stage.accompany((to) => describeModel(model, to, { tokenizerFrom }));
        yield* orpo(stage, { workspace, model, examples, evalExamples }, options);
        if (stage.interrupted()) return;
        await saveModel(gpu, model, join(run.dir, "model"), { tokenizerFrom });
        stage.finish(stage.newest()!.step);
      },
    },
    recorded,
    io,
  );
};
