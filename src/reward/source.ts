/**
 * Rewards of completions: what a source of rewards gets to see, what it returns, and how several score a batch.
 *
 * @module
 */
import type { Content } from "../data/messages.ts";
import type { PromptRow } from "../data/tokenize.ts";
import { allEnded } from "./settle.ts";

/** Completions that are to be scored, one entry of each list per completion. */
export interface RewardBatch {
  /** As in the dataset: text or messages. */
  prompts: Content[];
  /** Text, or one assistant message in a list where the prompt is a conversation, as in TRL. */
  completions: Content[];
  /** Token ids of the prompts. */
  promptIds: number[][];
  /** Token ids of the completions, the stop token included. */
  completionIds: number[][];
  /** Whether a stop token ended the completion, rather than the limit on its tokens. */
  ended: boolean[];
  /** Every further column of the dataset, one value per completion. */
  columns: Record<string, unknown[]>;
  /** The step that will learn from the completions. */
  step: number;
}

/** Something that scores completions. */
export interface RewardSource {
  /** For metrics: `rewards/<name>/mean`. */
  name: string;
  /** Its share in the reward. */
  weight: number;
  /** Whether it computes on the GPU, where nothing else may compute until its scores are there. */
  usesGpu?: boolean;
  /** One score per completion; null: not applicable to that completion (TRL's None). */
  score(batch: RewardBatch): Promise<(number | null)[]>;
  /** Counts of its own so far, by the names that metrics have. */
  metrics?(): Record<string, number>;
  /** Frees what it holds. */
  close?(): void;
}

/** A sampled completion. */
export interface SampledCompletion {
  /** Token ids, the stop token included. */
  ids: number[];
  /** Whether a stop token ended it. */
  ended: boolean;
}

/** The text of a completion as prompts have it: an assistant's message where the prompt is a conversation. */
export function completionContent(prompt: Content, text: string): Content {
  return typeof prompt === "string" ? text : [{ role: "assistant", content: text }];
}

/** The text of a completion in either form. */
export function completionText(completion: Content): string {
  if (typeof completion === "string") return completion;
  return completion.map(({ content }) => content ?? "").join("\n");
}

/**
 * The batch of some prompts, each with one completion. A prompt that was answered several times stands there as often.
 *
 * @param decode text of token ids, without special tokens
 */
export function rewardBatch(
  rows: PromptRow[],
  completions: SampledCompletion[],
  decode: (ids: number[]) => string,
  step: number,
): RewardBatch {
  const names = new Set(rows.flatMap(({ columns }) => Object.keys(columns)));
  return {
    prompts: rows.map(({ prompt }) => prompt),
    completions: rows.map(({ prompt }, i) => completionContent(prompt, decode(completions[i].ids))),
    promptIds: rows.map(({ ids }) => ids),
    completionIds: completions.map(({ ids }) => ids),
    ended: completions.map(({ ended }) => ended),
    columns: Object.fromEntries(
      Array.from(names, (name) => [name, rows.map(({ columns }) => columns[name] ?? null)]),
    ),
    step,
  };
}

/** One finite score or null per completion; another number would silently become a completion that nobody could score. */
function checkScores(name: string, scores: (number | null)[], { completions, prompts }: RewardBatch): void {
  if (scores.length !== completions.length) {
    throw new Error(
      `The reward ${name} returned ${scores.length} scores for ${completions.length} completions.`,
    );
  }
  const wrong = scores.findIndex((score) => score !== null && !Number.isFinite(score));
  if (wrong < 0) return;
  throw new Error(
    `The reward ${name} is ${scores[wrong]} for a completion of ${
      JSON.stringify(completionText(prompts[wrong]).slice(0, 80))
    }. Expected a finite number, or null where it does not apply.`,
  );
}

/**
 * Scores of a batch by each of the sources, [sources][completions]: all at once, except for those on the GPU, which take turns.
 *
 * @example
 * ```ts
 * import { scoreBatch } from "./source.ts";
 * const batch = {
 *   prompts: ["1 + 1?", "1 + 1?"],
 *   completions: ["2", "It is 3."],
 *   promptIds: [[1], [1]],
 *   completionIds: [[2], [3, 4]],
 *   ended: [true, true],
 *   columns: {},
 *   step: 1,
 * };
 * const short = { name: "short", weight: 1, score: () => Promise.resolve([1, 0.5]) };
 * console.log(await scoreBatch([short], batch)); // [ [ 1, 0.5 ] ]
 * ```
 *
 * @throws {Error} that names the source, where it does not return one finite number or null per completion.
 */
export async function scoreBatch(sources: RewardSource[], batch: RewardBatch): Promise<(number | null)[][]> {
  let turn: Promise<unknown> = Promise.resolve();
  const scores = sources.map((source) => {
    if (!source.usesGpu) return source.score(batch);
    const own = turn.then(() => source.score(batch));
    turn = own;
    return own;
  });
  const values = await allEnded(scores);
  values.forEach((scores, i) => checkScores(sources[i].name, scores, batch));
  return values;
}

/** What sources say of themselves, by the names that metrics have. */
export function sourceMetrics(sources: Pick<RewardSource, "metrics">[]): Record<string, number> {
  return Object.assign({}, ...sources.map((source) => source.metrics?.()));
}
