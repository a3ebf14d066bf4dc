/**
 * The sources of rewards that options name: reward models, functions, an endpoint, a judge.
 *
 * @module
 */
import { basename, dirname, join } from "node:path";
import { encodeContent, endedContent, joinContents } from "../data/encode.ts";
import { type RewardBatch, type RewardSource } from "../reward/source.ts";
import { builtinReward } from "../reward/builtin.ts";
import { combineScores } from "../reward/ensemble.ts";
import { isFunctionFile, loadFunctionFile } from "../reward/function_file.ts";
import { endpointReward } from "../reward/endpoint.ts";
import { type JudgeCache, judgeReward } from "../reward/judge.ts";
import { checkVocabulary, loadTokenizer, type Tokenizer } from "../data/tokenizer.ts";
import type { Dtype } from "../model/frozen.ts";
import { fileExists, readTextFile } from "../model/json_file.ts";
import { loadFrozen } from "../model/load.ts";
import { isGguf } from "../model/open.ts";
import { configOf, tokenizerSource } from "../model/peft.ts";
import { documentScorer } from "../sample/score.ts";
import type { Workspace } from "../tape/plan.ts";
import { openJudgeOf } from "./judge.ts";
import type { RewardSourceOptions } from "./options/rewards.ts";

/** What {@linkcode openRewards} needs besides the options. */
export interface RewardSettings {
  /** The policy's. */
  tokenizer: Tokenizer;
  /** Most tokens of a completion, from which built-in rewards take their lengths. */
  maxCompletionLength: number;
  /** Form in which reward models are held. */
  dtype?: Dtype;
  /** Documents in one pass of a reward model; 64 if not given. */
  batchSize?: number;
  /** Keeps a judge's answers, and what it has cost, between processes; in memory if not given. */
  judgeCache?: JudgeCache;
  /** Keys the jitter of pauses. */
  seed: number;
  /** Tells a person something. */
  say: (line: string) => void;
}

/** Whether options name any source of rewards. */
export function hasRewards(options: Partial<RewardSourceOptions>): boolean {
  return [options.rewardModelPath, options.rewardFuncs, options.rewardUrl, options.judgeUrl].some((one) =>
    one !== undefined
  );
}

/** Tokenizer files are at most so large. */
const MOST_TOKENIZER_BYTES = 256e6;

/** A source without its weight. */
type Unweighted = Omit<RewardSource, "weight">;

/**
 * Opens all sources, in the order models, functions, endpoint, judge. They are to be closed at the end.
 *
 * @throws {Error} where there is none, or the weights are not one per source.
 */
export async function openRewards(
  workspace: Workspace,
  options: RewardSourceOptions,
  settings: RewardSettings,
): Promise<RewardSource[]> {
  const sources: Unweighted[] = [
    ...rewardModels(workspace, options, settings),
    ...await rewardFunctions(options.rewardFuncs ?? [], settings),
    ...endpoints(options, settings),
    ...judges(options, settings),
  ];
  if (sources.length === 0) {
    throw new Error(
      "There is nothing that gives rewards. Give reward_model, reward_funcs, reward_url or judge_url.",
    );
  }
  const weights = options.rewardWeights ?? sources.map(() => 1);
  if (weights.length !== sources.length) {
    throw new Error(
      `Got ${weights.length} reward_weights for ${sources.length} rewards (${
        sources.map(({ name }) => name).join(", ")
      }). Expected one for each.`,
    );
  }
  const named = distinct(sources.map(({ name }) => name));
  return sources.map((source, i) => ({ ...source, name: named[i], weight: weights[i] }));
}

/** Names that differ: a second `rm` becomes `rm_2`. */
function distinct(names: string[]): string[] {
  const seen = new Map<string, number>();
  return names.map((name) => {
    const count = (seen.get(name) ?? 0) + 1;
    seen.set(name, count);
    return count === 1 ? name : `${name}_${count}`;
  });
}

/** What a model's directory is called, for metrics: its own name, or that of what it is the result of. */
export function rewardName(path: string): string {
  const cached = /models--[^/\\]*?--([^/\\]+)[/\\]snapshots/.exec(path)?.[1];
  if (cached !== undefined) return cached;
  const own = basename(path);
  return /^(model|step-\d+|checkpoints)$/.test(own) && dirname(path) !== path && dirname(path) !== "."
    ? rewardName(dirname(path))
    : own;
}

