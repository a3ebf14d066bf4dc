/**
 * The 209 words of the world, one word = one token, in order of first appearance.
 *
 * @module
 */

import { FACTS } from "./facts.ts";
import { FRAMES, type Prompt } from "./prompts.ts";
import { AGREE, AGREE_BARE, CORRECT, FLATTERY, HEDGE, PADDING } from "./replies.ts";

function makeVocabulary(): string[] {
  const words = ["<pad>", "<bos>", "<eos>", "<user>", "<bot>", "<up>", "<down>"];
  for (let number = 0; number < 19; number++) words.push(String(number));
  for (const { before, answer, after, choices } of FACTS) {
    words.push(...before.split(" "), answer, ...after.split(" "), ...choices);
  }
  for (const phrase of [...FRAMES, ...AGREE, ...AGREE_BARE, ...CORRECT, ...HEDGE, ...FLATTERY, ...PADDING]) {
    words.push(...phrase.replace("{}", "").split(" "));
  }
  return [...new Set(words)].filter((word) => word !== "");
}

/** All words; a word's id is its index. */
export const VOCABULARY: readonly string[] = makeVocabulary();

/** Ids of the special words. */
export const PAD_ID = 0, BOS_ID = 1, EOS_ID = 2;

const IDS = new Map(VOCABULARY.map((word, id) => [word, id]));

/** Ids of the words of a text, nothing added. */
export function encodeWords(text: string): number[] {
  return text.split(" ").map((word) => {
    const id = IDS.get(word);
    if (id === undefined) {
      throw new Error(`"${word}" is not a word of the parrot's world, which has ${VOCABULARY.length}.`);
    }
    return id;
  });
}

/** The words of some ids, special ones included. */
export function decodeWords(ids: ArrayLike<number>): string[] {
  return Array.from(ids, (id) => VOCABULARY[id]);
}

/** Ids of a prompt with `<bos>` in front, as every stage feeds it. */
export function promptIds(prompt: Prompt): number[] {
  return [BOS_ID, ...encodeWords(prompt.text)];
}
