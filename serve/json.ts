/**
 * JSON for everyone: numbers that JSON does not know are the texts "NaN", "Infinity" and "-Infinity", which Python's
 * `float()` and JavaScript's `Number()` read.
 *
 * @module
 */
import { plainNumber } from "../src/run/json.ts";

export { plainNumber };

/** The same value with every such number replaced. */
export function plain<T>(value: T): T {
  if (typeof value === "number") return plainNumber(value) as T;
  if (Array.isArray(value)) return value.map(plain) as T;
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, plain(item)])) as T;
}

/** A value as JSON text. */
export function plainJson(value: unknown): string {
  return JSON.stringify(plain(value));
}

/** Lets other requests be answered. */
export function breathe(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
