/**
 * Rewards from a server, in the dialect of OpenRLHF's `get_reward`: `{"query": [...], "prompts": [...], "labels": [...]}` is posted,
 * where a query is a prompt with its completion, special tokens written out; `{"rewards": [...]}` comes back, perhaps with
 * `extra_logs`, numbers or lists of numbers by name.
 *
 * @module
 */
import { isJsonObject } from "../model/json_file.ts";
import { checkScores } from "./function_file.ts";
import { post, type PostSettings, shownAddress } from "./post.ts";
import type { RewardBatch, RewardSource } from "./source.ts";

/** An answer of so many bytes is none. */
const MAX_BYTES = 64e6;

/** Further numbers that are kept of an answer. */
const MOST_LOGS = 32;

/** Where rewards are asked for. */
export interface EndpointSettings extends Pick<PostSettings, "timeout" | "retries" | "seed" | "wait"> {
  /** Address to which batches are posted. */
  url: string;
  /** Column that is sent as `labels`. */
  labelColumn?: string;
  /** Text of token ids, special tokens written out. */
  decode: (ids: number[]) => string;
}

/** Means of the further numbers in an answer, by their names. */
function meansOf(logs: unknown): Record<string, number> {
  if (!isJsonObject(logs)) return {};
  const means: [string, number][] = [];
  for (const [name, value] of Object.entries(logs)) {
    const numbers = [value].flat().filter((one): one is number => typeof one === "number");
    if (numbers.length === 0 || !/^[\w./-]{1,60}$/.test(name) || means.length === MOST_LOGS) continue;
    means.push([`reward_url/${name}`, numbers.reduce((a, b) => a + b, 0) / numbers.length]);
  }
  return Object.fromEntries(means);
}

/** A source that asks the server at `url`. */
export function endpointReward(settings: EndpointSettings): Omit<RewardSource, "weight"> {
  const { url, labelColumn, decode } = settings, where = shownAddress(url);
  let number = 0, logs: Record<string, number> = {};

  function bodyOf(batch: RewardBatch): Record<string, unknown> {
    const { promptIds, completionIds, prompts, columns } = batch;
    if (labelColumn !== undefined && !(labelColumn in columns)) {
      throw new Error(
        `The dataset has no column "${labelColumn}", which reward_label_column names. It has ${
          Object.keys(columns).join(", ") || "no further ones"
        }.`,
      );
    }
    return {
      query: promptIds.map((ids, i) => decode([...ids, ...completionIds[i]])),
      prompts: prompts.map((prompt, i) => typeof prompt === "string" ? prompt : decode(promptIds[i])),
      ...labelColumn !== undefined && { labels: columns[labelColumn] },
    };
  }

  return {
    name: "reward_url",
    async score(batch) {
      const text = await post(url, bodyOf(batch), { ...settings, number: number++, maxBytes: MAX_BYTES });
      let answer: unknown;
      try {
        answer = JSON.parse(text);
      } catch (error) {
        throw new Error(
          `${where} answers with ${
            JSON.stringify(text.slice(0, 80))
          }, which is not JSON. Expected {"rewards": [...]}.`,
          { cause: error },
        );
      }
      const rewards = isJsonObject(answer) ? answer.rewards : undefined;
      if (rewards === undefined) {
        throw new Error(`${where} answers without "rewards". Expected {"rewards": [...]}.`);
      }
      logs = meansOf((answer as Record<string, unknown>).extra_logs);
      return checkScores(`The server at ${where}`, rewards, batch.completions.length);
    },
    metrics: () => logs,
  };
}
