/**
 * Reading small JSON files that come from elsewhere, with errors that name the file.
 *
 * @module
 */

/** A JSON object as it came from a file; nothing about its fields is known. */
export type JsonObject = Record<string, unknown>;

/** Whether a value is a JSON object (not an array, not null). */
export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value for a message: its JSON, cut where it is long. */
export function shortJson(value: unknown): string {
  const text = JSON.stringify(value) ?? "undefined";
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

/** Whether a regular file of that name exists. */
export function fileExists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** The size of a regular file in bytes; an error that names it when it is missing, a directory or unreadable. */
export function fileSize(path: string): number {
  let info: Deno.FileInfo;
  try {
    info = Deno.statSync(path);
  } catch (error) {
    const missing = error instanceof Deno.errors.NotFound;
    throw new Error(
      `Cannot read ${path}: ${missing ? "the file does not exist" : (error as Error).message}.`,
    );
  }
  if (!info.isFile) throw new Error(`Cannot read ${path}: it is not a file.`);
  return info.size;
}

/** Reads a UTF-8 text file of at most `maxBytes`. */
export function readTextFile(path: string, maxBytes: number): string {
  const size = fileSize(path);
  if (size > maxBytes) {
    throw new Error(`Cannot read ${path}: it has ${size} bytes. Expected at most ${maxBytes}.`);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Deno.readFileSync(path));
  } catch (error) {
    throw new Error(
      `Cannot read ${path}: ${
        error instanceof TypeError ? "it is not UTF-8 text" : (error as Error).message
      }.`,
    );
  }
}

/** Reads a file that holds one JSON object of at most `maxBytes`, 4 MB if not said otherwise. */
export function readJsonObject(path: string, maxBytes = 4e6): JsonObject {
  const text = readTextFile(path, maxBytes);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new Error(`Cannot read ${path}: it is not valid JSON (${(error as Error).message}).`);
  }
  if (!isJsonObject(value)) throw new Error(`Cannot read ${path}: expected a JSON object.`);
  return value;
}
