/**
 * From flags and a configuration file to the options of a command: flags override the file, and everything is checked
 * against the command's schema.
 *
 * @module
 */
import type { z } from "zod";
import { readConfigFile } from "./config_file.ts";
import { camelCase, snakeCase } from "../train/options/names.ts";
import { expectation, type Field, fieldsOf, isOptional, parseValue } from "./fields.ts";
import { foreignField } from "./foreign_fields.ts";
import { nearest, UsageError } from "./usage_error.ts";

/** Checked options, and what a person should know about them. */
export interface ParsedOptions {
  /** Every option of the command by its TypeScript name, defaults included. */
  options: Record<string, unknown>;
  warnings: string[];
}

/** A value before it is checked, and how its origin is named in a message. */
interface Given {
  value: unknown;
  label: string;
}

/**
 * Options of a command.
 *
 * @param flags the texts given for each flag, by TRL's name or an alias
 * @throws {UsageError} that lists every wrong value with what was expected.
 */
export function parseOptions(
  schema: z.ZodType,
  flags: ReadonlyMap<string, string[]>,
  configPath?: string,
): ParsedOptions {
  const fields = fieldsOf(schema);
  const byName = new Map<string, Field>();
  for (const field of fields) {
    for (const name of [field.flag, ...field.aliases]) byName.set(camelCase(name), field);
  }
  const warnings: string[] = [], problems: string[] = [];
  const given = new Map<Field, Given>();

  if (configPath !== undefined) {
    for (const [name, value] of Object.entries(asMeant(readConfigFile(configPath)))) {
      const field = byName.get(camelCase(name));
      const label = `${configPath}: ${name}`;
      if (!field) passOver(name, value, label);
      else if (given.has(field)) {
        problems.push(`${label}: this option is there twice, as ${given.get(field)!.label}.`);
      } else given.set(field, { value: value === null && isOptional(field) ? undefined : value, label });
    }
  }
  for (const [flag, texts] of flags) {
    const field = byName.get(camelCase(flag));
    if (!field) passOver(flag, scalar(texts[texts.length - 1]), `--${flag}`);
    else given.set(field, { value: parseValue(field, texts), label: `--${flag}` });
  }
  warmUpShare(given, byName);

  const input = Object.fromEntries(Array.from(given, ([field, { value }]) => [field.name, value]));
  const result = schema.safeParse(input);
  for (const issue of result.error?.issues ?? []) {
    const field = fields.find(({ name }) => name === issue.path[0]);
    if (!field) problems.push(issue.message);
    else if (!given.has(field)) problems.push(`--${field.flag} is missing. Expected ${expectation(field)}.`);
    else {
      const { value, label } = given.get(field)!;
      problems.push(`${label}: got ${JSON.stringify(value)}, expected ${expectation(field)}.`);
    }
  }
  if (problems.length) {
    throw new UsageError(
      problems.length === 1
        ? problems[0]
        : `${problems.length} options are wrong:\n  ${problems.join("\n  ")}`,
    );
  }
  const options = result.data as Record<string, unknown>;
  for (const { name } of fields) if (!(name in options)) options[name] = undefined;
  return { options, warnings };

  /** A field that the command does not have. */
  function passOver(name: string, value: unknown, label: string): void {
    const foreign = foreignField(snakeCase(camelCase(name)), value);
    if (foreign?.action === "ignore") {
      warnings.push(`${label} has no effect: ${foreign.reason}.`);
    } else if (foreign) {
      problems.push(`${label}: ${JSON.stringify(value)} is not supported; ${foreign.reason}.`);
    } else {
      const known = fields.flatMap(({ flag, aliases }) => [flag, ...aliases]);
      const close = nearest(snakeCase(camelCase(name)), known);
      problems.push(`${label} is not an option of this command.${close ? ` Did you mean ${close}?` : ""}`);
    }
  }
}

/** A flag's text as the value that a configuration file would have. */
function scalar(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return /^none$/i.test(text) ? null : /^(true|false)$/i.test(text) ? text.toLowerCase() === "true" : text;
  }
}

/** A file's values in keel's words, where transformers says the same in others. */
function asMeant(file: Record<string, unknown>): Record<string, unknown> {
  const { train_sampling_strategy: strategy, eval_steps: evalSteps, ...others } = file;
  return {
    ...others,
    ...(evalSteps == null ? {} : { eval_steps: evalSteps }),
    // The order in which rows are drawn; TRL's shuffle_dataset comes before it.
    ...(strategy === "random" || strategy === "sequential"
      ? { shuffle_dataset: strategy === "random" }
      : strategy === undefined
      ? {}
      : { train_sampling_strategy: strategy }),
  };
}

/** As in transformers 5, `warmup_steps` below 1 is a share of all steps. */
function warmUpShare(given: Map<Field, Given>, byName: Map<string, Field>): void {
  const steps = byName.get("warmupSteps"), ratio = byName.get("warmupRatio");
  if (!steps || !ratio) return;
  const share = given.get(steps)?.value;
  if (typeof share !== "number" || share <= 0 || share >= 1) return;
  given.set(ratio, { ...given.get(steps)!, value: share });
  given.set(steps, { ...given.get(steps)!, value: 0 });
}
