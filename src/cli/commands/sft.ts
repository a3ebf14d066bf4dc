/**
 * `keel sft`: supervised fine-tuning of a model on a dataset.
 *
 * @module
 */
import { join } from "node:path";
import { checkVocabulary, loadTokenizer } from "../../data/tokenizer.ts";
import { describeModel, loadModel, saveModel } from "../../model/load.ts";
import { loadSftRows } from "../../train/load_data.ts";
import type { SftOptions } from "../../train/options/sft.ts";
import { sft } from "../../train/sft.ts";
import type { CommandBody } from "../program.ts";
import { trainingSession } from "../session.ts";

/** Runs the command. */
export const run: CommandBody = (given, io) => {
  const options = given as unknown as SftOptions;
  const directory = options.modelNameOrPath;
  return trainingSession(
    {
      name: "sft",
      stages: ["sft"],
      async *steps({ workspace, run, say }) {
        const stage = run.stage("sft");
        const model = loadModel(workspace.gpu, directory);
        stage.accompany((to) => describeModel(model.config, to, { tokenizerFrom: directory }));
        const tokenizer = loadTokenizer(directory);
        checkVocabulary(tokenizer, model.config.vocabSize, directory);
        const { maxPositions } = model.config;
        const examples = await loadSftRows(options.datasetName, tokenizer, maxPositions, options, say);
        const evalExamples = options.evalDataset
          ? (await loadSftRows(
            options.evalDataset,
            tokenizer,
            maxPositions,
            { ...options, packing: false },
            say,
          )).flat()
          : undefined;
        yield* sft(stage, { workspace, model, examples, evalExamples }, options);
        if (stage.interrupted()) return;
        await saveModel(workspace.gpu, model, join(run.dir, "model"), { tokenizerFrom: directory });
        stage.finish(stage.newest()!.step);
      },
    },
    options,
    io,
  );
};
