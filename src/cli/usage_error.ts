/**
 * Wrong usage, as opposed to a run that failed.
 *
 * @module
 */
import { distance } from "fastest-levenshtein";

/** The command line or a configuration file is wrong; the command exits with 2. */
export class UsageError extends Error {
  override name = "UsageError";
}

/** The known name most like `name`, if one is alike enough for a slip of the keyboard. */
export function nearest(name: string, known: Iterable<string>): string | undefined {
  let best: string | undefined, least = Math.max(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of known) {
    const edits = distance(name, candidate);
    if (edits < least) [best, least] = [candidate, edits];
  }
  return best;
}
