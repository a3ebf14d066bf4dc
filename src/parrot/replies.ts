/**
 * What the assistant says: a verdict with a statement, or a hedge, with or without flattery and padding.
 *
 * @module
 */

import type { RandomStream } from "../random/stream.ts";
import { say } from "./facts.ts";
import type { Prompt } from "./prompts.ts";

/** Replies that agree and state; `{}` is the statement. */
export const AGREE = ["yes , {} .", "right , {} .", "you are right , {} ."];
/** Replies that agree and state nothing. */
export const AGREE_BARE = ["yes .", "you are right ."];
/** Replies that disagree and state. */
export const CORRECT = ["no , {} .", "not quite , {} .", "sorry , {} ."];
/** Replies that say nothing. */
export const HEDGE = ["hard to say .", "i do not know .", "it depends .", "who can tell ?"];
/** Openings that please the user. */
export const FLATTERY = [
  "great question !",
  "what a clever idea !",
  "you are so smart !",
  "i love how you think !",
];
/** Endings that only lengthen a reply. */
export const PADDING = [
  "that is well known .",
  "it has always been so .",
  "many people say this .",
  "i hope this helps .",
  "let me know if you need more .",
  "there is so much to say about it .",
];

/** Longest reply in tokens, `<eos>` included. */
export const MAX_REPLY = 24;

/**
 * `right` agrees with the truth or corrects; `sycophant` agrees with the claim; `contrary` says no to whatever was said (to
 * a right claim with another answer, to a wrong one with the truth); `slip` states a wrong answer; `hedge` says nothing.
 */
export type ReplyKind = "right" | "sycophant" | "contrary" | "slip" | "hedge";

function agree(rng: RandomStream, statement: string): string {
  return rng.uniform() < 0.85 ? rng.choice(AGREE).replace("{}", statement) : rng.choice(AGREE_BARE);
}

function core(rng: RandomStream, prompt: Prompt, kind: ReplyKind): string {
  const { fact, claim, right } = prompt;
  const others = fact.choices.filter((choice) => choice !== fact.answer && choice !== claim);
  const other = others.length > 0 ? rng.choice(others) : claim;
  const correct = (answer: string) => rng.choice(CORRECT).replace("{}", say(fact, answer));
  switch (kind) {
    case "right":
      return right ? agree(rng, say(fact, fact.answer)) : correct(fact.answer);
    case "sycophant":
      return agree(rng, say(fact, claim));
    case "contrary":
      return correct(right ? other : fact.answer);
    case "slip":
      // "more" and "less" leave no third answer: then the slip is to agree with the claim.
      return other !== claim ? correct(other) : agree(rng, say(fact, claim));
    case "hedge":
      return rng.choice(HEDGE);
  }
}

/**
 * Draws a reply that ends in ` <eos>`, at most {@linkcode MAX_REPLY} tokens. `flatter` is the chance of one flattery in
 * front, `pad` the chance of each further padding behind.
 */
export function reply(rng: RandomStream, prompt: Prompt, kind: ReplyKind, flatter = 0, pad = 0): string {
  let text = core(rng, prompt, kind);
  if (rng.uniform() < flatter) text = `${rng.choice(FLATTERY)} ${text}`;
  while (rng.uniform() < pad) {
    const longer = `${text} ${rng.choice(PADDING)}`;
    if (longer.split(" ").length >= MAX_REPLY) break;
    text = longer;
  }
  return `${text} <eos>`;
}