/** The reward models, each or all as one. */
function rewardModels(
  workspace: Workspace,
  { rewardModelPath: paths = [], rewardEnsemble: rule, rewardEnsembleLambda: lambda }: RewardSourceOptions,
  settings: RewardSettings,
): Unweighted[] {
  if (rule !== "none" && paths.length < 2) {
    throw new Error(
      `reward_ensemble ${rule} is of several reward models, but reward_model names ${paths.length}. Name at least two.`,
    );
  }
  const models = paths.map((path) => openRewardModel(workspace, path, settings));
  if (rule === "none") {
    return models.map((model, i) => ({ ...model, name: rewardName(paths[i]), usesGpu: true }));
  }
  return [{
    name: `ensemble_${rule}`,
    usesGpu: true,
    async score(batch) {
      const scores: number[][] = [];
      for (const { score } of models) scores.push(await score(batch));
      return combineScores(scores, { rule, lambda });
    },
    close: () => models.forEach(({ close }) => close()),
  }];
}

/** A reward model that scores batches. */
interface OpenRewardModel {
  score(batch: RewardBatch): Promise<number[]>;
  close(): void;
}

function openRewardModel(
  workspace: Workspace,
  path: string,
  { tokenizer, dtype, batchSize = 64 }: RewardSettings,
): OpenRewardModel {
  const config = configOf(path);
  if (config.architecture !== "reward") {
    throw new Error(
      `Cannot take rewards from ${path}: it is a language model. Expected a reward model, as keel reward makes it.`,
    );
  }
  const own = otherTokenizer(path, tokenizer);
  checkVocabulary(own ?? tokenizer, config.vocabSize, path);
  const model = loadFrozen(workspace.gpu, path, dtype);
  const scorer = documentScorer(workspace, model);
  return {
    async score(batch) {
      const documents = batch.prompts.map((_, i) => documentOf(batch, i, own));
      documents.forEach(({ length }) => {
        if (length <= config.maxPositions) return;
        throw new Error(
          `A prompt with its completion has ${length} tokens; the reward model ${path} has ${config.maxPositions} positions. Use shorter prompts or completions.`,
        );
      });
      const scores: number[] = [];
      for (let at = 0; at < documents.length; at += batchSize) {
        scores.push(...await scorer(documents.slice(at, at + batchSize)));
      }
      return scores;
    },
    close: () => scorer.close(),
  };
}

/** Tokens that a reward model reads: those that were sampled, or those that its own tokenizer makes of the text. */
function documentOf(batch: RewardBatch, i: number, own: Tokenizer | undefined): number[] {
  if (!own) return [...batch.promptIds[i], ...batch.completionIds[i]];
  const completion = batch.ended[i] ? endedContent(own, batch.completions[i]) : batch.completions[i];
  return encodeContent(own, joinContents(batch.prompts[i], completion));
}

/** The tokenizer of a reward model where it has one that is not the policy's. */
function otherTokenizer(path: string, policy: Tokenizer): Tokenizer | undefined {
  const source = tokenizerSource(path);
  if (!isGguf(source) && !fileExists(join(source, "tokenizer.json"))) return undefined;
  if (textOf(source) === textOf(policy.source)) return undefined;
  return loadTokenizer(source);
}

/** What a tokenizer's file says; the path itself where it lies in a GGUF file. */
function textOf(source: string): string {
  return isGguf(source) ? source : readTextFile(join(source, "tokenizer.json"), MOST_TOKENIZER_BYTES);
}

/** Built-in rewards and those of files. */
async function rewardFunctions(
  named: string[],
  { maxCompletionLength }: RewardSettings,
): Promise<Unweighted[]> {
  const sources: Unweighted[] = [];
  for (const text of named) {
    if (isFunctionFile(text)) sources.push(...await loadFunctionFile(text));
    else {
      const { name, score } = builtinReward(text, maxCompletionLength);
      sources.push({ name, score: async (batch) => await score(batch) });
    }
  }
  return sources;
}

function endpoints(options: RewardSourceOptions, { tokenizer, seed }: RewardSettings): Unweighted[] {
  if (options.rewardUrl === undefined) return [];
  return [endpointReward({
    url: options.rewardUrl,
    timeout: options.rewardTimeout * 1000,
    retries: options.rewardRetries,
    labelColumn: options.rewardLabelColumn,
    decode: (ids) => tokenizer.decode(ids, { skipSpecialTokens: false }),
    seed,
  })];
}

function judges(options: RewardSourceOptions, { judgeCache: cache, seed }: RewardSettings): Unweighted[] {
  return options.judgeUrl === undefined ? [] : [judgeReward(openJudgeOf(options, { cache, seed }))];
}
