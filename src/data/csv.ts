/**
 * Rows of a CSV file: a header with the names of the columns, then one record per row, quoted as in RFC 4180.
 *
 * Everything in such a file is text. As `datasets` infers them, an empty field is no value, `label` is true or false, `margin` a
 * number; columns of conversations hold JSON.
 *
 * @module
 */
import { pipeline, Readable } from "node:stream";
import { parse } from "csv-parse";
import type { JsonObject } from "../model/json_file.ts";
import { isConversation } from "./messages.ts";
import type { DataRow } from "./rows.ts";
import { MAX_TEXT, textChunks } from "./text_file.ts";

/** Columns that hold nothing but conversations, and those that may. */
const CONVERSATIONS = ["messages", "conversations"],
  CONTENTS = ["prompt", "completion", "chosen", "rejected"];

/** The value that a field's text stands for. */
function valueOf(name: string, text: string, where: string): unknown {
  if (text === "") return null;
  if (name === "label") {
    if (/^true$/i.test(text)) return true;
    if (/^false$/i.test(text)) return false;
  }
  if (name === "label" || name === "margin") {
    const number = Number(text);
    return text.trim() !== "" && Number.isFinite(number) ? number : text;
  }
  const always = CONVERSATIONS.includes(name);
  if (!always && !(CONTENTS.includes(name) && text.trimStart().startsWith("[{"))) return text;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (!always) return text;
    throw new Error(
      `Cannot read ${where}: "${name}" is not valid JSON (${
        (error as Error).message
      }). Expected a list of messages, as in [{"role": "user", "content": "Hi"}].`,
    );
  }
  return always || isConversation(value) ? value : text;
}

/** The names of the columns, checked. */
function columnNames(header: string[], name: string): string[] {
  const names = header.map((column) => column.trim());
  const twice = names.find((column, i) => names.indexOf(column) !== i);
  if (twice !== undefined) {
    throw new Error(`Cannot read ${name}: its header names the column "${twice}" twice.`);
  }
  return names;
}

/** Reads the rows of a CSV file one after the other. */
export async function* csvRows(path: string, name: string): AsyncGenerator<DataRow> {
  const parser = parse({
    columns: (header: string[]) => columnNames(header, name),
    skip_empty_lines: true,
    max_record_size: MAX_TEXT,
  });
  // Either end may fail or stop early; then the other one is closed, too.
  pipeline(Readable.from(textChunks(path, name)), parser, () => {});
  let number = 0;
  try {
    for await (const fields of parser as AsyncIterable<Record<string, string>>) {
      const where = `${name} row ${++number}`;
      const columns: JsonObject = {};
      for (const [column, text] of Object.entries(fields)) columns[column] = valueOf(column, text, where);
      yield { columns, where };
    }
  } catch (error) {
    const { message } = error as Error;
    if (message.startsWith("Cannot read")) throw error;
    throw new Error(`Cannot read ${name}: it is not valid CSV (${message}).`, {
      cause: error,
    });
  }
}
