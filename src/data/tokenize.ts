/**
 * From examples to token ids, as TRL 1.16 does it for SFT and reward modelling and TRL 1.12 for PPO's prompts. No row is
 * lost silently: every dropped or truncated one is counted in the report.
 *
 * @module
 */

import { type Content, type DatasetType, type Example, parseExamples, promptOf } from "./formats.ts";
import type { DataRow } from "./rows.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** One sequence of SFT. */
export interface SftExample {
  /** Token ids, special tokens included. */
  ids: number[];
  /** Per token: is it predicted from those before it and counted in the loss? Never true for the first. */
  scored: boolean[];
}

/** One comparison of reward modelling; both sides hold the prompt. */
export interface PairExample {
  /** Prompt and preferred answer. */
  chosen: number[];
  /** Prompt and the other answer. */
  rejected: number[];
  /** How much better the chosen side should score, when the dataset says it. */
  margin?: number;
}

/** One prompt to be answered. */
export interface PromptExample {
  /** Token ids, special tokens included. */
  ids: number[];
  /** The prompt as text, special tokens of a chat template included. */
  text: string;
}

/** What became of the rows of a dataset. */
export interface DataReport {
  /** Rows read. */
  rows: number;
  /** Rows that became examples. */
  kept: number;
  /** Rows left out, by reason. */
  dropped: Record<string, number>;
  /** Rows that were kept, but cut at `maxLength`. */
  truncated: number;
}

/** Tokenised examples and what became of the others. */
export interface Tokenized<T> {
  /** In the order of the rows. */
  examples: T[];
  /** What became of the others. */
  report: DataReport;
}

/** A report that is filled while rows are worked through. */
class Tally<T> {
  examples: T[] = [];
  report: DataReport;

  constructor(rows: number) {
    this.report = { rows, kept: 0, dropped: {}, truncated: 0 };
  }

  keep(example: T): void {
    this.examples.push(example);
    this.report.kept++;
  }

  drop(reason: string): void {
    this.report.dropped[reason] = (this.report.dropped[reason] ?? 0) + 1;
  }

  finish(): Tokenized<T> {
    if (this.report.kept === 0) {
      const reasons = Object.entries(this.report.dropped).map(([reason, count]) => `${count} ${reason}`).join(
        ", ",
      );
      throw new Error(`None of the ${this.report.rows} rows can be used: ${reasons}.`);
    }
    return { examples: this.examples, report: this.report };
  }
}

function refuseType(stage: string, type: DatasetType, expected: string): never {
  throw new Error(`${stage} cannot use a dataset of type ${type}. Expected ${expected}.`);
}

/** Text that ends with the end token, once. */
function endWithEos(tokenizer: Tokenizer, text: string): string {
  const { eosToken, source } = tokenizer;
  if (eosToken === undefined) {
    throw new Error(`The tokenizer in ${source} names no "eos_token", which must end every example.`);
  }
  return text.endsWith(eosToken) ? text : text + eosToken;
}

/** Ids of a text, or of a conversation through the chat template. */
export function encodeContent(tokenizer: Tokenizer, content: Content, addGenerationPrompt = false): number[] {
  if (typeof content === "string") return tokenizer.encode(content);
  return tokenizer.encode(tokenizer.applyChatTemplate(content, { addGenerationPrompt }), {
    addSpecialTokens: false,
  });
}

/** Two texts or two conversations in a row. */
function join(prompt: Content, answer: Content): Content {
  return typeof prompt === "string" ? prompt + answer : [...prompt, ...answer as Exclude<Content, string>];
}

/** Text that ends with the end token; a conversation is left to its template. */
function ended(tokenizer: Tokenizer, content: Content): Content {
  return typeof content === "string" ? endWithEos(tokenizer, content) : content;
}

function commonPrefixLength(a: number[], b: number[]): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  return length;
}

/**
 * Ids of a prompt with its completion and how many at their beginning are prompt. Tokens may merge across the boundary; the
 * completion begins where the encodings with and without it part.
 */
export function encodeAnswered(
  tokenizer: Tokenizer,
  prompt: Content,
  completion: Content,
): { ids: number[]; promptLength: number } {
  const ids = encodeContent(tokenizer, join(prompt, completion));
  return { ids, promptLength: commonPrefixLength(encodeContent(tokenizer, prompt, true), ids) };
}

/** Does the work on a row; an error names the row. */
export function naming<T>({ where }: DataRow, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw new Error(`${where}: ${(error as Error).message}`, { cause: error });
  }
}

/** Ids of one SFT example and how many at its beginning are prompt. */
function encodeSft(tokenizer: Tokenizer, example: Example): { ids: number[]; promptLength: number } {
  if (example.type === "language modelling") {
    return { ids: encodeContent(tokenizer, ended(tokenizer, example.text)), promptLength: 0 };
  }
  if (example.type !== "prompt-completion") {
    return refuseType(
      "SFT",
      example.type,
      "language modelling (text or messages) or prompt-completion (prompt, completion)",
    );
  }
  return encodeAnswered(tokenizer, example.prompt, ended(tokenizer, example.completion));
}

