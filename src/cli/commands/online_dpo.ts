/**
 * `keel online-dpo`: a policy against itself, with rewards or a judge that says which answer is better.
 *
 * @module
 */
import { join } from "node:path";
import { checkVocabulary, loadTokenizer } from "../../data/tokenizer.ts";
import { describeModel, saveModel } from "../../model/load.ts";
import { configOf, tokenizerSource } from "../../model/peft.ts";
import { openJudgeAnswers } from "../../run/judge_cache.ts";
import { openJudgeOf } from "../../train/judge.ts";
import { lengthLimit, loadPromptRows, longestPrompt } from "../../train/load_data.ts";
import { onlineDpo } from "../../train/online_dpo.ts";
import { checkOnlineDpoMemory } from "../../train/online_needs.ts";
import { loadReference, loadTrained } from "../../train/open_model.ts";
import type { OnlineDpoOptions } from "../../train/options/online_dpo.ts";
import { judgeByComparison, judgeByRewards } from "../../train/pair_judges.ts";
import { hasRewards, openRewards } from "../../train/rewards.ts";
import { fetchNamed } from "../hub_names.ts";
import type { CommandBody } from "../program.ts";
import { trainingSession } from "../session.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options, recorded } = await fetchNamed<OnlineDpoOptions>(given, io);
  const directory = options.modelNameOrPath;
  const tokenizerFrom = tokenizerSource(directory);
  return trainingSession(
    {
      name: "online-dpo",
      stages: ["online-dpo"],
      async *steps({ workspace, run, say }) {
        const stage = run.stage("online-dpo");
        const { gpu } = workspace, { vocabSize, maxPositions, eosIds } = configOf(directory);
        const tokenizer = loadTokenizer(tokenizerFrom);
        checkVocabulary(tokenizer, vocabSize, directory);
        const { maxNewTokens: maxCompletionLength, seed, dtype } = options;
        const room = lengthLimit(options.maxLength, maxPositions) - maxCompletionLength;
        if (room < 1) {
          throw new Error(
            `Completions of ${maxCompletionLength} tokens leave no room for a prompt in max_length ${options.maxLength} and the model's ${maxPositions} positions. Use a smaller --max_new_tokens.`,
          );
        }
        const prompts = await loadPromptRows(options, tokenizer, room, { directory: run.dir, say });
        checkOnlineDpoMemory({ gpu, say }, options, directory, longestPrompt(prompts));
        const policy = loadTrained(gpu, directory, options, say);
        stage.accompany((to) => describeModel(policy, to, { tokenizerFrom }));
        const decode = (ids: number[]) => tokenizer.decode(ids);
        const judgeCache = openJudgeAnswers(join(run.dir, "run.db"));
        // A judge compares the two answers, unless its scores are to be added to other rewards.
        const compares = !hasRewards({ ...options, judgeUrl: undefined }) && options.judgeUrl !== undefined;
        const sources = compares ? [] : await openRewards(workspace, options, {
          tokenizer,
          maxCompletionLength,
          dtype,
          judgeCache,
          seed,
          say,
        });
        try {
          yield* onlineDpo(stage, {
            workspace,
            policy,
            reference: loadReference(gpu, directory, policy, options),
            prompts,
            judge: compares
              ? judgeByComparison(openJudgeOf(options, { cache: judgeCache, seed }), decode)
              : judgeByRewards(sources, decode, options.missingEosPenalty),
            stopIds: eosIds,
            decode,
          }, options);
        } finally {
          for (const source of sources) source.close?.();
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
