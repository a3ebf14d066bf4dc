/**
 * Preferences for methods that learn from a policy's log-probabilities of answers: pairs of answers, and single answers made of
 * pairs, as TRL 1.16 tokenises them.
 *
 * @module
 */
import { encodeAnswered, endedContent, naming } from "./encode.ts";
import { detectType, extractPrompt, parseExample, type SplitPair } from "./formats.ts";
import type { Content, TemplateInputs } from "./messages.ts";
import type { DataRow } from "./rows.ts";
import type { ExampleCodec } from "./store.ts";
import { refuseType, rowParser, type RowTokenizer, type UnpairedExample } from "./tokenize.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** A prompt with an answer. */
export interface Answered {
  /** Prompt and answer. */
  ids: number[];
  /** Tokens at the beginning that are prompt; 0 where a cut has left none. */
  promptLength: number;
}

/** Two answers to a prompt. */
export interface PreferenceExample {
  /** The better one. */
  chosen: Answered;
  /** The other. */
  rejected: Answered;
}

/** Which end of a longer sequence is kept. */
export type TruncationMode = "keep_start" | "keep_end";

/** How pairs are tokenised. */
export interface PreferenceSettings {
  /** Longest sequence in tokens; `null` for no limit. */
  maxLength?: number | null;
  truncationMode?: TruncationMode;
}

/** What a row with two answers says, the prompt taken out of both where it is in them. */
function splitPair(row: DataRow, parse: (row: DataRow) => ReturnType<typeof parseExample>): {
  pair: SplitPair<Content>;
  template?: TemplateInputs;
} {
  const example = parse(row), { template } = example;
  if (example.type === "preference") {
    const { prompt, chosen, rejected } = example;
    return { pair: { prompt, chosen, rejected }, template };
  }
  if (example.type !== "preference with implicit prompt") {
    return refuseType(
      "This stage",
      example.type,
      "preference pairs (prompt, chosen, rejected or chosen, rejected)",
    );
  }
  return { pair: extractPrompt<Content>(example.chosen, example.rejected), template };
}

/**
 * Makes pairs of preferences, explicit or implicit. `<eos>` is appended to text that does not end with it. The answers begin
 * where the encoding of the prompt parts from the first of the two. Each side is cut to `maxLength` tokens by itself; with
 * `keep_start` a pair of which only the prompt would be left is dropped.
 */
export function preferenceTokenizer(
  tokenizer: Tokenizer,
  { maxLength = 1024, truncationMode = "keep_start" }: PreferenceSettings = {},
): RowTokenizer<PreferenceExample> {
  const parse = rowParser();
  return (row) => {
    const { pair: { prompt, chosen, rejected }, template } = splitPair(row, parse);
    const sides = naming(
      row,
      () =>
        [chosen, rejected].map((answer) =>
          encodeAnswered(tokenizer, prompt, endedContent(tokenizer, answer), template)
        ),
    );
    const promptLength = Math.min(...sides.map((side) => side.promptLength));
    const tokens = Math.max(...sides.map(({ ids }) => ids.length)), limit = maxLength ?? Infinity;
    if (truncationMode === "keep_start" && promptLength >= limit) {
      return { tokens, dropped: `without an answer within max_length ${maxLength}` };
    }
    const [first, second] = sides.map(({ ids }): Answered => {
      const begin = truncationMode === "keep_start" ? 0 : Math.max(0, ids.length - limit);
      return {
        ids: ids.slice(begin, Math.min(ids.length, begin + limit)),
        promptLength: Math.max(0, promptLength - begin),
      };
    });
    return { tokens, example: { chosen: first, rejected: second }, cut: tokens > limit };
  };
}

/** Rows that are unpaired at once, as many as TRL maps in a batch. */
const BLOCK = 1000;

/**
 * Rows of pairs as rows of single answers, in TRL's order: of every thousand pairs all chosen answers, then all rejected ones.
 * Other rows stay as they are.
 */
export async function* unpairedRows(rows: AsyncIterable<DataRow>): AsyncGenerator<DataRow> {
  let paired: boolean | undefined, good: DataRow[] = [], bad: DataRow[] = [];
  const parse = rowParser();
  for await (const row of rows) {
    paired ??= detectType(row).startsWith("preference");
    if (!paired) {
      yield row;
      continue;
    }
    const { pair: { prompt, chosen, rejected } } = splitPair(row, parse);
    const { tools, chat_template_kwargs } = row.columns;
    const single = (completion: Content, label: boolean): DataRow => ({
      where: row.where,
      columns: { prompt, completion, label, tools, chat_template_kwargs },
    });
    good.push(single(chosen, true));
    bad.push(single(rejected, false));
    if (good.length < BLOCK) continue;
    yield* good;
    yield* bad;
    [good, bad] = [[], []];
  }
  yield* good;
  yield* bad;
}

/** Pairs: the length of the chosen side, the lengths of both prompts, both sides. */
export const PREFERENCE_CODEC: ExampleCodec<PreferenceExample> = {
  encode: ({ chosen, rejected }) =>
    Uint32Array.from([
      chosen.ids.length,
      chosen.promptLength,
      rejected.promptLength,
      ...chosen.ids,
      ...rejected.ids,
    ]),
  decode: (words) => ({
    chosen: { ids: Array.from(words.subarray(3, 3 + words[0])), promptLength: words[1] },
    rejected: { ids: Array.from(words.subarray(3 + words[0])), promptLength: words[2] },
  }),
};

/** Single answers: the label, the length of the prompt, the tokens. */
export const UNPAIRED_CODEC: ExampleCodec<UnpairedExample> = {
  encode: ({ ids, promptLength, label }) => Uint32Array.from([label ? 1 : 0, promptLength, ...ids]),
  decode: (words) => ({
    ids: Array.from(words.subarray(2)),
    promptLength: words[1],
    label: words[0] === 1,
  }),
};
