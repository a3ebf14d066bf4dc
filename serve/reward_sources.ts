/**
 * Sources of rewards that a request may not name by itself: code that would run here, and addresses that texts and keys would be
 * sent to. Built-in rewards and reward models are data and always fine.
 *
 * @module
 */
import { BUILTIN_NAMES } from "../src/reward/builtin.ts";
import { isFunctionFile } from "../src/reward/function_file.ts";

/** What is wrong with an option, whatever its value. */
const REASONS: Record<string, string> = {
  rewardUrl: "keel would send prompts and completions to this address",
  judgeUrl: "keel would send prompts, completions and the judge's key to this address",
  judgeRubric: "keel would send this file to the judge",
  judgeApiKeyEnv: "keel would send this variable to the judge",
};

/** Options that a server has only where it was started with `--allow_reward_sources`. */
export const GUARDED_SOURCES: string[] = Object.keys(REASONS);

const HOW =
  "A request may do that only where the server was started with keel serve --allow_reward_sources; built-in rewards and reward models need no leave";

/** Why a request may not give an option this value; undefined where it may. */
export function whyRefused(name: string, value: unknown): string | undefined {
  if (Object.hasOwn(REASONS, name)) return `${REASONS[name]}. ${HOW}.`;
  if (name !== "rewardFuncs") return undefined;
  const strange = [value].flat().find((one) => typeof one === "string" && !isBuiltin(one));
  return strange === undefined
    ? undefined
    : `${
      JSON.stringify(strange)
    } is no built-in reward, and keel would run a file as code. ${HOW}. Built-in are ${
      BUILTIN_NAMES.join(", ")
    }.`;
}

function isBuiltin(text: string): boolean {
  return !isFunctionFile(text) && BUILTIN_NAMES.includes(text.split(":")[0]);
}
