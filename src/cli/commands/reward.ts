/**
 * `keel reward`: a reward model from preference pairs.
 *
 * @module
 */
import { join } from "node:path";
import { checkVocabulary, loadTokenizer } from "../../data/tokenizer.ts";
import { describeModel, saveModel } from "../../model/load.ts";
import { loadHeaded } from "../../model/headed.ts";
import { lengthLimit, loadPairs } from "../../train/load_data.ts";
import type { RewardOptions } from "../../train/options/reward.ts";
import { reward } from "../../train/reward.ts";
import type { CommandBody } from "../program.ts";
import { trainingSession } from "../session.ts";

/** Runs the command. */
export const run: CommandBody = (given, io) => {
  const options = given as unknown as RewardOptions;
  const directory = options.modelNameOrPath;
  return trainingSession(
    {
      name: "reward",
      stages: ["reward"],
      async *steps({ workspace, run, say }) {
        const stage = run.stage("reward");
        const model = loadHeaded(workspace.gpu, directory, options.seed);
        stage.accompany((to) => describeModel(model.config, to, { tokenizerFrom: directory }));
        const tokenizer = loadTokenizer(directory);
        checkVocabulary(tokenizer, model.config.vocabSize, directory);
        const limit = lengthLimit(options.maxLength, model.config.maxPositions);
        const examples = await loadPairs(options.datasetName, tokenizer, limit, say);
        const evalExamples = options.evalDataset
          ? await loadPairs(options.evalDataset, tokenizer, limit, say)
          : undefined;
        yield* reward(stage, { workspace, model, examples, evalExamples }, options);
        if (stage.interrupted()) return;
        await saveModel(workspace.gpu, model, join(run.dir, "model"), { tokenizerFrom: directory });
        stage.finish(stage.newest()!.step);
      },
    },
    options,
    io,
  );
};
