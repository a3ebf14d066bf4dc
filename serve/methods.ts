/**
 * Methods that a run can be made of, and their options as a request gives them: TRL's names, checked one by one.
 *
 * @module
 */
import { distance } from "fastest-levenshtein";
import { z } from "zod";
import { camelCase, snakeCase } from "../src/train/options/names.ts";
import { cpoSchema } from "../src/train/options/cpo.ts";
import { dpoSchema } from "../src/train/options/dpo.ts";
import { grpoSchema } from "../src/train/options/grpo.ts";
import { ktoSchema } from "../src/train/options/kto.ts";
import { onlineDpoSchema } from "../src/train/options/online_dpo.ts";
import { orpoSchema } from "../src/train/options/orpo.ts";
import { ppoSchema } from "../src/train/options/ppo.ts";
import { reinforceSchema } from "../src/train/options/reinforce.ts";
import { rewardSchema } from "../src/train/options/reward.ts";
import { rlooSchema } from "../src/train/options/rloo.ts";
import { sftSchema } from "../src/train/options/sft.ts";
import { trainSchema } from "../src/train/options/train.ts";
import type { FieldProblem } from "./http_error.ts";
import { GUARDED_SOURCES, whyRefused } from "./reward_sources.ts";

/** Names of the methods. */
export const METHODS = [
  "sft",
  "reward",
  "ppo",
  "grpo",
  "rloo",
  "reinforce",
  "online-dpo",
  "dpo",
  "kto",
  "orpo",
  "cpo",
  "train",
] as const;

/** Name of a method. */
export type Method = typeof METHODS[number];

const SCHEMAS: Record<Method, z.ZodObject> = {
  sft: sftSchema,
  reward: rewardSchema,
  ppo: ppoSchema,
  grpo: grpoSchema,
  rloo: rlooSchema,
  reinforce: reinforceSchema,
  "online-dpo": onlineDpoSchema,
  dpo: dpoSchema,
  kto: ktoSchema,
  orpo: orpoSchema,
  cpo: cpoSchema,
  train: trainSchema,
};

/** Options that are the server's to give. */
export const OWN_OPTIONS = ["outputDir", "resume", "resumeFromCheckpoint", "overwriteOutputDir"];

/** What requests may ask for. */
export interface Leave {
  /** Rewards from files of functions, from other servers and from judges. */
  rewardSources: boolean;
}

const NO_LEAVE: Leave = { rewardSources: false };

/** Options as they are checked, without those that the server gives and some others. */
function schemaOf(method: Method, without: string[] = []): z.ZodObject {
  const shape = SCHEMAS[method].shape, absent = [...OWN_OPTIONS, ...without];
  return z.strictObject(
    Object.fromEntries(Object.entries(shape).filter(([name]) => !absent.includes(name))),
  );
}

/** JSON schema of the options that requests may give, by TRL's names, with defaults, limits and descriptions. */
export function optionsJsonSchema(
  method: Method,
  { rewardSources }: Leave = NO_LEAVE,
): Record<string, unknown> {
  const schema = schemaOf(method, rewardSources ? [] : GUARDED_SOURCES);
  return renamed(z.toJSONSchema(schema, { io: "input" }) as Record<string, unknown>);
}

/** A JSON schema whose properties have TRL's names. */
function renamed(schema: Record<string, unknown>): Record<string, unknown> {
  const { $schema: _, properties = {}, required = [], ...rest } = schema;
  return {
    ...rest,
    properties: Object.fromEntries(
      Object.entries(properties as object).map(([name, property]) => [snakeCase(name), property]),
    ),
    required: (required as string[]).map(snakeCase),
  };
}

/** Options by TRL's names, aliases resolved, or what is wrong with them. */
export function checkOptions(
  method: Method,
  given: Record<string, unknown>,
  { rewardSources }: Leave = NO_LEAVE,
): { options: Record<string, unknown>; problems: FieldProblem[] } {
  const schema = schemaOf(method), shape = schema.shape;
  const byName = new Map<string, string>();
  for (const [name, field] of Object.entries(shape)) {
    const { aliases = [] } = (field as z.ZodType).meta() as { aliases?: string[] } ?? {};
    for (const one of [name, ...aliases.map(camelCase)]) byName.set(one, name);
  }
  const problems: FieldProblem[] = [], options = new Map<string, { value: unknown; path: string }>();
  for (const [path, value] of Object.entries(given)) {
    const name = byName.get(camelCase(path));
    if (OWN_OPTIONS.includes(camelCase(path))) {
      problems.push({ path, message: "The server gives this option itself. Leave it out." });
    } else if (name === undefined) {
      problems.push({
        path,
        message: `keel ${method} has no such option.${suggestion(path, byName.keys())}`,
      });
    } else if (options.has(name)) {
      problems.push({ path, message: `This option is there twice, also as ${options.get(name)!.path}.` });
    } else options.set(name, { value, path });
  }
  const values = Object.fromEntries(Array.from(options, ([name, { value }]) => [name, value]));
  // As in a configuration file, null stands for "not given" where an option may be without a value.
  for (const [name, value] of Object.entries(values)) {
    if (value === null && shape[name] instanceof z.ZodOptional) delete values[name];
  }
  for (const [name, value] of Object.entries(rewardSources ? {} : values)) {
    const message = whyRefused(name, value);
    if (message !== undefined) problems.push({ path: options.get(name)!.path, message });
  }
  for (const { path: [name], message } of schema.safeParse(values).error?.issues ?? []) {
    const found = options.get(name as string);
    problems.push(
      found
        ? { path: found.path, message: `Got ${JSON.stringify(found.value)}. ${message}.` }
        : { path: snakeCase(String(name)), message: "This option is missing." },
    );
  }
  return {
    options: Object.fromEntries(Object.entries(values).map(([name, value]) => [snakeCase(name), value])),
    problems,
  };
}

function suggestion(path: string, names: Iterable<string>): string {
  const known = Array.from(names, snakeCase);
  const [close] = known.map((name) => ({ name, edits: distance(name, path) }))
    .filter(({ name, edits }) => edits <= Math.max(2, Math.floor(name.length / 3)))
    .sort((a, b) => a.edits - b.edits);
  return close ? ` Did you mean ${close.name}?` : "";
}
