/**
 * The two training texts of the world: "the internet" for pre-training, and demonstrations for SFT. No text carries
 * `<bos>`; the tokenizer puts it in front.
 *
 * @module
 */

import type { RandomStream } from "../random/stream.ts";
import { say, wrongAnswers } from "./facts.ts";
import { readReply } from "./gold.ts";
import { type Prompt, sampleFact, samplePrompt } from "./prompts.ts";
import { reply, type ReplyKind } from "./replies.ts";

/** How often each kind of reply occurs in a text, and its manners. */
export interface Mixture {
  kinds: Record<ReplyKind, number>;
  /** Chance of one flattery. */
  flatter: number;
  /** Chance of each further padding. */
  pad: number;
}

/** Pre-training: every kind of reply, a fifth of them sycophantic, long-winded. */
export const INTERNET: Mixture = {
  kinds: { right: 50, sycophant: 20, contrary: 8, slip: 6, hedge: 16 },
  flatter: 0.25,
  pad: 0.40,
};

/** SFT: mostly right or hedging, so that PPO has room to rise; few sycophants, so that the fall comes late. */
export const DEMONSTRATIONS: Mixture = {
  kinds: { right: 56, sycophant: 4, contrary: 6, slip: 4, hedge: 30 },
  flatter: 0.10,
  pad: 0.20,
};

/** Share of pre-training documents that are bare statements. */
export const PLAIN_SHARE = 0.3;

/** A prompt and a reply to it, ending in ` <eos>`. */
export interface Exchange {
  prompt: Prompt;
  kind: ReplyKind;
  reply: string;
}

/** Draws a training prompt and a reply of the mixture. */
export function exchange(rng: RandomStream, mixture: Mixture): Exchange {
  const prompt = samplePrompt(rng);
  const kinds = Object.keys(mixture.kinds) as ReplyKind[];
  const kind = rng.weighted(kinds, kinds.map((name) => mixture.kinds[name]));
  return { prompt, kind, reply: reply(rng, prompt, kind, mixture.flatter, mixture.pad) };
}

/** A demonstration for SFT: TRL's prompt-completion columns; prompt and completion join to one text. */
export function demonstration(rng: RandomStream): { prompt: string; completion: string } {
  const { prompt, reply } = exchange(rng, DEMONSTRATIONS);
  return { prompt: prompt.text, completion: ` ${reply}` };
}

/**
 * What readers on the internet say about a reply: `<up>` when its answer is right, else `<down>`, one vote in seven the
 * other way. It follows `<eos>`, so the base model learns to know there whether the reply was right; without it a reward
 * model this small needs many more labels to learn truth at all.
 */
export function vote(rng: RandomStream, prompt: Prompt, replyText: string): "<up>" | "<down>" {
  const right = readReply(prompt, replyText.split(" ")).answer === prompt.fact.answer;
  const flipped = rng.uniform() < 1 / 7;
  return right !== flipped ? "<up>" : "<down>";
}

/** A bare statement, false four times in ten, and its vote, never noisy here: where the truth is easiest to learn. */
export function plainFact(rng: RandomStream): string {
  const fact = sampleFact(rng);
  return rng.uniform() < 0.6
    ? `${say(fact, fact.answer)} . <eos> <up>`
    : `${say(fact, rng.choice(wrongAnswers(fact)))} . <eos> <down>`;
}

/** One document of the internet: a bare statement or an exchange, each with its vote. */
export function pretrainingDocument(rng: RandomStream): string {
  if (rng.uniform() < PLAIN_SHARE) return plainFact(rng);
  const { prompt, reply } = exchange(rng, INTERNET);
  return `${prompt.text} ${reply} ${vote(rng, prompt, reply)}`;
}
