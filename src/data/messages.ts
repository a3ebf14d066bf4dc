/**
 * Conversations as they stand in a dataset's columns: lists of `{role, content}`, also with tool calls, text parts, or
 * ShareGPT's names of the fields.
 *
 * @module
 */
import { isJsonObject, type JsonObject } from "../model/json_file.ts";
import type { DataRow } from "./rows.ts";
import type { Message } from "./tokenizer.ts";

/** A value of a column: text or a conversation. */
export type Content = string | Message[];

/** What a chat template gets besides the messages. */
export interface TemplateInputs {
  /** JSON schemas of the functions that the assistant may call: the column `tools`. */
  tools?: JsonObject[];
  /** Further variables of the template: the column `chat_template_kwargs`. */
  variables?: JsonObject;
}

/** Whether a column has a value. */
export function hasColumn({ columns }: DataRow, name: string): boolean {
  return columns[name] !== undefined && columns[name] !== null;
}

/** Whether a value looks like a conversation, by its first message. */
export function isConversation(value: unknown): boolean {
  return Array.isArray(value) && isJsonObject(value[0]) &&
    typeof (value[0].role ?? value[0].from) === "string";
}

/** The text of a message's parts; pictures and sounds are refused by name. */
function textOfParts(parts: unknown[], place: string): string {
  return parts.map((part) => {
    if (typeof part === "string") return part;
    const type = isJsonObject(part) ? part.type : undefined;
    if (isJsonObject(part) && type === "text" && typeof part.text === "string") return part.text;
    throw new Error(
      `${place} has a part of type ${
        JSON.stringify(type ?? part)
      }. Expected text only: {"type": "text", "text": …}.`,
    );
  }).join("");
}

/** A message, checked. Parts that are all text become one text; only a message with tool calls may have no content. */
function readMessage(value: unknown, place: string): Message {
  const shape = '{"role": text, "content": text}';
  if (!isJsonObject(value)) throw new Error(`${place} is not ${shape}.`);
  const message: JsonObject = { ...value };
  if (typeof message.role !== "string") throw new Error(`${place} is not ${shape}.`);
  if (Array.isArray(message.content)) message.content = textOfParts(message.content, place);
  const calls = message.tool_calls;
  if (calls !== undefined && calls !== null && !(Array.isArray(calls) && calls.every(isJsonObject))) {
    throw new Error(`${place} has "tool_calls" that are not a list of objects.`);
  }
  const silent = message.content === undefined || message.content === null;
  if (silent && Array.isArray(calls) && calls.length > 0) message.content = null;
  else if (typeof message.content !== "string") throw new Error(`${place} is not ${shape}.`);
  return message as Message;
}

/** ShareGPT's `from` and `value` as `role` and `content`; as in TRL the roles keep their names. */
function fromValue(message: unknown): unknown {
  if (!isJsonObject(message) || message.from === undefined) return message;
  const { from: role, value: content, ...rest } = message;
  return { role, content, ...rest };
}

/** A column as text or conversation, checked; `expected` names the columns that a row should have. */
export function contentOf(row: DataRow, name: string, expected: string): Content {
  const value = row.columns[name];
  if (typeof value === "string") return value;
  if (value === undefined || value === null) {
    throw new Error(`Cannot read ${row.where}: "${name}" is missing. Expected columns ${expected}.`);
  }
  if (!Array.isArray(value) || value.length === 0) {
    throw new Error(`Cannot read ${row.where}: "${name}" is neither text nor a list of messages.`);
  }
  const messages = name === "conversations" ? value.map(fromValue) : value;
  return messages.map((message) => readMessage(message, `Cannot read ${row.where}: a message of "${name}"`));
}

/** A column's value, read as JSON where it is text, as TRL reads `tools`. */
function jsonColumn(row: DataRow, name: string): unknown {
  const value = row.columns[name] ?? undefined;
  if (typeof value !== "string") return value;
  if (value.trim() === "") return undefined;
  try {
    return JSON.parse(value);
  } catch (error) {
    throw new Error(`Cannot read ${row.where}: "${name}" is not valid JSON (${(error as Error).message}).`);
  }
}

/** The columns `tools` and `chat_template_kwargs` of a row; nothing where it has neither. */
export function templateInputs(row: DataRow): TemplateInputs | undefined {
  const tools = jsonColumn(row, "tools") ?? undefined;
  const variables = jsonColumn(row, "chat_template_kwargs") ?? undefined;
  if (tools !== undefined && !(Array.isArray(tools) && tools.every(isJsonObject))) {
    throw new Error(`Cannot read ${row.where}: "tools" is not a list of JSON schemas.`);
  }
  if (variables !== undefined && !isJsonObject(variables)) {
    throw new Error(`Cannot read ${row.where}: "chat_template_kwargs" is not an object.`);
  }
  if (tools === undefined && variables === undefined) return undefined;
  return { tools, variables };
}
