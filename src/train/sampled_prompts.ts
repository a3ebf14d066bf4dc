/**
 * Several completions of each prompt of a dataset, sampled and scored a few prompts at a time, so that what is finished can be kept.
 *
 * While the completions of some prompts are scored, which may mean waiting for a server, those of the next are sampled already.
 *
 * @module
 */
import type { Rows } from "../data/batches.ts";
import type { Content } from "../data/messages.ts";
import type { PromptRow } from "../data/tokenize.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import type { Model } from "../model/decoder.ts";
import {
  completionContent,
  type RewardBatch,
  rewardBatch,
  type RewardSource,
  scoreBatch,
} from "../reward/source.ts";
import { sumRewards } from "../rl/group_advantages.ts";
import { openGenerator } from "../sample/generate.ts";
import type { Workspace } from "../tape/plan.ts";
import type { SampledOptions } from "./options/sampled.ts";

/** What is sampled from what. */
export interface SampledInputs {
  /** Where to sample. */
  workspace: Workspace;
  /** What answers. */
  policy: Model;
  /** The policy's. */
  tokenizer: Tokenizer;
  /** What is answered. */
  prompts: Rows<PromptRow>;
  /** Tokens that end a completion. */
  stopIds: number[];
}

/** A prompt with its completions. */
export interface SampledPrompt {
  /** Number of the prompt. */
  row: number;
  prompt: PromptRow;
  /** As text or as an assistant's message. */
  completions: Content[];
  /** Their tokens. */
  ids: number[][];
  /** Whether a stop token ended each of them. */
  ended: boolean[];
}

/** Stream of the random numbers; PPO and its kin count from 1. */
const STREAM = 0;

/** Numbers of the prompts that are wanted: the first of the dataset, at most so many. */
export function wantedPrompts(prompts: Rows<PromptRow>, { maxPrompts }: SampledOptions): number {
  return Math.min(prompts.length, maxPrompts ?? Infinity);
}

/**
 * The text of a completion, as it continues its prompt: some tokenizers write a word's blank only where something stands before it.
 */
function textOf(tokenizer: Tokenizer, { ids: prompt, prompt: content }: PromptRow, ids: number[]): string {
  const alone = tokenizer.decode(ids);
  if (typeof content !== "string") return alone;
  const before = tokenizer.decode(prompt), whole = tokenizer.decode([...prompt, ...ids]);
  return whole.startsWith(before) ? whole.slice(before.length) : alone;
}

/** What is done with the completions. */
export interface GroupWork<S> {
  /** Whether a prompt is finished already. */
  done: (row: number) => boolean;
  /** Work on the GPU, which is done before the next prompts are sampled. */
  score: (group: SampledPrompt[]) => Promise<S>;
  /** Everything else, while the next prompts are sampled. */
  finish: (group: SampledPrompt[], scores: S) => Promise<void>;
  /** Asked before each group. */
  stopped: () => boolean;
}

/**
 * Samples the completions of the prompts that are not done, `batchSize` prompts at a time in their order; yields the number of prompts
 * of each group once it is finished. What is drawn for a prompt depends on its number and the seed alone.
 */
export async function* sampledPrompts<S>(
  { workspace, policy, tokenizer, prompts, stopIds }: SampledInputs,
  options: SampledOptions,
  { done, score, finish, stopped }: GroupWork<S>,
): AsyncGenerator<number> {
  const generator = openGenerator(workspace, policy), each = options.numGenerations;
  const left = Array.from({ length: wantedPrompts(prompts, options) }, (_, row) => row).filter((row) =>
    !done(row)
  );
  /** The group that is being finished. */
  let before: { count: number; done: Promise<void> } | undefined;
  try {
    for (let at = 0; at < left.length && !stopped(); at += options.batchSize) {
      const rows = left.slice(at, at + options.batchSize);
      const group = rows.map((row) => ({ row, prompt: prompts.at(row)! }));
      const drawn = await generator.generate(
        group.map(({ row, prompt }) => ({
          ids: prompt.ids,
          samples: Array.from({ length: each }, (_, k) => row * each + k),
        })),
        {
          temperature: options.temperature,
          topK: options.topK,
          topP: options.topP,
          stopIds,
          maxNewTokens: options.maxCompletionLength,
          seed: options.seed,
          stream: STREAM,
        },
      );
      const sampled = group.map(({ row, prompt }, i): SampledPrompt => {
        const own = drawn.slice(i * each, (i + 1) * each);
        return {
          row,
          prompt,
          completions: own.map(({ ids }) => completionContent(prompt.prompt, textOf(tokenizer, prompt, ids))),
          ids: own.map(({ ids }) => ids),
          ended: own.map(({ finishReason }) => finishReason === "stop"),
        };
      });
      const scores = await score(sampled);
      if (before) {
        await before.done;
        yield before.count;
      }
      before = { count: rows.length, done: finish(sampled, scores) };
      // It is waited for above; until then its failure is nobody's fault.
      before.done.catch(() => {});
    }
    if (before) {
      await before.done;
      yield before.count;
    }
  } finally {
    await before?.done.catch(() => {});
    generator.close();
  }
}

/** The completions of some prompts as rewards see them. */
function batchOf(group: SampledPrompt[]): RewardBatch {
  const rows = group.flatMap(({ prompt, completions }) => completions.map(() => prompt));
  const drawn = group.flatMap(({ ids, ended }) => ids.map((one, i) => ({ ids: one, ended: ended[i] })));
  return {
    ...rewardBatch(rows, drawn, () => "", 0),
    completions: group.flatMap(({ completions }) => completions),
  };
}

/** Scores by source, one per completion of a group. */
export type SourceScores = Map<RewardSource, (number | null)[]>;

/** Scores of the completions of a group by those sources that use the GPU, or by the others. */
export async function scoresOf(
  group: SampledPrompt[],
  sources: RewardSource[],
  usesGpu: boolean,
): Promise<SourceScores> {
  const some = sources.filter((source) => (source.usesGpu ?? false) === usesGpu);
  const values = await scoreBatch(some, batchOf(group));
  return new Map(some.map((source, k) => [source, values[k]]));
}

/** The weighted sums of some sources' scores; null for a completion that none of them could score. */
export function sumsOf(sources: RewardSource[], scores: SourceScores): (number | null)[] {
  const sums = sumRewards(
    sources.map((source) => scores.get(source)!),
    sources.map(({ weight }) => weight),
  );
  return Array.from(sums, (sum) => Number.isNaN(sum) ? null : sum);
}

/** Columns of a prompt that chat templates read, for rows that are made of it. */
export function templateColumns({ columns }: PromptRow): Record<string, unknown> | undefined {
  const found = ["tools", "chat_template_kwargs"].filter((name) => (columns[name] ?? null) !== null);
  return found.length ? Object.fromEntries(found.map((name) => [name, columns[name]])) : undefined;
}
