/** Mutations of JSON for tests that feed damaged files to a reader. */
import type { RandomStream } from "../src/random/stream.ts";

/** Values that nobody expects. */
const JUNK: (() => unknown)[] = [
  () => null,
  () => true,
  () => -1,
  () => 0.5,
  () => 4e9,
  () => 1e308,
  () => "",
  () => "\ud800",
  () => "__proto__",
  () => "x".repeat(3000),
  () => [],
  () => ({}),
  () => [[[[[[[[]]]]]]]],
  () => ({ type: "Sequence" }),
  () => ({ __proto__: null, constructor: 1, toString: "x", length: 1e9 }),
  () => new Array(500).fill(0),
];

/** The places in a value: every one with its owner and its key. */
function places(value: unknown): [owner: Record<string, unknown>, key: string][] {
  const found: [Record<string, unknown>, string][] = [];
  const visit = (value: unknown) => {
    if (typeof value !== "object" || value === null) return;
    // Of a long list a part stands for the rest, so that the small things around it have their turn.
    for (const key of Object.keys(value).slice(0, 40)) {
      found.push([value as Record<string, unknown>, key]);
      visit((value as Record<string, unknown>)[key]);
    }
  };
  visit(value);
  return found;
}

/** A copy of a JSON value with one to four changes: something removed, renamed, doubled, exchanged or replaced by junk. */
export function mutateJson<T>(value: T, random: RandomStream): T {
  const copy = structuredClone(value);
  for (let changes = 1 + random.integer(4); changes > 0; changes--) {
    const all = places(copy);
    if (all.length === 0) break;
    const [owner, key] = all[random.integer(all.length)];
    const [other, otherKey] = all[random.integer(all.length)];
    switch (random.integer(7)) {
      case 0:
        delete owner[key];
        break;
      case 1:
        owner[`${key}x`] = owner[key];
        delete owner[key];
        break;
      case 2:
        owner[key] = structuredClone(other[otherKey]);
        break;
      case 3:
        owner[key] = [owner[key], owner[key]];
        break;
      case 4:
        owner[key] = typeof owner[key] === "number"
          ? (owner[key] as number) * -1000 - 1
          : `${JSON.stringify(owner[key])}`;
        break;
      default:
        owner[key] = JUNK[random.integer(JUNK.length)]();
    }
  }
  // As it comes from a file: without holes in lists and names among them.
  return JSON.parse(JSON.stringify(copy));
}

/** A copy of a text with a character changed, left out or put in, or cut short. */
export function mutateText(text: string, random: RandomStream): string {
  const at = random.integer(text.length), character = String.fromCharCode(32 + random.integer(95));
  switch (random.integer(4)) {
    case 0:
      return text.slice(0, at);
    case 1:
      return text.slice(0, at) + text.slice(at + 1);
    case 2:
      return text.slice(0, at) + character + text.slice(at);
    default:
      return text.slice(0, at) + character + text.slice(at + 1);
  }
}