/**
 * Rows for SFT. `<eos>` is appended to text that does not end with it; sequences keep their first `maxLength` tokens
 * (`null`: all). `completionOnlyLoss` null means: completions only for prompt-completion data, everything for language
 * modelling. A row whose scored part is all beyond `maxLength` is dropped.
 */
export function tokenizeSft(
  rows: DataRow[],
  tokenizer: Tokenizer,
  { maxLength = 1024, completionOnlyLoss = null }: {
    maxLength?: number | null;
    completionOnlyLoss?: boolean | null;
  } = {},
): Tokenized<SftExample> {
  const { type, examples } = parseExamples(rows);
  if (completionOnlyLoss && type === "language modelling") {
    throw new Error(
      "completion_only_loss is true, but the dataset has no completions. Expected columns prompt, completion.",
    );
  }
  const tally = new Tally<SftExample>(rows.length);
  for (const [index, example] of examples.entries()) {
    const { ids: all, promptLength } = naming(rows[index], () => encodeSft(tokenizer, example));
    const unscored = completionOnlyLoss === false ? 0 : promptLength;
    const ids = maxLength === null ? all : all.slice(0, maxLength);
    if (unscored >= ids.length) {
      tally.drop(`without a completion within max_length ${maxLength}`);
      continue;
    }
    if (ids.length < all.length) tally.report.truncated++;
    tally.keep({ ids, scored: ids.map((_, index) => index > 0 && index >= unscored) });
  }
  return tally.finish();
}

/**
 * Rows for a reward model: preference pairs, explicit or implicit. `<eos>` is appended to text that does not end with it; a
 * pair with a side longer than `maxLength` (`null`: no limit) is dropped, as in TRL, never truncated.
 */
export function tokenizePairs(
  rows: DataRow[],
  tokenizer: Tokenizer,
  { maxLength = 1024 }: { maxLength?: number | null } = {},
): Tokenized<PairExample> {
  const { examples } = parseExamples(rows);
  const tally = new Tally<PairExample>(rows.length);
  for (const [index, example] of examples.entries()) {
    if (example.type !== "preference" && example.type !== "preference with implicit prompt") {
      return refuseType(
        "The reward model",
        example.type,
        "preference pairs (prompt, chosen, rejected or chosen, rejected)",
      );
    }
    if (("margin" in example) !== ("margin" in examples[0])) {
      throw new Error(
        `Cannot read ${
          rows[index].where
        }: some rows have a "margin" and some have none. Expected all or none.`,
      );
    }
    const side = (answer: Content) => {
      const content = ended(tokenizer, answer);
      return encodeContent(
        tokenizer,
        example.type === "preference" ? join(example.prompt, content) : content,
      );
    };
    const pair: PairExample = naming(rows[index], () => ({
      chosen: side(example.chosen),
      rejected: side(example.rejected),
    }));
    if (example.margin !== undefined) pair.margin = example.margin;
    if (maxLength !== null && Math.max(pair.chosen.length, pair.rejected.length) > maxLength) {
      tally.drop(`longer than max_length ${maxLength}`);
    } else {
      tally.keep(pair);
    }
  }
  return tally.finish();
}

/**
 * Prompts to be answered: the prompts of any dataset that has them. A prompt longer than `maxPromptLength` tokens (`null`:
 * no limit) is dropped, an empty one too. A conversation must end with the user's turn.
 */
export function tokenizePrompts(
  rows: DataRow[],
  tokenizer: Tokenizer,
  { maxPromptLength = 512 }: { maxPromptLength?: number | null } = {},
): Tokenized<PromptExample> {
  const { examples } = parseExamples(rows);
  const tally = new Tally<PromptExample>(rows.length);
  for (const [index, example] of examples.entries()) {
    const prompt = promptOf(example);
    if (prompt === undefined) {
      return refuseType("This stage", example.type, "a column prompt, or preference pairs");
    }
    if (typeof prompt !== "string" && prompt.at(-1)?.role === "assistant") {
      throw new Error(
        `Cannot read ${rows[index].where}: the prompt ends with the assistant's turn. Expected the user's.`,
      );
    }
    const { text, ids } = naming(rows[index], () => {
      const text = typeof prompt === "string"
        ? prompt
        : tokenizer.applyChatTemplate(prompt, { addGenerationPrompt: true });
      return { text, ids: tokenizer.encode(text, { addSpecialTokens: typeof prompt === "string" }) };
    });
    if (ids.length === 0) {
      tally.drop("without a prompt");
    } else if (maxPromptLength !== null && ids.length > maxPromptLength) {
      tally.drop(`longer than max_prompt_length ${maxPromptLength}`);
    } else if (ids.at(-1) === tokenizer.eosId && typeof prompt === "string") {
      throw new Error(
        `Cannot use ${rows[index].where}: the prompt ends with the end token, so there is nothing to answer.`,
      );
    } else {
      tally.keep({ ids, text });
    }
  }
  return tally.finish();
}
