/**
 * The text of tokens while they are drawn: no character in halves, no stop string in part, and nothing that was given out is
 * taken back. However the tokens are dealt out, the pieces make the same text.
 *
 * @module
 */
import type { Tokenizer } from "../data/tokenizer.ts";

/** Gives out text piece by piece. */
export interface TextStream<T> {
  /** What is certain after one more; empty where that is nothing yet. */
  push(next: T): string;
  /** What was held back. */
  end(): string;
}

/** Tokens that are decoded together: a token's text may depend on those before it. */
const CONTEXT = 16;

/** Tokens after which the older ones are let go of. */
const MOST_TOKENS = 48;

/** A character that is not complete, as tokenizers decode it. */
const INCOMPLETE = "\ufffd";

/**
 * Text of token ids. Special tokens have none; a token that ends in the middle of a character has its text when that is whole.
 * Spaces before punctuation stay, whatever the tokenizer's settings: they would have to be taken back.
 */
export function tokenText(tokenizer: Pick<Tokenizer, "decode">): TextStream<number> {
  const decode = (ids: number[]) => tokenizer.decode(ids, { cleanUpSpaces: false });
  let ids: number[] = [], text = "", given = 0;

  /** Lets go of old tokens where the others have the same text without them. */
  function forget(): void {
    const kept = ids.slice(-CONTEXT), end = decode(kept), missing = text.length - given;
    if (missing > end.length || !text.endsWith(end)) return;
    ids = kept;
    text = end;
    given = end.length - missing;
  }

  function give(to: number): string {
    const piece = text.slice(given, to);
    given = Math.max(given, to);
    return piece;
  }

  return {
    push(id) {
      if (ids.length >= MOST_TOKENS) forget();
      ids.push(id);
      text = decode(ids);
      let whole = text.length;
      while (whole > 0 && text[whole - 1] === INCOMPLETE) whole--;
      return give(whole);
    },
    end: () => give(text.length),
  };
}

/** Text up to one of some strings, none of which is empty. */
export interface StoppedText extends TextStream<string> {
  /** Whether one of them has come; there is no text after it. */
  readonly stopped: boolean;
}

/** Text that ends before the one of `stops` that is whole first; what may be the beginning of one is held back. */
export function stopAt(stops: string[]): StoppedText {
  let held = "", stopped = false;
  return {
    get stopped() {
      return stopped;
    },
    push(piece) {
      if (stopped) return "";
      held += piece;
      // That which is whole first, and of those the longest: so it does not matter how the text was cut.
      const [found] = stops.map((stop) => ({ at: held.indexOf(stop), stop })).filter(({ at }) => at >= 0)
        .sort((a, b) => a.at + a.stop.length - b.at - b.stop.length || a.at - b.at);
      stopped = found !== undefined;
      const certain = found?.at ?? held.length - beginning(held, stops);
      const text = held.slice(0, certain);
      held = stopped ? "" : held.slice(certain);
      return text;
    },
    end() {
      const text = held;
      held = "";
      return text;
    },
  };
}

/** Characters at the end of `text` that may be the beginning of a stop string. */
function beginning(text: string, stops: string[]): number {
  const longest = Math.max(0, ...stops.map((stop) => stop.length - 1));
  for (let length = Math.min(longest, text.length); length > 0; length--) {
    if (stops.some((stop) => stop.length > length && stop.startsWith(text.slice(-length)))) return length;
  }
  return 0;
}
