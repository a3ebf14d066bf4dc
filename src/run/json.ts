/**
 * JSON for numbers that JSON does not know: NaN, ±Infinity and −0 come back as they were.
 *
 * Resuming must continue with the same bits, and a run that went wrong must show its NaN, so such a number is stored as
 * `{"$number": "NaN"}`.
 *
 * For other programs than keel there are the texts "NaN", "Infinity" and "-Infinity", which Python's `float()` and JavaScript's
 * `Number()` read.
 *
 * @module
 */

/** A value as JSON text; `undefined` fields become `null`, so that a setting without a value is still listed. */
export function toJson(value: unknown, indent?: number): string {
  const replace = (_key: string, item: unknown) => {
    if (item === undefined) return null;
    if (typeof item !== "number") return item;
    if (Object.is(item, -0)) return { $number: "-0" };
    return Number.isFinite(item) ? item : { $number: String(item) };
  };
  return JSON.stringify(value, replace, indent);
}

/** The reverse of {@linkcode toJson}. */
export function fromJson(text: string): unknown {
  return JSON.parse(text, (_key, item) => {
    const number = typeof item === "object" && item !== null ? item.$number : undefined;
    return typeof number === "string" ? Number(number) : item;
  });
}

/** A number as other programs can read it in JSON: its name where JSON has no number for it. */
export function plainNumber(value: number): number | "NaN" | "Infinity" | "-Infinity" {
  return Number.isFinite(value) ? value : String(value) as "NaN";
}
