/**
 * Datasets of the methods that learn from preferences without a reward model.
 *
 * @module
 */
import type { Rows } from "../data/batches.ts";
import {
  type Answered,
  PREFERENCE_CODEC,
  type PreferenceExample,
  preferenceTokenizer,
  type TruncationMode,
  UNPAIRED_CODEC,
  unpairedRows,
} from "../data/preference.ts";
import { type UnpairedExample, unpairedTokenizer } from "../data/tokenize.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import { loadData, type LoadedData, type LoadSettings, type Picked } from "./load_data.ts";
import type { DataOptions } from "./options/data.ts";
import type { Sequence } from "./policy_pass.ts";

/** Pairs of answers. */
export function loadPreferences(
  options: DataOptions & { seed: number; truncationMode?: TruncationMode },
  tokenizer: Tokenizer,
  maxLength: number,
  settings: LoadSettings,
): Promise<LoadedData<Picked<PreferenceExample>>> {
  const { truncationMode } = options;
  return loadData(
    options,
    () => ({
      codec: PREFERENCE_CODEC,
      tokenize: preferenceTokenizer(tokenizer, { maxLength, truncationMode }),
    }),
    settings,
  );
}

/** Single answers that are good or bad, to be cut by their reader; pairs are taken apart. */
export function loadUnpaired(
  options: DataOptions & { seed: number },
  tokenizer: Tokenizer,
  maxLength: number,
  settings: LoadSettings,
): Promise<LoadedData<Picked<UnpairedExample>>> {
  return loadData(
    options,
    () => ({
      codec: UNPAIRED_CODEC,
      tokenize: unpairedTokenizer(tokenizer, { maxLength, wholeAnswers: true }),
      arrange: unpairedRows,
    }),
    settings,
  );
}

/**
 * A prompt and an answer, of both together the first `limit` tokens, as a model scores them. A first token has nothing before
 * it, so it counts as prompt.
 */
export function sequenceOf({ ids, promptLength }: Answered, limit = Infinity): Sequence {
  const begin = Math.max(1, promptLength);
  return { prompt: ids.slice(0, begin), completion: ids.slice(begin, limit) };
}

/** Tokens of the longest prompt with the longest answer, within `limit`. */
export function longestMismatched(examples: Rows<Answered>, limit: number): number {
  let prompt = 0, answer = 0;
  for (let row = 0; row < examples.length; row++) {
    const { ids, promptLength } = examples.at(row)!;
    prompt = Math.max(prompt, promptLength);
    answer = Math.max(answer, ids.length - promptLength);
  }
  return Math.min(prompt + answer, limit);
}

/** How many of the answers are good ones. */
export function countGood(examples: Rows<UnpairedExample>): number {
  let good = 0;
  for (let row = 0; row < examples.length; row++) if (examples.at(row)!.label) good++;
  return good;
}
