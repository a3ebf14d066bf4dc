/**
 * Evaluating a model on rows of a dataset as they are read: how likely texts are under a language model, and which side of a pair
 * a reward model, or a language model, prefers.
 *
 * @module
 */
import { DOCUMENT_ALIGNMENT } from "../data/batches.ts";
import type { PairExample, SftExample } from "../data/tokenize.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import type { DocumentScorer, TokenScorer, TokenScores } from "./score.ts";

/** An example and where it comes from. */
export interface Placed<T> {
  /** File and line. */
  where: string;
  example: T;
}

/** Tokens of a document with the gap that may follow it. */
const room = (ids: number[]) => Math.ceil(ids.length / DOCUMENT_ALIGNMENT) * DOCUMENT_ALIGNMENT;

/** Groups of examples of up to `most` tokens, however long each is; an example that is longer is a group of its own. */
export async function* bySize<T>(
  examples: AsyncIterable<Placed<T>>,
  documentsOf: (example: T) => number[][],
  most: number,
): AsyncGenerator<Placed<T>[]> {
  let group: Placed<T>[] = [], tokens = 0;
  for await (const placed of examples) {
    const own = documentsOf(placed.example).reduce((sum, ids) => sum + room(ids), 0);
    if (group.length && tokens + own > most) {
      yield group;
      group = [];
      tokens = 0;
    }
    group.push(placed);
    tokens += own;
  }
  if (group.length) yield group;
}

/** What the scored tokens of a text, or of many, sum up to. */
export interface TextSums {
  tokens: number;
  /** UTF-8 bytes of their text; special tokens have none. */
  bytes: number;
  /** Sum of −ln p in nats. */
  nll: number;
  /** Tokens that were the most likely ones. */
  correct: number;
}

/** Nothing yet. */
export const NO_TEXT: Readonly<TextSums> = { tokens: 0, bytes: 0, nll: 0, correct: 0 };

/** Both together. */
export function addTexts(a: TextSums, b: TextSums): TextSums {
  return {
    tokens: a.tokens + b.tokens,
    bytes: a.bytes + b.bytes,
    nll: a.nll + b.nll,
    correct: a.correct + b.correct,
  };
}

/** The sums of one text. */
export function sumText(
  { ids, scored }: SftExample,
  { logprobs, correct }: TokenScores,
  bytes: number,
): TextSums {
  const sums = { ...NO_TEXT, bytes };
  for (let t = 1; t < ids.length; t++) {
    if (!scored[t]) continue;
    sums.tokens++;
    sums.nll -= logprobs[t - 1];
    sums.correct += correct[t - 1];
  }
  return sums;
}

/**
 * UTF-8 bytes of the text of the scored tokens: what they add to the text of those before. Texts of single tokens do not sum up
 * to that of all, where a decoder takes a space off the beginning; a character counts where it is complete.
 */
export function scoredBytes({ ids, scored }: SftExample, tokenizer: Tokenizer): number {
  const encoder = new TextEncoder();
  const bytesTo = (end: number) => {
    const text = tokenizer.decode(ids.slice(0, end), { cleanUpSpaces: false });
    return encoder.encode(text.replace(/\uFFFD+$/, "")).length;
  };
  let bytes = 0;
  for (let begin = 0; begin < ids.length;) {
    let end = begin + 1;
    while (end < ids.length && scored[end] === scored[begin]) end++;
    if (scored[begin]) bytes += bytesTo(end) - bytesTo(begin);
    begin = end;
  }
  return bytes;
}

/** How likely texts are. */
export interface TextReport extends Omit<TextSums, "nll" | "correct"> {
  /** Mean of −ln p per token, in nats. */
  nll: number;
  /** e to the power of it. */
  perplexity: number;
  /** Bits of all tokens by the bytes of their text: comparable between tokenizers. Null for no bytes. */
  bits_per_byte: number | null;
  /** Share of tokens that were the most likely ones. */
  token_accuracy: number;
}

/** The numbers per token and per byte. */
export function textReport({ tokens, bytes, nll, correct }: TextSums): TextReport {
  return {
    tokens,
    bytes,
    nll: nll / tokens,
    perplexity: Math.exp(nll / tokens),
    bits_per_byte: bytes ? nll / Math.LN2 / bytes : null,
    token_accuracy: correct / tokens,
  };
}

/** Both sides of a pair, one after the other. */
export const sidesOf = ({ chosen, rejected }: PairExample): number[][] => [chosen, rejected];

/** Scores of both sides. */
export interface SideScores {
  chosen: number;
  rejected: number;
}

/** A reward model's scores of pairs. */
export async function pairScores(scorer: DocumentScorer, pairs: PairExample[]): Promise<SideScores[]> {
  const scores = await scorer(pairs.flatMap(sidesOf));
  return pairs.map((_, i) => ({ chosen: scores[2 * i], rejected: scores[2 * i + 1] }));
}

/** Log-probabilities of both answers, after what both sides begin with: of each as a whole, and per token. */
export interface AnswerLogprobs {
  total: SideScores;
  perToken: SideScores;
}

/** A language model's log-probabilities of pairs. */
export async function pairLogprobs(scorer: TokenScorer, pairs: PairExample[]): Promise<AnswerLogprobs[]> {
  const scores = await scorer(pairs.flatMap(sidesOf));
  return pairs.map(({ chosen, rejected }, i) => {
    let common = 0;
    while (common < Math.min(chosen.length, rejected.length) && chosen[common] === rejected[common]) common++;
    const side = (of: number) => {
      // The first token is not predicted.
      const own = scores[2 * i + of].logprobs.subarray(Math.max(0, common - 1));
      const total = own.reduce((sum, logprob) => sum + logprob, 0);
      return { total, perToken: own.length ? total / own.length : 0 };
    };
    const [one, other] = [side(0), side(1)];
    return {
      total: { chosen: one.total, rejected: other.total },
      perToken: { chosen: one.perToken, rejected: other.perToken },
    };
  });
}
