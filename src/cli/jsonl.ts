/**
 * JSON lines in and out of the commands that work on files of rows.
 *
 * @module
 */
import { type Content, contentOf, templateInputs } from "../data/messages.ts";
import type { DataRow } from "../data/rows.ts";
import { readSources } from "../data/sources.ts";
import { encodeAnswered, encodeContent, naming } from "../data/encode.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import type { Io } from "./io.ts";

/** A row of input, tokenised. */
export interface InputRow {
  ids: number[];
  /** Tokens at its beginning that are prompt; 0 where the row does not say. */
  promptLength: number;
  where: string;
}

type Encoded = Omit<InputRow, "where">;

const SCORE_COLUMNS = "text, prompt and completion, or input_ids";
const PROMPT_COLUMNS = "prompt, messages or input_ids";

/** Reads rows to be scored: texts, prompts with completions, or token ids. */
export function readScoreRows(path: string, tokenizer: () => Tokenizer): Promise<InputRow[]> {
  return readInputRows(path, SCORE_COLUMNS, (row, has): Encoded | undefined => {
    const get = (name: string) => contentOf(row, name, SCORE_COLUMNS);
    if (has("completion")) {
      const prompt = get("prompt"), completion = get("completion");
      if (typeof prompt !== typeof completion) {
        throw new Error(
          `Cannot read ${row.where}: one of "prompt" and "completion" is text, the other a conversation.`,
        );
      }
      return naming(row, () => encodeAnswered(tokenizer(), prompt, completion, templateInputs(row)));
    }
    if (!has("text")) return undefined;
    const text = get("text");
    return {
      ids: naming(row, () => encodeContent(tokenizer(), text, { template: templateInputs(row) })),
      promptLength: 0,
    };
  });
}

/** Reads rows to be continued: prompts (text or conversations), conversations, or token ids. */
export function readPromptRows(path: string, tokenizer: () => Tokenizer): Promise<InputRow[]> {
  return readInputRows(path, PROMPT_COLUMNS, (row, has): Encoded | undefined => {
    if (!has("prompt") && !has("messages")) return undefined;
    const prompt: Content = contentOf(row, has("prompt") ? "prompt" : "messages", PROMPT_COLUMNS);
    const ids = naming(
      row,
      () => encodeContent(tokenizer(), prompt, { addGenerationPrompt: true, template: templateInputs(row) }),
    );
    return { ids, promptLength: ids.length };
  });
}

/** Rows of token ids, and others by `encode`, which returns nothing for a row that it cannot use. */
async function readInputRows(
  path: string,
  expected: string,
  encode: (row: DataRow, has: (column: string) => boolean) => Encoded | undefined,
): Promise<InputRow[]> {
  return (await readSources(path)).map((row) => {
    const { columns, where } = row;
    const bad = (problem: string): never => {
      throw new Error(`Cannot read ${where}: ${problem}. Expected columns ${expected}.`);
    };
    const has = (column: string) => columns[column] !== undefined && columns[column] !== null;
    const { input_ids: given } = columns;
    const valid = Array.isArray(given) && given.every((id) => Number.isInteger(id) && id >= 0);
    const encoded = !has("input_ids")
      ? encode(row, has)
      : valid
      ? { ids: given as number[], promptLength: 0 }
      : bad('"input_ids" is not a list of token ids');
    if (!encoded) return bad(`it has the columns ${Object.keys(columns).join(", ") || "none"}`);
    if (encoded.ids.length === 0) bad("it has no tokens");
    return { ...encoded, where };
  });
}

/** Checks rows against a model: ids below its vocabulary, room in its positions for them and for `newTokens` more. */
export function checkInputRows(
  rows: InputRow[],
  { vocabSize, maxPositions }: { vocabSize: number; maxPositions: number },
  newTokens = 0,
): void {
  for (const { ids, where } of rows) {
    const unknown = ids.find((id) => id >= vocabSize);
    if (unknown !== undefined) {
      throw new Error(
        `Cannot use ${where}: token ${unknown} is not in the model's vocabulary of ${vocabSize}.`,
      );
    }
    if (ids.length + newTokens > maxPositions) {
      const more = newTokens ? `, and ${newTokens} new ones are wanted` : "";
      throw new Error(
        `Cannot use ${where}: it has ${ids.length} tokens${more}; the model has ${maxPositions} positions. ${
          newTokens ? "Use a shorter prompt or a smaller --max_new_tokens." : "Use a shorter text."
        }`,
      );
    }
  }
}

/** Writes rows as JSON lines to `path`, or to standard output. */
export async function writeRows(path: string | undefined, rows: unknown[], io: Io): Promise<void> {
  const lines = rows.map((row) => JSON.stringify(row));
  if (path === undefined) { for (const line of lines) io.print(line); }
  else await Deno.writeTextFile(path, lines.join("\n") + "\n");
}
