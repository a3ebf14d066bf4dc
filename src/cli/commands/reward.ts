/**
 * `keel reward`: a reward model from preference pairs.
 *
 * @module
 */
import { join } from "node:path";
import { checkVocabulary, loadTokenizer } from "../../data/tokenizer.ts";
import { describeModel, saveModel } from "../../model/load.ts";
import { configOf, tokenizerSource } from "../../model/peft.ts";
import { lengthLimit, loadPairs, longestOf } from "../../train/load_data.ts";
import { checkRewardMemory } from "../../train/needs.ts";
import { loadTrainedHeaded } from "../../train/open_model.ts";
import type { RewardOptions } from "../../train/options/reward.ts";
import { reward } from "../../train/reward.ts";
import { fetchNamed } from "../hub_names.ts";
import type { CommandBody } from "../program.ts";
import { trainingSession } from "../session.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options, recorded } = await fetchNamed<RewardOptions>(given, io);
  const directory = options.modelNameOrPath;
  const tokenizerFrom = tokenizerSource(directory);
  return trainingSession(
    {
      name: "reward",
      stages: ["reward"],
      async *steps({ workspace, run, say }) {
        const stage = run.stage("reward");
        const { gpu } = workspace, { vocabSize, maxPositions } = configOf(directory);
        const tokenizer = loadTokenizer(tokenizerFrom);
        checkVocabulary(tokenizer, vocabSize, directory);
        const limit = lengthLimit(options.maxLength, maxPositions);
        const { examples, evalExamples } = await loadPairs(options, tokenizer, limit, {
          directory: run.dir,
          say,
        });
        checkRewardMemory({ gpu, say }, options, directory, longestOf(examples));
        const model = loadTrainedHeaded(gpu, directory, options, say);
        stage.accompany((to) => describeModel(model, to, { tokenizerFrom }));
        yield* reward(stage, { workspace, model, examples, evalExamples }, options);
        if (stage.interrupted()) return;
        await saveModel(gpu, model, join(run.dir, "model"), { tokenizerFrom });
        stage.finish(stage.newest()!.step);
      },
    },
    recorded,
    io,
  );
};
