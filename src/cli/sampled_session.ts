/**
 * What commands share that sample several completions of each prompt: the models, the prompts, what is finished already.
 *
 * @module
 */
import { join } from "node:path";
import { checkVocabulary, loadTokenizer } from "../data/tokenizer.ts";
import { loadFrozen } from "../model/load.ts";
import { configOf, tokenizerSource } from "../model/peft.ts";
import { type FinishedRows, openFinishedRows } from "../run/finished_rows.ts";
import { toJson } from "../run/json.ts";
import { type JudgeAnswers, openJudgeAnswers } from "../run/judge_cache.ts";
import { readRunConfig } from "../run/run.ts";
import { lengthLimit, loadPromptRows, longestPrompt } from "../train/load_data.ts";
import { snakeCase } from "../train/options/names.ts";
import type { SampledOptions } from "../train/options/sampled.ts";
import type { RewardSettings } from "../train/rewards.ts";
import { checkSampledMemory, SCORED_ROWS } from "../train/sampled_needs.ts";
import type { SampledInputs } from "../train/sampled_prompts.ts";
import type { Session } from "./session.ts";

/** Options without which finished prompts would be of another kind than those to come. */
const SAME: (keyof SampledOptions)[] = [
  "modelNameOrPath",
  "datasetName",
  "datasetConfig",
  "datasetTrainSplit",
  "maxPromptLength",
  "numGenerations",
  "maxCompletionLength",
  "temperature",
  "topP",
  "topK",
  "seed",
  "rewardModelPath",
  "rewardEnsemble",
  "rewardEnsembleLambda",
  "rewardFuncs",
  "rewardUrl",
  "rewardWeights",
  "judgeUrl",
  "judgeModel",
  "judgeRubric",
];

/** Refuses to go on with a run whose finished prompts were sampled or scored in another way. */
export function checkSame<O extends SampledOptions>(recorded: O, further: (keyof O & string)[] = []): void {
  const before = recorded.resume ? readRunConfig(recorded.outputDir)?.options : undefined;
  if (!before) return;
  const changed = [...SAME, ...further].filter((name) =>
    toJson(before[name as string] ?? null) !== toJson(recorded[name as keyof O] ?? null)
  );
  if (changed.length === 0) return;
  const what = changed.map((name) =>
    `${snakeCase(name as string)} was ${toJson(before[name as string] ?? null)} and is ${
      toJson(recorded[name as keyof O] ?? null)
    }`
  ).join("; ");
  throw new Error(
    `The prompts that are finished in ${recorded.outputDir} were done in another way: ${what}. Use the same options, or another --output_dir.`,
  );
}

/** What a command works with. */
export interface SampledSession<T> extends SampledInputs {
  finished: FinishedRows<T>;
  /** For {@linkcode openRewards}; a judge's answers are kept in the run's database. */
  rewards: RewardSettings;
  /** Closes what is open in the run's database. */
  close(): void;
}

/** Loads the policy and the prompts and opens what is finished; `rewardModels` are counted in the memory that is needed. */
export async function openSampled<T>(
  { workspace, run, say }: Session,
  options: SampledOptions,
  rewardModels: string[],
): Promise<SampledSession<T>> {
  const { gpu } = workspace, directory = options.modelNameOrPath;
  const config = configOf(directory), tokenizer = loadTokenizer(tokenizerSource(directory));
  if (config.architecture === "reward") {
    throw new Error(`Cannot sample from ${directory}: it is a reward model. Expected a language model.`);
  }
  checkVocabulary(tokenizer, config.vocabSize, directory);
  const room = config.maxPositions - options.maxCompletionLength;
  if (room < 1) {
    throw new Error(
      `Completions of ${options.maxCompletionLength} tokens leave no room for a prompt in the model's ${config.maxPositions} positions. Use a smaller --max_completion_length.`,
    );
  }
  const prompts = await loadPromptRows(options, tokenizer, lengthLimit(options.maxPromptLength, room), {
    directory: run.dir,
    say,
  });
  checkSampledMemory({ gpu, say }, options, directory, rewardModels, longestPrompt(prompts));
  const database = join(run.dir, "run.db");
  const finished = openFinishedRows<T>(database), answers: JudgeAnswers = openJudgeAnswers(database);
  return {
    workspace,
    policy: loadFrozen(gpu, directory, options.dtype),
    tokenizer,
    prompts,
    stopIds: config.eosIds,
    finished,
    rewards: {
      tokenizer,
      maxCompletionLength: options.maxCompletionLength,
      dtype: options.dtype,
      batchSize: SCORED_ROWS,
      judgeCache: answers,
      seed: options.seed,
      say,
    },
    close() {
      finished.close();
      answers.close();
    },
  };
}

/** What is finished of the first `count` prompts. */
export function* finishedBefore<T extends { row: number }>(
  finished: FinishedRows<T>,
  count: number,
): Generator<T> {
  for (const one of finished.all()) {
    if (one.row < count) yield one;
  }
}
