/**
 * `keel ppo`: a policy against a reward model.
 *
 * @module
 */
import { join } from "node:path";
import { checkVocabulary, loadTokenizer } from "../../data/tokenizer.ts";
import { loadHeaded } from "../../model/headed.ts";
import { describeModel, loadModel, saveModel } from "../../model/load.ts";
import { lengthLimit, loadPrompts } from "../../train/load_data.ts";
import type { PpoOptions } from "../../train/options/ppo.ts";
import { ppo } from "../../train/ppo.ts";
import type { CommandBody } from "../program.ts";
import { trainingSession } from "../session.ts";

/** Scores are used as the reward model gives them. */
const AS_THEY_ARE = { mean: 0, std: 1 };

/** Runs the command. */
export const run: CommandBody = (given, io) => {
  const options = given as unknown as PpoOptions;
  const directory = options.sftModelPath ?? options.modelNameOrPath;
  return trainingSession(
    {
      name: "ppo",
      stages: ["ppo"],
      async *steps({ workspace, run, say }) {
        const { gpu } = workspace;
        const stage = run.stage("ppo");
        const policy = loadModel(gpu, directory);
        const reward = loadHeaded(gpu, options.rewardModelPath, options.seed);
        stage.accompany((to) => describeModel(policy.config, to, { tokenizerFrom: directory }));
        const tokenizer = loadTokenizer(directory);
        for (const [model, name] of [[policy, directory], [reward, options.rewardModelPath]] as const) {
          checkVocabulary(tokenizer, model.config.vocabSize, name);
        }
        const room = policy.config.maxPositions - options.responseLength;
        if (room < 1) {
          throw new Error(
            `Completions of ${options.responseLength} tokens leave no room for a prompt in the model's ${policy.config.maxPositions} positions. Use a smaller --response_length.`,
          );
        }
        const limit = lengthLimit(options.maxPromptLength, room);
        const stopIds = options.stopTokenId !== undefined
          ? [options.stopTokenId]
          : options.stopToken === "eos"
          ? policy.config.eosIds
          : [];
        yield* ppo(stage, {
          workspace,
          policy,
          reference: loadModel(gpu, directory),
          reward,
          value: loadHeaded(
            gpu,
            options.criticInit === "reward" ? options.rewardModelPath : directory,
            options.seed,
          ),
          scoreScale: AS_THEY_ARE,
          valueScale: AS_THEY_ARE,
          prompts: await loadPrompts(options.datasetName, tokenizer, limit, say),
          stopIds,
          decode: (ids) => tokenizer.decode(ids),
        }, options);
        if (stage.interrupted()) return;
        await saveModel(gpu, policy, join(run.dir, "model"), { tokenizerFrom: directory });
        stage.finish(stage.newest()!.step);
      },
    },
    options,
    io,
  );
};
