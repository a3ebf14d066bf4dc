/**
 * Configuration files: YAML or JSON, one mapping from option names to values.
 *
 * @module
 */
import { load } from "js-yaml";
import { isJsonObject, readTextFile } from "../model/json_file.ts";
import { UsageError } from "./usage_error.ts";

/** Largest configuration file in bytes. */
const MOST_BYTES = 1e6;

/** Reads a configuration; names are as they stand in the file. */
export function readConfigFile(path: string): Record<string, unknown> {
  let value: unknown;
  try {
    const text = readTextFile(path, MOST_BYTES);
    value = path.endsWith(".json") ? JSON.parse(text) : load(text, { filename: path });
  } catch (error) {
    const message = (error as Error).message;
    throw new UsageError(message.startsWith("Cannot read") ? message : `Cannot read ${path}: ${message}`);
  }
  if (value === null || value === undefined) return {};
  if (!isJsonObject(value)) {
    throw new UsageError(`Cannot read ${path}: expected a mapping from option names to values.`);
  }
  return value;
}
