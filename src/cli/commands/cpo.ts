/**
 * `keel cpo`: a policy from pairs of answers, without a reference.
 *
 * @module
 */
import { join } from "node:path";
import { checkVocabulary, loadTokenizer } from "../../data/tokenizer.ts";
import { describeModel, saveModel } from "../../model/load.ts";
import { configOf, tokenizerSource } from "../../model/peft.ts";
import { cpo } from "../../train/cpo.ts";
import { lengthLimit, longestOf } from "../../train/load_data.ts";
import { loadPreferences } from "../../train/load_preferences.ts";
import { checkLanguageModel, loadTrained } from "../../train/open_model.ts";
import type { CpoOptions } from "../../train/options/cpo.ts";
import { checkCpoMemory } from "../../train/preference_needs.ts";
import { fetchNamed } from "../hub_names.ts";
import type { CommandBody } from "../program.ts";
import { trainingSession } from "../session.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options, recorded } = await fetchNamed<CpoOptions>(given, io);
  const directory = options.modelNameOrPath;
  const tokenizerFrom = tokenizerSource(directory);
  return trainingSession(
    {
      name: "cpo",
      stages: ["cpo"],
      async *steps({ workspace, run, say }) {
        const stage = run.stage("cpo");
        const { gpu } = workspace, { vocabSize, maxPositions } = configOf(directory);
        const tokenizer = loadTokenizer(tokenizerFrom);
        checkLanguageModel(directory);
        checkVocabulary(tokenizer, vocabSize, directory);
        const limit = lengthLimit(options.maxLength, maxPositions);
        const { examples, evalExamples } = await loadPreferences(options, tokenizer, limit, {
          directory: run.dir,
          say,
        });
        checkCpoMemory({ gpu, say }, options, directory, longestOf(examples));
        const model = loadTrained(gpu, directory, options, say);
        stage.accompany((to) => describeModel(model, to, { tokenizerFrom }));
        yield* cpo(stage, { workspace, model, examples, evalExamples }, options);
        if (stage.interrupted()) return;
        await saveModel(gpu, model, join(run.dir, "model"), { tokenizerFrom });
        stage.finish(stage.newest()!.step);
      },
    },
    recorded,
    io,
  );
};
