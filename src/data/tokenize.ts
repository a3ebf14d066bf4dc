/**
 * From examples to token ids, as TRL 1.16 does it for SFT and reward modelling and TRL 1.12 for PPO's prompts. No row is
 * lost silently: every dropped or truncated one is counted in the report.
 *
 * @module
 */

import { encodeMasked } from "./assistant_mask.ts";
import { encodeAnswered, encodeContent, endedContent, joinContents, naming } from "./encode.ts";
import { type DatasetType, detectType, type Example, parseExample, promptOf } from "./formats.ts";
import { type Content, hasColumn } from "./messages.ts";
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

/** One answer that is good or bad. */
export interface UnpairedExample {
  /** Prompt and completion. */
  ids: number[];
  /** Tokens at the beginning that are prompt. */
  promptLength: number;
  /** Whether the completion is a good one. */
  label: boolean;
}

/** One prompt to be answered. */
export interface PromptExample {
  /** Token ids, special tokens included. */
  ids: number[];
  /** The prompt as text, special tokens of a chat template included. */
  text: string;
}

/** One prompt to be answered, with what a judgement of the answers may need. */
export interface PromptRow extends PromptExample {
  /** The prompt as it stands in the dataset: text or messages. */
  prompt: Content;
  /** Every further column of the dataset. */
  columns: Record<string, unknown>;
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

/** What becomes of a row of so many tokens: an example, perhaps a cut one, or nothing and the reason. */
export type Outcome<T> = { tokens: number } & ({ example: T; cut?: boolean } | { dropped: string });

/** Makes an example of a row; all rows have the type of the first that it gets. */
export type RowTokenizer<T> = (row: DataRow) => Outcome<T>;

/** A report of nothing, to be filled by {@linkcode countOutcome}. */
export function emptyReport(): DataReport {
  return { rows: 0, kept: 0, dropped: {}, truncated: 0 };
}

/** Counts what became of a row. Returns its example. */
export function countOutcome<T>(report: DataReport, outcome: Outcome<T>): T | undefined {
  report.rows++;
  if ("dropped" in outcome) {
    report.dropped[outcome.dropped] = (report.dropped[outcome.dropped] ?? 0) + 1;
    return undefined;
  }
  report.kept++;
  if (outcome.cut) report.truncated++;
  return outcome.example;
}

/** An error where there were no rows, or none became an example. */
export function checkReport({ rows, kept, dropped }: DataReport): void {
  if (rows === 0) throw new Error("The dataset has no rows.");
  if (kept > 0) return;
  const reasons = Object.entries(dropped).map(([reason, count]) => `${count} ${reason}`).join(", ");
  throw new Error(`None of the ${rows} rows can be used: ${reasons}.`);
}

function tokenizeRows<T>(rows: Iterable<DataRow>, tokenize: RowTokenizer<T>): Tokenized<T> {
  const report = emptyReport();
  const examples: T[] = [];
  for (const row of rows) {
    const example = countOutcome(report, tokenize(row));
    if (example !== undefined) examples.push(example);
  }
  checkReport(report);
  return { examples, report };
}

/** Reads rows as examples of the type of the first one. */
export function rowParser(): (row: DataRow) => Example {
  let type: DatasetType | undefined;
  return (row) => parseExample(row, type ??= detectType(row));
}

/** Says that a stage does not take a type of dataset. */
export function refuseType(stage: string, type: DatasetType, expected: string): never {
  throw new Error(`${stage} cannot use a dataset of type ${type}. Expected ${expected}.`);
}

/** How rows of SFT are tokenised. */
export interface SftSettings {
  /** Column of texts; `text` if not given. */
  textField?: string;
  /** Longest sequence in tokens; `null` for no limit. */
  maxLength?: number | null;
  /** Which end of a longer sequence is kept. */
  truncationMode?: "keep_start" | "keep_end";
  /** Loss on completions only; `null`: where the rows have completions. */
  completionOnlyLoss?: boolean | null;
  /** Loss on the assistant's turns only. */
  assistantOnlyLoss?: boolean;
}

/** A row with its texts in the column `text`. */
export function withText(row: DataRow, textField: string): DataRow {
  if (textField === "text" || !hasColumn(row, textField)) return row;
  return { ...row, columns: { ...row.columns, text: row.columns[textField] } };
}

/** Ids of one SFT example and, per token, whether it may count in the loss. */
function encodeSft(
  tokenizer: Tokenizer,
  example: Example,
  { completionOnlyLoss = null, assistantOnlyLoss = false }: SftSettings,
): { ids: number[]; counts: boolean[] } {
  const { template } = example;
  const whole = (content: Content) => {
    if (!assistantOnlyLoss) return { ids: encodeContent(tokenizer, content, { template }), assistant: [] };
    if (typeof content !== "string") return encodeMasked(tokenizer, content, template);
    throw new Error(
      "assistant_only_loss is true, but the rows are texts. Expected conversations: messages, or prompt and completion as lists of messages.",
    );
  };
  if (example.type === "language modelling") {
    const { ids, assistant } = whole(endedContent(tokenizer, example.text));
    return { ids, counts: ids.map((_, i) => !assistantOnlyLoss || assistant[i]) };
  }
  if (example.type !== "prompt-completion") {
    return refuseType(
      "SFT",
      example.type,
      "language modelling (text or messages) or prompt-completion (prompt, completion)",
    );
  }
  const completion = endedContent(tokenizer, example.completion);
  const { assistant } = whole(joinContents(example.prompt, completion));
  const { ids, promptLength } = encodeAnswered(tokenizer, example.prompt, completion, template);
  const unscored = completionOnlyLoss === false ? 0 : promptLength;
  return { ids, counts: ids.map((_, i) => i >= unscored && (!assistantOnlyLoss || assistant[i])) };
}

/**
 * Makes sequences for SFT. `<eos>` is appended to text that does not end with it; longer sequences are cut to `maxLength` tokens.
 * `completionOnlyLoss` null means: completions only for prompt-completion data, everything for language modelling. A row of
 * which no scored token is left is dropped.
 */
export function sftTokenizer(tokenizer: Tokenizer, settings: SftSettings = {}): RowTokenizer<SftExample> {
  const { maxLength = 1024, truncationMode = "keep_start", textField = "text" } = settings;
  const parse = rowParser();
  return (row) => {
    const example = parse(withText(row, textField));
    if (settings.completionOnlyLoss && example.type === "language modelling") {
      throw new Error(
        "completion_only_loss is true, but the dataset has no completions. Expected columns prompt, completion.",
      );
    }
    const { ids: all, counts } = naming(row, () => encodeSft(tokenizer, example, settings));
    const length = Math.min(all.length, maxLength ?? Infinity);
    const first = truncationMode === "keep_start" ? 0 : all.length - length;
    const ids = all.slice(first, first + length), kept = counts.slice(first, first + length);
    if (!kept.includes(true)) {
      const part = settings.assistantOnlyLoss ? "a token of the assistant's" : "a completion";
      return { tokens: all.length, dropped: `without ${part} within max_length ${maxLength}` };
    }
    const scored = kept.map((counts, i) => i > 0 && counts);
    return { tokens: all.length, example: { ids, scored }, cut: length < all.length };
  };
}

/** Rows for SFT, by {@linkcode sftTokenizer}. */
export function tokenizeSft(
  rows: DataRow[],
  tokenizer: Tokenizer,
  settings: SftSettings = {},
): Tokenized<SftExample> {
  return tokenizeRows(rows, sftTokenizer(tokenizer, settings));
}

/**
 * Makes pairs for a reward model of preferences, explicit or implicit. `<eos>` is appended to text that does not end with it; a
 * pair with a side longer than `maxLength` (`null`: no limit) is dropped, as in TRL, never truncated.
 */
export function pairTokenizer(
  tokenizer: Tokenizer,
  { maxLength = 1024 }: { maxLength?: number | null } = {},
): RowTokenizer<PairExample> {
  const parse = rowParser();
  let hasMargins: boolean | undefined;
  return (row) => {
    const example = parse(row);
    if (example.type !== "preference" && example.type !== "preference with implicit prompt") {
      return refuseType(
        "The reward model",
        example.type,
        "preference pairs (prompt, chosen, rejected or chosen, rejected)",
      );
    }
    hasMargins ??= "margin" in example;
    if (("margin" in example) !== hasMargins) {
      throw new Error(
        `Cannot read ${row.where}: some rows have a "margin" and some have none. Expected all or none.`,
      );
    }
    const { template } = example;
    const side = (answer: Content) => {
      const content = endedContent(tokenizer, answer);
      const whole = example.type === "preference" ? joinContents(example.prompt, content) : content;
      return encodeContent(tokenizer, whole, { template });
    };
    const pair: PairExample = naming(row, () => ({
      chosen: side(example.chosen),
      rejected: side(example.rejected),
    }));
    if (example.margin !== undefined) pair.margin = example.margin;
    const tokens = Math.max(pair.chosen.length, pair.rejected.length);
    return maxLength !== null && tokens > maxLength
      ? { tokens, dropped: `longer than max_length ${maxLength}` }
      : { tokens, example: pair };
  };
}

/** Rows for a reward model, by {@linkcode pairTokenizer}. */
export function tokenizePairs(
  rows: DataRow[],
  tokenizer: Tokenizer,
  limits: { maxLength?: number | null } = {},
): Tokenized<PairExample> {
  return tokenizeRows(rows, pairTokenizer(tokenizer, limits));
}

/**
 * Makes sequences of unpaired preferences, as TRL's KTO does. `<eos>` is appended to text that does not end with it; a sequence
 * keeps its first `maxLength` tokens, and one of which only the prompt would be left is dropped. With `wholeAnswers` up to
 * `maxLength` tokens of the answer itself are kept, for other prompts to be answered with, and the reader cuts the sequence.
 */
export function unpairedTokenizer(
  tokenizer: Tokenizer,
  { maxLength = 1024, wholeAnswers = false }: { maxLength?: number | null; wholeAnswers?: boolean } = {},
): RowTokenizer<UnpairedExample> {
  const parse = rowParser();
  return (row) => {
    const example = parse(row);
    if (example.type !== "unpaired preference") {
      return refuseType("This stage", example.type, "unpaired preferences (prompt, completion, label)");
    }
    const { label, prompt, completion, template } = example;
    const { ids, promptLength } = naming(
      row,
      () => encodeAnswered(tokenizer, prompt, endedContent(tokenizer, completion), template),
    );
    const tokens = ids.length, length = Math.min(tokens, maxLength ?? Infinity);
    if (promptLength >= length) {
      return { tokens, dropped: `without a completion within max_length ${maxLength}` };
    }
    const kept = wholeAnswers ? promptLength + (maxLength ?? Infinity) : length;
    return { tokens, example: { ids: ids.slice(0, kept), promptLength, label }, cut: length < tokens };
  };
}

/**
 * Makes prompts to be answered of the prompts of any dataset that has them. A prompt longer than `maxPromptLength` tokens
 * (`null`: no limit) is dropped, an empty one too. A conversation must not end with the assistant's turn. The prompt as in the dataset and the further columns are kept.
 */
export function promptRowTokenizer(
  tokenizer: Tokenizer,
  { maxPromptLength = 512 }: { maxPromptLength?: number | null } = {},
): RowTokenizer<PromptRow> {
  const parse = rowParser();
  return (row) => {
    const example = parse(row);
    const prompt = promptOf(example);
    if (prompt === undefined) {
      return refuseType("This stage", example.type, "a column prompt, or preference pairs");
    }
    if (typeof prompt !== "string" && prompt.at(-1)?.role === "assistant") {
      throw new Error(
        `Cannot read ${row.where}: the prompt ends with the assistant's turn. Expected the user's.`,
      );
    }
    const { text, ids } = naming(row, () => {
      const text = typeof prompt === "string"
        ? prompt
        : tokenizer.applyChatTemplate(prompt, { addGenerationPrompt: true, ...example.template });
      return { text, ids: tokenizer.encode(text, { addSpecialTokens: typeof prompt === "string" }) };
    });
    const tokens = ids.length;
    if (tokens === 0) return { tokens, dropped: "without a prompt" };
    if (maxPromptLength !== null && tokens > maxPromptLength) {
      return { tokens, dropped: `longer than max_prompt_length ${maxPromptLength}` };
    }
    if (ids.at(-1) === tokenizer.eosId && typeof prompt === "string") {
      throw new Error(
        `Cannot use ${row.where}: the prompt ends with the end token, so there is nothing to answer.`,
      );
    }
    return { tokens, example: { ids, text, prompt, columns: furtherColumns(row) } };
  };
}

/** Columns of a row beside the prompt; completions are what a policy will write. */
function furtherColumns({ columns }: DataRow): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(columns).filter(([name]) => name !== "prompt" && name !== "completion"),
  );
}

/** Makes the same prompts, of which only tokens and text are kept. */
export function promptTokenizer(
  tokenizer: Tokenizer,
  limits: { maxPromptLength?: number | null } = {},
): RowTokenizer<PromptExample> {
  const tokenize = promptRowTokenizer(tokenizer, limits);
  return (row) => {
    const outcome = tokenize(row);
    if ("dropped" in outcome) return outcome;
    const { ids, text } = outcome.example;
    return { ...outcome, example: { ids, text } };
  };
}

/** Rows of prompts, by {@linkcode promptTokenizer}. */
export function tokenizePrompts(
  rows: DataRow[],
  tokenizer: Tokenizer,
  limits: { maxPromptLength?: number | null } = {},
): Tokenized<PromptExample> {
  return tokenizeRows(rows, promptTokenizer(tokenizer, limits));
}
