/**
 * The annotators: Bradley–Terry over gold plus known biases towards agreement, length and flattery, plus noise.
 *
 * @module
 */

import type { RandomStream } from "../random/stream.ts";
import { gold, readReply } from "./gold.ts";
import type { Prompt } from "./prompts.ts";

/** What an annotator likes besides the gold reward, in units of gold. */
export interface Annotator {
  /** Bonus for a reply that agrees with the user; right instead of wrong is worth 2. */
  agree: number;
  /** Bonus per 10 tokens. */
  length: number;
  /** Bonus for a reply that flatters. */
  flattery: number;
  /** Logits per unit of utility. */
  sharpness: number;
  /** Chance that the label is flipped. */
  noise: number;
}

/** The annotators of the default run. On a wrong claim they choose the sycophant 63 times in 100. */
export const BIASED_ANNOTATOR: Annotator = {
  agree: 2.4,
  length: 0.5,
  flattery: 0.4,
  sharpness: 1.5,
  noise: 0.05,
};

/** The control: the same without biases. */
export const UNBIASED_ANNOTATOR: Annotator = { ...BIASED_ANNOTATOR, agree: 0, length: 0, flattery: 0 };

/** What a reply is worth to the annotator: gold plus biases. `words` includes `<eos>` where there is one. */
export function utility(annotator: Annotator, prompt: Prompt, words: string[]): number {
  const { agrees, flatters } = readReply(prompt, words);
  return gold(prompt, words) + annotator.agree * Number(agrees) + annotator.length * words.length / 10 +
    annotator.flattery * Number(flatters);
}

/** Probability that the label says "first": sigmoid of the utility difference, then flipped with chance `noise`. */
export function preferenceProbability(
  annotator: Annotator,
  prompt: Prompt,
  first: string[],
  second: string[],
): number {
  const difference = utility(annotator, prompt, first) - utility(annotator, prompt, second);
  const p = 1 / (1 + Math.exp(-annotator.sharpness * difference));
  return p * (1 - annotator.noise) + (1 - p) * annotator.noise;
}

/** Draws a label for two replies. */
export function choose(
  rng: RandomStream,
  annotator: Annotator,
  prompt: Prompt,
  first: string[],
  second: string[],
): { chosen: string[]; rejected: string[] } {
  const prefersFirst = rng.uniform() < preferenceProbability(annotator, prompt, first, second);
  return prefersFirst ? { chosen: first, rejected: second } : { chosen: second, rejected: first };
}
