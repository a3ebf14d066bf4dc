/**
 * What the commands of the online methods without a critic share: models, prompts and rewards from their options.
 *
 * @module
 */
import { join } from "node:path";
import { checkVocabulary, loadTokenizer } from "../data/tokenizer.ts";
import { frozenCopy } from "../model/blend.ts";
import { describeModel, saveModel } from "../model/load.ts";
import { configOf, tokenizerSource } from "../model/peft.ts";
import { openJudgeAnswers } from "../run/judge_cache.ts";
import type { StageRun } from "../run/run.ts";
import type { StepEvent } from "../train/events.ts";
import { generationPlan } from "../train/generation.ts";
import type { OnlineInputs } from "../train/group_rollout.ts";
import { lengthLimit, loadPromptRows, longestPrompt } from "../train/load_data.ts";
import { type AnyOnlineOptions, checkOnlineMemory } from "../train/online_needs.ts";
import { loadReference, loadTrained } from "../train/open_model.ts";
import { openRewards } from "../train/rewards.ts";
import { fetchNamed } from "./hub_names.ts";
import type { CommandBody } from "./program.ts";
import { trainingSession } from "./session.ts";

/** One of the methods. */
export type OnlineTrainer<O> = (run: StageRun, data: OnlineInputs, options: O) => AsyncGenerator<StepEvent>;

/** The body of a command; `check` throws where options do not go together. */
export function onlineCommand<O extends AnyOnlineOptions>(
  name: string,
  train: OnlineTrainer<O>,
  check: (options: O, say: (line: string) => void) => void = () => {},
): CommandBody {
  return async (given, io) => {
    const { options, recorded } = await fetchNamed<O>(given, io);
    const directory = options.modelNameOrPath;
    const tokenizerFrom = tokenizerSource(directory);
    return trainingSession(
      {
        name,
        stages: [name],
        async *steps({ workspace, run, say }) {
          const stage = run.stage(name);
          const { gpu } = workspace, { vocabSize, maxPositions, eosIds } = configOf(directory);
          generationPlan(options);
          check(options, say);
          const tokenizer = loadTokenizer(tokenizerFrom);
          checkVocabulary(tokenizer, vocabSize, directory);
          const { maxCompletionLength } = options, room = maxPositions - maxCompletionLength;
          if (room < 1) {
            throw new Error(
              `Completions of ${maxCompletionLength} tokens leave no room for a prompt in the model's ${maxPositions} positions. Use a smaller --max_completion_length.`,
            );
          }
          const limit = lengthLimit(options.maxPromptLength, room);
          const prompts = await loadPromptRows(options, tokenizer, limit, { directory: run.dir, say });
          checkOnlineMemory({ gpu, say }, options, directory, longestPrompt(prompts));
          const policy = loadTrained(gpu, directory, options, say);
          stage.accompany((to) => describeModel(policy, to, { tokenizerFrom }));
          const reference = options.beta === 0
            ? undefined
            : options.syncRefModel
            ? frozenCopy(gpu, policy)
            : loadReference(gpu, directory, policy, options);
          const judgeCache = openJudgeAnswers(join(run.dir, "run.db"));
          const rewards = await openRewards(workspace, options, {
            tokenizer,
            maxCompletionLength,
            dtype: options.dtype,
            batchSize: options.localRolloutForwardBatchSize,
            judgeCache,
            seed: options.seed,
            say,
          });
          try {
            yield* train(stage, {
              workspace,
              policy,
              reference,
              prompts,
              rewards,
              stopIds: eosIds,
              decode: (ids) => tokenizer.decode(ids),
            }, options);
          } finally {
            for (const source of rewards) source.close?.();
            judgeCache.close();
          }
          if (stage.interrupted()) return;
          await saveModel(gpu, policy, join(run.dir, "model"), { tokenizerFrom });
          stage.finish(stage.newest()!.step);
        },
      },
      recorded,
      io,
    );
  };
}
