/**
 * Reading the rows of a dataset file: `.jsonl`, `.json` and `.csv`, plain or gzipped, and `.parquet`. All but JSON arrays are
 * streamed.
 *
 * @module
 */

import { basename } from "node:path";
import { fileSize, isJsonObject, type JsonObject } from "../model/json_file.ts";
import { csvRows } from "./csv.ts";
import { parquetRows } from "./parquet.ts";
import { MAX_TEXT, textChunks } from "./text_file.ts";

/** One row as it stands in a file. */
export interface DataRow {
  /** Values by column. */
  columns: JsonObject;
  /** Where it came from, for messages: `pairs.jsonl line 17`. */
  where: string;
}

/** Ends of the names of files that can be read. */
export const EXTENSIONS = [".jsonl", ".json", ".csv", ".parquet", ".jsonl.gz", ".json.gz", ".csv.gz"];

/** Lines without their ends. A byte order mark in front is dropped by the decoder. */
async function* textLines(path: string, name: string): AsyncGenerator<string> {
  let rest: string[] = [];
  let length = 0;
  for await (const chunk of textChunks(path, name)) {
    const lines = chunk.split("\n");
    for (const line of lines.slice(0, -1)) {
      rest.push(line);
      yield rest.join("").replace(/\r$/, "");
      rest = [];
      length = 0;
    }
    const last = lines[lines.length - 1];
    rest.push(last);
    length += last.length;
    if (length > MAX_TEXT) {
      throw new Error(`Cannot read ${name}: a line has more than ${MAX_TEXT} characters.`);
    }
  }
  yield rest.join("").replace(/\r$/, "");
}

function parseRow(text: string, where: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Error(`Cannot read ${where}: it is not valid JSON (${(error as Error).message}).`);
  }
  if (!isJsonObject(value)) {
    throw new Error(`Cannot read ${where}: expected a JSON object with one field per column.`);
  }
  return value;
}

/** Rows of a JSON array: the whole text is held, because a row may span lines. */
async function* arrayRows(
  name: string,
  first: string,
  lines: AsyncGenerator<string>,
): AsyncGenerator<DataRow> {
  const texts = [first];
  let length = 0;
  for await (const line of lines) {
    texts.push(line);
    length += line.length;
    if (length > MAX_TEXT) {
      throw new Error(
        `Cannot read ${name}: it is too long for a JSON array. Write one row per line instead (.jsonl).`,
      );
    }
  }
  let rows: unknown[];
  try {
    rows = JSON.parse(texts.join("\n"));
  } catch (error) {
    throw new Error(`Cannot read ${name}: it is not valid JSON (${(error as Error).message}).`);
  }
  for (const [index, columns] of rows.entries()) {
    const where = `${name} row ${index + 1}`;
    if (!isJsonObject(columns)) {
      throw new Error(`Cannot read ${where}: expected a JSON object with one field per column.`);
    }
    yield { columns, where };
  }
}

/** Rows of lines of JSON, or of an array where the name says `.json` and the text begins with one. */
async function* jsonRows(path: string, name: string): AsyncGenerator<DataRow> {
  const isJson = /\.json(\.gz)?$/.test(path);
  const lines = textLines(path, name);
  let number = 0, isFirst = true;
  for await (const line of lines) {
    number++;
    if (line.trim() === "") continue;
    if (isJson && isFirst && line.trimStart().startsWith("[")) return yield* arrayRows(name, line, lines);
    isFirst = false;
    const where = `${name} line ${number}`;
    yield { columns: parseRow(line, where), where };
  }
}

/**
 * Reads the rows of a file one after the other. A `.json` file holds an array of rows or, as `datasets` allows, one row per
 * line. Blank lines are nothing; anything else that is not a row is an error that names file and line, and so is a file
 * without rows.
 */
export async function* readRows(path: string): AsyncGenerator<DataRow> {
  const name = basename(path);
  if (!EXTENSIONS.some((extension) => path.endsWith(extension))) {
    throw new Error(`Cannot read ${path}: expected a file that ends in ${EXTENSIONS.join(", ")}.`);
  }
  fileSize(path);
  const read = path.endsWith(".parquet") ? parquetRows : /\.csv(\.gz)?$/.test(path) ? csvRows : jsonRows;
  let isEmpty = true;
  for await (const row of read(path, name)) {
    isEmpty = false;
    yield row;
  }
  if (isEmpty) throw new Error(`Cannot read ${path}: it has no rows.`);
}

/** All rows of a file. */
export async function readDataset(path: string): Promise<DataRow[]> {
  return await Array.fromAsync(readRows(path));
}

/** Rows that were made in memory, with places for messages: `demonstrations row 3`. */
export function makeRows(name: string, rows: Iterable<JsonObject>): DataRow[] {
  return Array.from(rows, (columns, index) => ({ columns, where: `${name} row ${index + 1}` }));
}
