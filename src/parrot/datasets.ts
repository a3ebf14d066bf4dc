/**
 * The parrot's world as datasets of the trainers.
 *
 * @module
 */
import type { Rows } from "../data/batches.ts";
import { randomStream } from "../random/stream.ts";
import type { PromptExample, SftExample } from "../data/tokenize.ts";
import { type ModelConfig, plainLlama } from "../model/config.ts";
import { demonstration, pretrainingDocument } from "./corpus.ts";
import { MAX_REPLY } from "./replies.ts";
import { type Prompt, samplePrompt } from "./prompts.ts";
import { BOS_ID, encodeWords, EOS_ID, PAD_ID, promptIds, VOCABULARY } from "./vocabulary.ts";

/** The base model's shape: 297,216 parameters. */
export const PARROT_CONFIG: ModelConfig = plainLlama({
  architecture: "causal",
  vocabSize: VOCABULARY.length,
  hiddenSize: 96,
  intermediateSize: 192,
  layers: 3,
  heads: 3,
  kvHeads: 3,
  headDim: 32,
  normEps: 1e-5,
  ropeTheta: 10000,
  maxPositions: 64,
  tied: true,
  bosId: BOS_ID,
  eosIds: [EOS_ID],
  padId: PAD_ID,
});

/** Most tokens of a reply. */
export const MOST_REPLY_TOKENS = MAX_REPLY;

/** `count` documents of the parrot's internet, each made from its number when it is asked for; all tokens are scored. */
export function pretrainingRows(seed: number, count: number): Rows<SftExample> {
  return {
    length: count,
    at(row) {
      const text = pretrainingDocument(randomStream(seed, "internet", row));
      const ids = [BOS_ID, ...encodeWords(text)];
      return { ids, scored: ids.map((_, i) => i > 0) };
    },
  };
}

/** `count` demonstrations; the completion is scored. */
export function demonstrations(seed: number, count: number): SftExample[] {
  const rng = randomStream(seed, "demonstrations");
  return Array.from({ length: count }, () => {
    const { prompt, completion } = demonstration(rng);
    const before = [BOS_ID, ...encodeWords(prompt)];
    const ids = [...before, ...encodeWords(completion.trim())];
    return { ids, scored: ids.map((_, i) => i >= before.length) };
  });
}

/** `count` training prompts of the stage called `purpose`. */
export function trainingPrompts(seed: number, purpose: string, count: number): Prompt[] {
  const rng = randomStream(seed, "prompts", purpose);
  return Array.from({ length: count }, () => samplePrompt(rng));
}

/** Prompts as PPO takes them. */
export function promptExamples(prompts: Prompt[]): PromptExample[] {
  return prompts.map((prompt) => ({ ids: promptIds(prompt), text: prompt.text }));
}
