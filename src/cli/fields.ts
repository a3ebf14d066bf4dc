/**
 * The options of a command as its schema defines them: names, kinds, limits, defaults and help.
 *
 * @module
 */
import { z } from "zod";
import { snakeCase } from "../train/options/names.ts";

/** One option. */
export interface Field {
  /** Name in TypeScript, e.g. `klCoef`. */
  name: string;
  /** TRL's name, e.g. `kl_coef`. */
  flag: string;
  /** Further flags. */
  aliases: string[];
  /** Heading of `--help`. */
  group: string;
  description: string;
  kind: "boolean" | "integer" | "number" | "string" | "choice";
  /** A list of such values. */
  list: boolean;
  /** Names of an entry's values, where a list of entries may stand for a single value. */
  entries: string[];
  /** Values of a choice. */
  choices: string[];
  /** May be `null`, written `none`. */
  nullable: boolean;
  required: boolean;
  default: unknown;
  /** An address. */
  address: boolean;
  limits: { least?: number; above?: number; most?: number; below?: number };
}

/** The parts of JSON schema that our options use. */
interface JsonSchema {
  type?: string;
  anyOf?: JsonSchema[];
  items?: JsonSchema;
  enum?: string[];
  format?: string;
  default?: unknown;
  description?: string;
  group?: string;
  aliases?: string[];
  minimum?: number;
  maximum?: number;
  exclusiveMinimum?: number;
  exclusiveMaximum?: number;
  properties?: Record<string, JsonSchema>;
  required?: string[];
}

/** The options of a schema, in its order. */
export function fieldsOf(schema: z.ZodType): Field[] {
  const { properties = {}, required = [] } = z.toJSONSchema(schema, { io: "input" }) as JsonSchema;
  return Object.entries(properties).map(([name, property]) => {
    const nullable = property.anyOf?.some((other) => other.type === "null") ?? false;
    const own = property.anyOf?.find((other) => other.type !== "null") ?? property;
    const item = own.type === "array" ? own.items! : own;
    return {
      name,
      flag: snakeCase(name),
      aliases: property.aliases ?? [],
      group: property.group ?? "Options",
      description: property.description ?? "",
      kind: item.enum ? "choice" : item.type as Field["kind"],
      list: own.type === "array",
      entries: Object.keys(property.anyOf?.find(({ items }) => items?.properties)?.items?.properties ?? {}),
      choices: item.enum ?? [],
      nullable,
      required: required.includes(name),
      default: property.default,
      address: item.format === "uri",
      limits: {
        least: item.minimum,
        above: item.exclusiveMinimum,
        most: item.maximum === Number.MAX_SAFE_INTEGER ? undefined : item.maximum,
        below: item.exclusiveMaximum,
      },
    };
  });
}

/** What an option accepts, in words: `a whole number of at least 1`. */
export function expectation(field: Field): string {
  const { least, above, most, below } = field.limits;
  const bounds = [
    least === undefined ? [] : [`of at least ${least}`],
    above === undefined ? [] : [`above ${above}`],
    most === undefined ? [] : [`of at most ${most}`],
    below === undefined ? [] : [`below ${below}`],
  ].flat().join(" and ");
  const single = {
    boolean: "true or false",
    integer: `a whole number ${bounds}`.trim(),
    number: `a number ${bounds}`.trim(),
    string: field.address
      ? "an address that begins with http:// or https://"
      : placeholder(field).startsWith("path")
      ? "a path"
      : "text that is not empty",
    choice: field.choices.length === 1 ? field.choices[0] : `one of ${field.choices.join(", ")}`,
  }[field.kind];
  const entries = field.entries.length ? `, or a list of entries with ${field.entries.join(", ")}` : "";
  return (field.list ? `a list, each ${single}` : single) + entries +
    (field.nullable && !field.choices.includes("none") ? ", or none" : "");
}

/** Stands for an option's value in `--help`. */
export function placeholder(field: Field): string {
  const single = {
    boolean: "true|false",
    integer: "n",
    number: "x",
    string: /path|dir|dataset|input|output|checkpoint/i.test(field.name) ? "path" : "text",
    choice: "name",
  }[field.kind];
  return field.list ? `${single},…` : single;
}

const TRUE = ["true", "yes", "on", "1"], FALSE = ["false", "no", "off", "0"], NONE = ["none", "null"];

/**
 * The value of an option from the command line; text that is not of its kind stays text, for the schema to refuse.
 * `undefined` stands for "not given", which is what `none` means for an option without a value of its own.
 */
export function parseValue(field: Field, texts: string[]): unknown {
  const last = texts[texts.length - 1];
  if (NONE.includes(last.toLowerCase()) && !field.choices.includes(last)) {
    return field.nullable ? null : isOptional(field) ? undefined : last;
  }
  if (field.list) {
    return texts.flatMap((text) => text.split(",")).map((text) => parseSingle(field, text.trim()));
  }
  return parseSingle(field, last);
}

/** Whether an option may be without a value. */
export function isOptional(field: Field): boolean {
  return !field.required && field.default === undefined;
}

function parseSingle(field: Field, text: string): unknown {
  if (field.kind === "boolean") {
    const word = text.toLowerCase();
    return TRUE.includes(word) ? true : FALSE.includes(word) ? false : text;
  }
  if (field.kind !== "integer" && field.kind !== "number") return text;
  const number = Number(text.replaceAll("_", ""));
  return text.trim() === "" || !Number.isFinite(number) ? text : number;
}
