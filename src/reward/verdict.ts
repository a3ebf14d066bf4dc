/**
 * Reading a judge's answer: the verdict or the score at its end.
 *
 * @module
 */

/** Which of two answers is better. */
export type Verdict = "A" | "B" | "tie";

/** Longer answers are read from this many characters before their end on. */
const MOST_CHARACTERS = 20_000;

/** What comes after the reasoning of a model that thinks aloud, without emphasis. */
function conclusion(text: string): string {
  const end = text.slice(-MOST_CHARACTERS);
  return end.slice(end.lastIndexOf("</think>") + 1).replace(/[*_`#]/g, "").trim();
}

/** The last match of a pattern, which must have the flag `g`. */
function lastMatch(text: string, pattern: RegExp): string | undefined {
  return Array.from(text.matchAll(pattern), (match) => match[1]).at(-1);
}

/**
 * The verdict of a comparison: the last `Verdict: A`, `B` or `tie`, or `[[A]]` (C is a tie, too), or an answer that is nothing else.
 * Null where there is none.
 *
 * @example
 * ```ts
 * import { readVerdict } from "./verdict.ts";
 * console.log(readVerdict("The first one is wrong.\n**Verdict:** B"), readVerdict("Both are fine.")); // B null
 * ```
 */
export function readVerdict(text: string): Verdict | null {
  const end = conclusion(text);
  const word = lastMatch(end, /\bverdict["'\s]*[:=]["'\s[(]{0,5}(?:answer\s)?(a|b|c|tie)\b/gi) ??
    lastMatch(end, /\[\[\s*(a|b|c|tie)\s*\]\]/gi) ??
    /^["'([\s]*(?:answer\s)?(a|b|tie)["')\].\s]*$/i.exec(end)?.[1];
  switch (word?.toLowerCase()) {
    case undefined:
      return null;
    case "a":
      return "A";
    case "b":
      return "B";
    default:
      return "tie";
  }
}

/** A number that is not a piece of a longer one. */
const NUMBER = String.raw`(-?\d{1,3}(?:\.\d{1,4})?)(?![\d]|\.\d)`;

/**
 * The score in a judge's answer: the last `Score: 7`, `7/10` and their like, or an answer that is nothing else. Null where there is
 * none, or it is not from `least` to `most`.
 */
export function readScore(text: string, least: number, most: number): number | null {
  const end = conclusion(text);
  const word =
    lastMatch(end, new RegExp(String.raw`\b(?:score|rating)["'\s]*[:=]["'\s[(]{0,5}${NUMBER}`, "gi")) ??
      lastMatch(end, new RegExp(String.raw`\[\[\s*${NUMBER}\s*\]\]`, "g")) ??
      lastMatch(end, new RegExp(String.raw`(?<![\d.])${NUMBER}\s*\/\s*${most}(?!\d)`, "g")) ??
      new RegExp(String.raw`^["'([\s]*${NUMBER}["')\].\s]*$`).exec(end)?.[1];
  if (word === undefined) return null;
  const score = Number(word);
  return score >= least && score <= most ? score : null;
}
