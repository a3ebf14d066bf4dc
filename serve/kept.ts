/**
 * Answers that hold until the run has something new to tell: many who look at one run ask the same.
 *
 * @module
 */
import type { RunReader } from "../src/run/reader.ts";

/** Answers of a run that are kept at a time. */
const MOST = 32;

/** Longest answer that is kept, in characters. */
const LONGEST = 1 << 18;

/** A text that was made of a run's database when it ended with entry `seq` of its stream. */
interface Answer<T> {
  seq: number;
  value: T;
}

/** Keeps answers by their questions, of each database for as long as it is open. */
export function keepAnswers<T extends { text: string }>() {
  const all = new WeakMap<RunReader, Map<string, Answer<T>>>();
  return async (reader: RunReader, question: string, make: () => Promise<T>): Promise<T> => {
    let kept = all.get(reader);
    if (!kept) all.set(reader, kept = new Map());
    const seq = reader.lastSeq(), found = kept.get(question);
    if (found?.seq === seq) return found.value;
    const value = await make();
    kept.delete(question);
    if (value.text.length <= LONGEST) kept.set(question, { seq, value });
    if (kept.size > MOST) kept.delete(kept.keys().next().value!);
    return value;
  };
}
