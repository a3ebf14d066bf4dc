/**
 * JSON lines in and out of the commands that work on files of rows.
 *
 * @module
 */
import { readDataset } from "../data/rows.ts";
import type { Message, Tokenizer } from "../data/tokenizer.ts";
import type { Io } from "./io.ts";

/** A row of input, tokenised. */
export interface InputRow {
  ids: number[];
  /** Tokens that belong to the prompt. */
  promptLength: number;
  where: string;
}

/** Columns that hold the text of a row, as they are named in messages. */
export const SCORE_COLUMNS = "text, prompt and completion, or input_ids";
export const PROMPT_COLUMNS = "prompt, messages or input_ids";

/** Reads rows of token ids, texts, prompts with completions, or conversations. */
export async function readInputRows(
  path: string,
  tokenizer: () => Tokenizer,
  expected: string,
): Promise<InputRow[]> {
  return (await readDataset(path)).map(({ columns, where }) => {
    const bad = (problem: string): never => {
      throw new Error(`Cannot read ${where}: ${problem}. Expected columns ${expected}.`);
    };
    const { input_ids: given, text, prompt, completion, messages } = columns;
    let ids: number[], promptLength: number;
    if (given !== undefined) {
      const valid = Array.isArray(given) && given.every((id) => Number.isInteger(id) && id >= 0);
      ids = valid ? given as number[] : bad('"input_ids" is not a list of token ids');
      promptLength = ids.length;
    } else if (typeof text === "string") {
      ids = tokenizer().encode(text);
      promptLength = 1;
    } else if (Array.isArray(messages)) {
      const rendered = tokenizer().applyChatTemplate(messages as unknown as Message[], {
        addGenerationPrompt: true,
      });
      ids = tokenizer().encode(rendered, { addSpecialTokens: false });
      promptLength = ids.length;
    } else if (typeof prompt === "string") {
      const start = tokenizer().encode(prompt);
      ids = typeof completion === "string" ? tokenizer().encode(prompt + completion) : start;
      promptLength = Math.min(start.length, ids.length);
    } else return bad(`it has the columns ${Object.keys(columns).join(", ") || "none"}`);
    if (ids.length === 0) bad("it has no tokens");
    return { ids, promptLength, where };
  });
}

/** Checks rows against a model: ids below its vocabulary, no longer than its positions. */
export function checkInputRows(
  rows: InputRow[],
  { vocabSize, maxPositions }: { vocabSize: number; maxPositions: number },
): void {
  for (const { ids, where } of rows) {
    const unknown = ids.find((id) => id >= vocabSize);
    if (unknown !== undefined) {
      throw new Error(
        `Cannot use ${where}: token ${unknown} is not in the model's vocabulary of ${vocabSize}.`,
      );
    }
    if (ids.length > maxPositions) {
      throw new Error(
        `Cannot use ${where}: it has ${ids.length} tokens; the model has ${maxPositions} positions.`,
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
