/**
 * `keel kto`: a policy from single answers that are good or bad.
 *
 * @module
 */
import { join } from "node:path";
import { checkVocabulary, loadTokenizer } from "../../data/tokenizer.ts";
import { describeModel, saveModel } from "../../model/load.ts";
import { configOf, isAdapterDirectory, tokenizerSource } from "../../model/peft.ts";
import { weightAdvice } from "../../rl/kto_loss.ts";
import { checkKto, kto } from "../../train/kto.ts";
import { lengthLimit } from "../../train/load_data.ts";
import { countGood, loadUnpaired, longestMismatched } from "../../train/load_preferences.ts";
import { checkLanguageModel, loadTrained } from "../../train/open_model.ts";
import type { KtoOptions } from "../../train/options/kto.ts";
import { checkKtoMemory } from "../../train/preference_needs.ts";
import { preferenceReference } from "../../train/reference.ts";
import { fetchNamed } from "../hub_names.ts";
import type { CommandBody } from "../program.ts";
import { trainingSession } from "../session.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options, recorded } = await fetchNamed<KtoOptions>(given, io);
  const directory = options.modelNameOrPath;
  const tokenizerFrom = tokenizerSource(directory);
  return trainingSession(
    {
      name: "kto",
      stages: ["kto"],
      async *steps({ workspace, run, say }) {
        const stage = run.stage("kto");
        const { gpu } = workspace;
        const paths = [directory, ...options.refModel === undefined ? [] : [options.refModel]];
        checkKto({ adapter: options.usePeft || isAdapterDirectory(directory) }, options);
        const tokenizer = loadTokenizer(tokenizerFrom);
        for (const path of paths) {
          checkLanguageModel(path);
          checkVocabulary(tokenizer, configOf(path).vocabSize, path);
        }
        const maxPositions = Math.min(...paths.map((path) => configOf(path).maxPositions));
        const limit = lengthLimit(options.maxLength, maxPositions);
        const { examples, evalExamples } = await loadUnpaired(options, tokenizer, limit, {
          directory: run.dir,
          say,
        });
        const good = countGood(examples);
        const advice = weightAdvice(good, examples.length - good, options);
        if (advice) say(advice);
        checkKtoMemory({ gpu, say }, options, directory, longestMismatched(examples, limit));
        const model = loadTrained(gpu, directory, options, say);
        stage.accompany((to) => describeModel(model, to, { tokenizerFrom }));
        const reference = preferenceReference(gpu, directory, model, options);
        const data = { workspace, model, reference, examples, evalExamples, say };
        yield* kto(stage, data, options);
        if (stage.interrupted()) return;
        await saveModel(gpu, model, join(run.dir, "model"), { tokenizerFrom });
        stage.finish(stage.newest()!.step);
      },
    },
    recorded,
    io,
  );
};
