/**
 * Reading the fields of a model's JSON files; each error names file and field.
 *
 * @module
 */
import { type JsonObject, shortJson } from "./json_file.ts";

/** Fields of one JSON file. */
export class Fields {
  constructor(private json: JsonObject, private source: string) {}

  /** The value, or undefined where it is absent or null. */
  get(name: string): unknown {
    return this.json[name] ?? undefined;
  }

  /** The same with values for what is absent or null. */
  or(defaults: JsonObject): Fields {
    const given = Object.entries(this.json).filter(([, value]) => value !== null);
    return new Fields({ ...defaults, ...Object.fromEntries(given) }, this.source);
  }

  has(name: string): boolean {
    return Object.hasOwn(this.json, name);
  }

  fail(name: string, expected: string): never {
    throw new Error(
      `Cannot read ${this.source}: "${name}" is ${shortJson(this.json[name])}. Expected ${expected}.`,
    );
  }

  /** A whole number in a range; `fallback` for an absent field, without one the field is required. */
  integer(name: string, min: number, max: number, fallback?: number): number {
    const value = this.get(name) ?? fallback;
    if (typeof value !== "number" || !Number.isInteger(value) || value < min || value > max) {
      this.fail(name, `a whole number from ${min} to ${max}`);
    }
    return value;
  }

  /** A number in a range. */
  number(name: string, min: number, max: number, fallback?: number): number {
    const value = this.get(name) ?? fallback;
    if (typeof value !== "number" || !(value >= min && value <= max)) {
      this.fail(name, `a number from ${min} to ${max}`);
    }
    return value;
  }

  boolean(name: string, fallback: boolean): boolean {
    const value = this.get(name) ?? fallback;
    if (typeof value !== "boolean") this.fail(name, "true or false");
    return value;
  }

  /** One of the keys of `choices`, as its value. */
  choice<T>(name: string, choices: Record<string, T>, fallback?: string): T {
    const value = this.get(name) ?? fallback;
    if (typeof value !== "string" || !Object.hasOwn(choices, value)) {
      const known = Object.keys(choices).map((key) => JSON.stringify(key)).join(" or ");
      this.fail(name, `${known}; keel computes nothing else here`);
    }
    return choices[value];
  }

  /** Refuses a feature: the field must be absent, null or one of the values that mean "off". */
  refuse(name: string, ...off: unknown[]): void {
    const value = this.get(name);
    if (value !== undefined && !off.includes(value)) {
      this.fail(
        name,
        `${[...off, null].map((item) => JSON.stringify(item)).join(" or ")}; keel does not compute this`,
      );
    }
  }

  /** Ids of special tokens: none, one, or a list. -1 means none in some old files. */
  ids(name: string, vocabSize: number, fallback?: number): number[] {
    const value = this.has(name) ? this.get(name) : fallback;
    if (value === undefined || value === -1) return [];
    const ids = Array.isArray(value) ? value : [value];
    const valid = (id: unknown) => Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabSize;
    if (!ids.every(valid)) this.fail(name, `token ids below the vocabulary size ${vocabSize}`);
    return ids;
  }
}
