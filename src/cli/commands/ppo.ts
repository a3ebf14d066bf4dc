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
import { lengthLimit, loadPrompts, longestPrompt } from "../../train/load_data.ts";
import { checkPpoMemory } from "../../train/needs.ts";
import { loadReference, loadTrained, loadTrainedHeaded } from "../../train/open_model.ts";
import type { PpoOptions } from "../../train/options/ppo.ts";
import { ppo } from "../../train/ppo.ts";
import { fetchNamed } from "../hub_names.ts";
import type { CommandBody } from "../program.ts";
import { trainingSession } from "../session.ts";

/** Scores are used as the reward model gives them. */
const AS_THEY_ARE = { mean: 0, std: 1 };

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options, recorded } = await fetchNamed<PpoOptions>(given, io);
  const directory = options.sftModelPath ?? options.modelNameOrPath;
  const tokenizerFrom = tokenizerSource(directory);
  return trainingSession(
    {
      name: "ppo",
      stages: ["ppo"],
      async *steps({ workspace, run, say }) {
        const { gpu } = workspace;
        const stage = run.stage("ppo");
        const { maxPositions, eosIds } = configOf(directory);
        const tokenizer = loadTokenizer(tokenizerFrom);
        for (const path of [directory, options.rewardModelPath]) {
          checkVocabulary(tokenizer, configOf(path).vocabSize, path);
        }
        const room = maxPositions - options.responseLength;
        if (room < 1) {
          throw new Error(
            `Completions of ${options.responseLength} tokens leave no room for a prompt in the model's ${maxPositions} positions. Use a smaller --response_length.`,
          );
        }
        const limit = lengthLimit(options.maxPromptLength, room);
        const stopIds = options.stopTokenId !== undefined
          ? [options.stopTokenId]
          : options.stopToken === "eos"
          ? eosIds
          : [];
        const prompts = await loadPrompts(options, tokenizer, limit, { directory: run.dir, say });
        checkPpoMemory({ gpu, say }, options, directory, longestPrompt(prompts));
        const policy = loadTrained(gpu, directory, options, say);
        stage.accompany((to) => describeModel(policy, to, { tokenizerFrom }));
        yield* ppo(stage, {
          workspace,
          policy,
          reference: loadReference(gpu, directory, policy, options),
          reward: loadHeaded(gpu, options.rewardModelPath, options.seed, { dtype: options.dtype }),
          value: loadTrainedHeaded(
            gpu,
            options.criticInit === "reward" ? options.rewardModelPath : directory,
            options,
            say,
          ),
          scoreScale: AS_THEY_ARE,
          valueScale: AS_THEY_ARE,
          prompts,
          stopIds,
          decode: (ids) => tokenizer.decode(ids),
          keepAverage: (average) => saveModel(gpu, average, join(run.dir, "model_ema"), { tokenizerFrom }),
        }, options);
        if (stage.interrupted()) return;
        await saveModel(gpu, policy, join(run.dir, "model"), { tokenizerFrom });
        stage.finish(stage.newest()!.step);
      },
    },
    recorded,
    io,
  );
};
