/**
 * `keel sft`: supervised fine-tuning of a model on a dataset.
 *
 * @module
 */
import { join } from "node:path";
import { checkVocabulary, loadTokenizer } from "../../data/tokenizer.ts";
import { describeModel, saveModel } from "../../model/load.ts";
import { configOf, tokenizerSource } from "../../model/peft.ts";
import { lengthLimit, loadSft, longestText } from "../../train/load_data.ts";
import { checkSftMemory } from "../../train/needs.ts";
import { loadTrained } from "../../train/open_model.ts";
import type { SftOptions } from "../../train/options/sft.ts";
import { sft } from "../../train/sft.ts";
import { fetchNamed } from "../hub_names.ts";
import type { CommandBody } from "../program.ts";
import { trainingSession } from "../session.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options, recorded } = await fetchNamed<SftOptions>(given, io);
  const directory = options.modelNameOrPath;
  const tokenizerFrom = tokenizerSource(directory);
  return trainingSession(
    {
      name: "sft",
      stages: ["sft"],
      async *steps({ workspace, run, say }) {
        const stage = run.stage("sft");
        const { gpu } = workspace, { vocabSize, maxPositions } = configOf(directory);
        const tokenizer = loadTokenizer(tokenizerFrom);
        checkVocabulary(tokenizer, vocabSize, directory);
        const settings = { directory: run.dir, say };
        const { examples, evalExamples } = await loadSft(options, tokenizer, maxPositions, settings);
        const limit = lengthLimit(options.maxLength, maxPositions);
        checkSftMemory({ gpu, say }, options, directory, longestText(examples, limit));
        const model = loadTrained(gpu, directory, options, say);
        stage.accompany((to) => describeModel(model, to, { tokenizerFrom }));
        yield* sft(stage, { workspace, model, examples, evalExamples }, options);
        if (stage.interrupted()) return;
        await saveModel(gpu, model, join(run.dir, "model"), { tokenizerFrom });
        stage.finish(stage.newest()!.step);
      },
    },
    recorded,
    io,
  );
};
