/**
 * Where `@huggingface/tokenizers` and Rust's `tokenizers` differ in single texts: mended, or found so that the text can be
 * refused.
 *
 * @module
 */
import type { AddedToken, CheckedTokenizer } from "./tokenizer_file.ts";

/** A part of a text that the package would encode in another way than Rust, and why. */
export interface Ambiguity {
  text: string;
  problem: string;
}

/** Letters, marks, digits and connectors, as a regular expression's \w in Rust. */
const WORD = String.raw`[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]`;

/** Blanks of which JavaScript and Unicode do not agree. */
const ODD_BLANK = String.raw`[\u0085\ufeff]`;

/**
 * Looks for added tokens in places where the two differ: a token that is a word of its own next to a letter, and a token that
 * takes blanks along, or with `oddBlanks` any place, next to a blank that is one to only one of them.
 */
export function ambiguityOf(
  { added, oddBlanks }: Pick<CheckedTokenizer, "added" | "oddBlanks">,
): (text: string) => Ambiguity | undefined {
  const any = (tokens: AddedToken[]) =>
    `(?:${tokens.map(({ content }) => content.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&")).join("|")})`;
  const words = added.filter((token) => token.single_word);
  const left = added.filter((token) => token.lstrip), right = added.filter((token) => token.rstrip);
  const checks: [pattern: string, problem: string][] = [
    ...words.length
      ? [[
        `${WORD}${any(words)}|${any(words)}${WORD}`,
        "a token that is a word of its own touches another word",
      ]]
      : [],
    ...left.length
      ? [[`${ODD_BLANK}\\s*${any(left)}`, "the blank in front of the token is not one everywhere"]]
      : [],
    ...right.length
      ? [[`${any(right)}\\s*${ODD_BLANK}`, "the blank after the token is not one everywhere"]]
      : [],
    ...oddBlanks ? [[ODD_BLANK, "it has a blank that is not one everywhere"]] : [],
  ] as [string, string][];
  const patterns = checks.map(([pattern, problem]) => ({ pattern: new RegExp(pattern, "u"), problem }));
  return (text) => {
    for (const { pattern, problem } of patterns) {
      const found = pattern.exec(text);
      if (found) return { text: found[0], problem };
    }
  };
}

/** The package's decoder of bytes takes U+FEFF for the mark of an encoding and drops it; here it is a character. */
export function keepByteOrderMarks(decoder: unknown): void {
  if (decoder === null || typeof decoder !== "function" && typeof decoder !== "object") return;
  const own = decoder as { text_decoder?: unknown; decoders?: unknown };
  if (own.text_decoder instanceof TextDecoder) {
    own.text_decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  }
  if (Array.isArray(own.decoders)) own.decoders.forEach(keepByteOrderMarks);
}
