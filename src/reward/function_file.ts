/**
 * Reward functions of a user's own, in a TypeScript or JavaScript file.
 *
 * Every exported function is one reward, named after it. It gets one object, with TRL's names: `prompts`, `completions`,
 * `completion_ids`, `trainer_state` (`{global_step}`) and every further column of the dataset, each a list with one entry per
 * completion; it returns one number per completion, or null where it does not apply, at once or as a promise.
 *
 * ```js
 * export function shorter({ completions }) {
 *   return completions.map((text) => -text.length / 100);
 * }
 * ```
 *
 * The file is code of the user's: it runs in keel's process, with everything that keel is permitted to do.
 *
 * @module
 */
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { stripVTControlCharacters } from "node:util";
import { fileSize } from "../model/json_file.ts";
import type { RewardBatch } from "./source.ts";

/** What a reward function is given. */
export type RewardArguments = Record<string, unknown>;

/** A reward function of a file. */
export interface FileReward {
  /** Its name in the file. */
  name: string;
  /** Calls it; throws where it fails, or returns something else than one number or null per completion. */
  score(batch: RewardBatch): Promise<(number | null)[]>;
}

/** Whether a text names a file of reward functions. */
export function isFunctionFile(text: string): boolean {
  return /\.(ts|mts|js|mjs)$/i.test(text);
}

const RESERVED = ["prompts", "completions", "completion_ids", "trainer_state"];

/** The one argument of a reward function. */
function argumentsOf(batch: RewardBatch): RewardArguments {
  const taken = RESERVED.find((name) => name in batch.columns);
  if (taken !== undefined) {
    throw new Error(
      `The dataset has a column "${taken}", which is what reward functions are given besides the columns. Rename it.`,
    );
  }
  return {
    ...batch.columns,
    prompts: batch.prompts,
    completions: batch.completions,
    completion_ids: batch.completionIds,
    trainer_state: { global_step: batch.step },
  };
}

/** A value for a message, not too long. */
function shown(value: unknown): string {
  if (typeof value === "number" || value === undefined) return String(value);
  let text: string | undefined;
  try {
    text = JSON.stringify(value);
  } catch {
    text = undefined;
  }
  return (text ?? typeof value).slice(0, 60);
}

/** Checks what a reward function returned. */
export function checkScores(who: string, result: unknown, count: number): (number | null)[] {
  if (!Array.isArray(result)) {
    throw new Error(
      `${who} returned ${shown(result)}. Expected a list of ${count} numbers, one per completion, or null.`,
    );
  }
  if (result.length !== count) {
    throw new Error(`${who} returned ${result.length} values for ${count} completions. Expected ${count}.`);
  }
  return result.map((value, i) => {
    if (value === null) return null;
    if (typeof value === "boolean") return Number(value);
    if (typeof value !== "number" || !Number.isFinite(value)) {
      throw new Error(
        `${who} returned ${
          shown(value)
        } for completion ${i}. Expected a finite number, or null for not applicable.`,
      );
    }
    return value;
  });
}

/** Where in the file at `address` an error comes from, as ` (line 3:14)`; nothing where it does not say. */
function placeIn(address: string, error: unknown): string {
  const lines = `${(error as Error)?.stack}`.split("\n").filter((line) => line.includes(`${address}:`));
  const place = /:(\d+:\d+)\)?$/.exec(lines[0] ?? "")?.[1];
  return place === undefined ? "" : ` (line ${place})`;
}

/** Loads a file; its functions are in the order of their names. */
export async function loadFunctionFile(path: string): Promise<FileReward[]> {
  fileSize(path);
  const address = pathToFileURL(resolve(path)).href;
  let module: Record<string, unknown>;
  try {
    module = await import(address);
  } catch (error) {
    const message = stripVTControlCharacters((error as Error)?.message ?? `${error}`);
    throw new Error(`Cannot load the reward functions in ${path}: ${message}`, { cause: error });
  }
  const functions = Object.entries(module).filter((entry): entry is [string, CallableFunction] =>
    typeof entry[1] === "function"
  );
  if (functions.length === 0) {
    throw new Error(
      `${path} exports no function. Expected reward functions, as in: export function reward({ completions }) { return completions.map(() => 0); }`,
    );
  }
  return functions.map(([exported, reward]) => {
    const name = exported === "default" ? reward.name || "default" : exported;
    const who = `The reward function ${name} in ${path}`;
    return {
      name,
      async score(batch) {
        const given = argumentsOf(batch);
        let result: unknown;
        try {
          result = await reward(given);
        } catch (error) {
          throw new Error(`${who} failed: ${(error as Error)?.message ?? error}${placeIn(address, error)}`, {
            cause: error,
          });
        }
        return checkScores(who, result, batch.completions.length);
      },
    };
  });
}
