/**
 * TRL's dataset types, told apart by their columns.
 *
 * | type | columns |
 * |---|---|
 * | language modelling | `text`, or `messages`, or `conversations` |
 * | prompt-only | `prompt` |
 * | prompt-completion | `prompt`, `completion` |
 * | preference | `prompt`, `chosen`, `rejected` |
 * | preference with implicit prompt | `chosen`, `rejected`, both with the prompt inside |
 * | unpaired preference | `prompt`, `completion`, `label` |
 *
 * Each value is text, or a conversation: a list of `{role, content}`. Beside conversations there may be `tools`, a list of JSON
 * schemas, and `chat_template_kwargs`, variables of the chat template.
 *
 * @module
 */

import { type Content, contentOf, hasColumn, type TemplateInputs, templateInputs } from "./messages.ts";
import type { DataRow } from "./rows.ts";
import type { Message } from "./tokenizer.ts";

/** One row, typed; a conversation's template may get further inputs. */
export type Example =
  & { template?: TemplateInputs }
  & (
    | { type: "language modelling"; text: Content }
    | { type: "prompt-only"; prompt: Content }
    | { type: "prompt-completion"; prompt: Content; completion: Content }
    | { type: "preference"; prompt: Content; chosen: Content; rejected: Content; margin?: number }
    | { type: "preference with implicit prompt"; chosen: Content; rejected: Content; margin?: number }
    | { type: "unpaired preference"; prompt: Content; completion: Content; label: boolean }
  );

/** Name of a dataset type. */
export type DatasetType = Example["type"];

/** What each type's rows must have; language modelling takes either of two columns. */
const COLUMNS: Record<DatasetType, string> = {
  "language modelling": "text, messages or conversations",
  "prompt-only": "prompt",
  "prompt-completion": "prompt, completion",
  "preference": "prompt, chosen, rejected or chosen, rejected",
  "preference with implicit prompt": "prompt, chosen, rejected or chosen, rejected",
  "unpaired preference": "prompt, completion, label",
};

/** Columns of language modelling; the first that a row has counts. */
const TEXTS = ["messages", "conversations", "text"];

/** The type that a row's columns make it, from the most special to the most general. */
export function detectType(row: DataRow): DatasetType {
  const { columns, where } = row;
  const has = (name: string) => hasColumn(row, name);
  if (has("completions") && has("labels")) {
    throw new Error(
      `Cannot use ${where}: stepwise supervision (columns completions, labels) is not supported.`,
    );
  }
  if (has("chosen") || has("rejected")) {
    // Some datasets repeat the first turn as a text prompt beside whole conversations; as in TRL that prompt is ignored.
    const explicit = has("prompt") && (Array.isArray(columns.prompt) || !Array.isArray(columns.chosen));
    return explicit ? "preference" : "preference with implicit prompt";
  }
  if (has("completion")) return has("label") ? "unpaired preference" : "prompt-completion";
  if (TEXTS.some(has)) return "language modelling";
  if (has("prompt")) return "prompt-only";
  const expected = [...new Set(Object.values(COLUMNS))].join("; ");
  throw new Error(
    `Cannot use ${where}: its columns are ${
      Object.keys(columns).join(", ") || "none"
    }. Expected one of: ${expected}.`,
  );
}

function margin(row: DataRow): { margin?: number } {
  const value = row.columns.margin;
  if (value === undefined || value === null) return {};
  if (typeof value !== "number") {
    throw new Error(`Cannot read ${row.where}: "margin" is ${JSON.stringify(value)}. Expected a number.`);
  }
  return { margin: value };
}

/** Numbers are what CSV files and integer columns hold. */
function labelOf({ columns: { label }, where }: DataRow): boolean {
  if (label === true || label === 1) return true;
  if (label === false || label === 0) return false;
  throw new Error(`Cannot read ${where}: "label" is ${JSON.stringify(label)}. Expected true or false.`);
}

/** Reads a row as an example of the given type, the one {@linkcode detectType} found in the first row. */
export function parseExample(row: DataRow, type: DatasetType): Example {
  const get = (name: string) => contentOf(row, name, COLUMNS[type]);
  const example = readColumns(row, type, get);
  const kinds = ["text", "prompt", "completion", "chosen", "rejected"].flatMap((name) =>
    name in example ? [typeof example[name as keyof Example]] : []
  );
  if (new Set(kinds).size > 1) {
    throw new Error(
      `Cannot read ${row.where}: some columns are text and some are conversations. Expected all alike.`,
    );
  }
  const template = kinds[0] === "object" ? templateInputs(row) : undefined;
  return template ? { ...example, template } : example;
}

function readColumns(row: DataRow, type: DatasetType, get: (name: string) => Content): Example {
  switch (type) {
    case "language modelling":
      return { type, text: get(TEXTS.find((name) => hasColumn(row, name)) ?? "text") };
    case "prompt-only":
      return { type, prompt: get("prompt") };
    case "prompt-completion":
      return { type, prompt: get("prompt"), completion: get("completion") };
    case "preference":
      return {
        type,
        prompt: get("prompt"),
        chosen: get("chosen"),
        rejected: get("rejected"),
        ...margin(row),
      };
    case "preference with implicit prompt":
      return { type, chosen: get("chosen"), rejected: get("rejected"), ...margin(row) };
    case "unpaired preference": {
      return { type, prompt: get("prompt"), completion: get("completion"), label: labelOf(row) };
    }
  }
}

/** Reads all rows as examples of one type, the type of the first. */
export function parseExamples(rows: DataRow[]): { type: DatasetType; examples: Example[] } {
  if (rows.length === 0) throw new Error("The dataset has no rows.");
  const type = detectType(rows[0]);
  return { type, examples: rows.map((row) => parseExample(row, type)) };
}

/** A prompt and the two answers to it, in text or in messages. */
export interface SplitPair<T extends Content> {
  prompt: T;
  chosen: T;
  rejected: T;
}

const ASSISTANT = "\n\nAssistant:";

/** Whether two characters or messages are equal. */
function same(a: string | Message, b: string | Message): boolean {
  return typeof a === "string" ? a === b : JSON.stringify(a) === JSON.stringify(b);
}

/**
 * Splits a pair with an implicit prompt. In dialogues written as in Anthropic's hh-rlhf the prompt is all up to and including
 * the last `\n\nAssistant:` that both sides share. Otherwise it is TRL's rule: the common beginning, without a blank at its
 * end; of two sides of which one continues the other, the last part of the shorter one still counts as its answer.
 */
export function extractPrompt<T extends Content>(chosen: T, rejected: T): SplitPair<T> {
  const shortest = Math.min(chosen.length, rejected.length);
  let common = 0;
  while (common < shortest && same(chosen[common], rejected[common])) common++;
  let at = common === shortest ? Math.max(0, shortest - 1) : common;
  if (typeof chosen === "string") {
    const turn = chosen.slice(0, common).lastIndexOf(ASSISTANT);
    if (turn >= 0) at = turn + ASSISTANT.length;
    else if (at > 0 && common < shortest && chosen[at - 1] === " ") at--;
  }
  return {
    prompt: chosen.slice(0, at) as T,
    chosen: chosen.slice(at) as T,
    rejected: rejected.slice(at) as T,
  };
}

/** The prompt of an example; language modelling has none. */
export function promptOf(example: Example): Content | undefined {
  switch (example.type) {
    case "language modelling":
      return undefined;
    case "preference with implicit prompt":
      return extractPrompt(example.chosen, example.rejected).prompt;
    default:
      return example.prompt;
  }
}
