/**
 * The facts of the parrot's world: 360 small statements with one right answer each.
 *
 * @module
 */

/** The eight kinds of facts. */
export type FactKind = "sum" | "compare" | "legs" | "sound" | "colour" | "opposite" | "day" | "home";

/** One statement, split at its answer: "3 plus 4 is" + "7", or "7 is" + "more" + "than 3". */
export interface Fact {
  id: number;
  kind: FactKind;
  /** Words before the answer. */
  before: string;
  /** The true answer, one word. */
  answer: string;
  /** Words after the answer, or "". */
  after: string;
  /** Answers that a claim may give; the true one is among them. */
  choices: readonly string[];
}

/** How often each kind is drawn, relative to the others. */
export const KIND_WEIGHTS: Record<FactKind, number> = {
  sum: 6,
  compare: 3,
  legs: 2,
  sound: 2,
  colour: 2,
  opposite: 3,
  day: 2,
  home: 1,
};

// Pairs, not objects: an object would sort its integer keys, and the order of facts fixes ids and vocabulary.
const LEGS: [string, string][] = [
  ["4", "dog cat cow horse sheep pig mouse lion frog"],
  ["2", "bird duck hen owl"],
  ["6", "ant bee fly"],
  ["8", "spider"],
  ["10", "crab"],
  ["0", "snake fish worm"],
];
const SOUNDS: [string, string][] = [
  ["dog", "woof"],
  ["cat", "meow"],
  ["cow", "moo"],
  ["sheep", "baa"],
  ["pig", "oink"],
  ["duck", "quack"],
  ["hen", "cluck"],
  ["bee", "buzz"],
  ["snake", "hiss"],
  ["horse", "neigh"],
  ["owl", "hoot"],
  ["lion", "roar"],
  ["mouse", "squeak"],
  ["frog", "croak"],
  ["bird", "tweet"],
];
const COLOURS: [string, string[]][] = [
  ["green", ["grass", "a frog", "a leaf"]],
  ["white", ["snow", "milk", "salt"]],
  ["black", ["coal", "night"]],
  ["red", ["blood", "a tomato", "a cherry"]],
  ["blue", ["the sky", "the sea"]],
  ["yellow", ["a lemon", "a banana", "the sun"]],
  ["pink", ["a pig"]],
  ["grey", ["ash"]],
];
const OPPOSITES =
  ("hot cold/big small/up down/wet dry/fast slow/old new/open shut/full empty/light dark/hard soft/" +
    "high low/loud quiet/early late/rich poor").split("/").map((pair) => pair.split(" "));
const DAYS = "monday tuesday wednesday thursday friday saturday sunday".split(" ");
const HOMES: [string, string][] = [
  ["bee", "hive"],
  ["bird", "nest"],
  ["horse", "stable"],
  ["dog", "kennel"],
  ["spider", "web"],
  ["fish", "pond"],
  ["lion", "den"],
  ["cow", "barn"],
];

function makeFacts(): Fact[] {
  const facts: Fact[] = [];
  const add = (kind: FactKind, before: string, answer: string, after: string, choices: readonly string[]) =>
    facts.push({ id: facts.length, kind, before, answer, after, choices });
  for (let a = 0; a < 10; a++) {
    for (let b = 0; b < 10; b++) {
      // A wrong sum is a near one: at most 3 away, and a number that the world has (0 to 18).
      const near = Array.from({ length: 7 }, (_, i) => a + b - 3 + i).filter((c) => c >= 0 && c <= 18);
      add("sum", `${a} plus ${b} is`, String(a + b), "", near.map(String));
    }
  }
  for (let a = 0; a < 13; a++) {
    for (let b = 0; b < 13; b++) {
      if (a !== b) add("compare", `${a} is`, a > b ? "more" : "less", `than ${b}`, ["more", "less"]);
    }
  }
  for (const [legs, animals] of LEGS) {
    for (const animal of animals.split(" ")) {
      add("legs", `a ${animal} has`, legs, "legs", ["0", "2", "4", "6", "8", "10"]);
    }
  }
  const sounds = SOUNDS.map(([, sound]) => sound);
  for (const [animal, sound] of SOUNDS) add("sound", `a ${animal} says`, sound, "", sounds);
  const colours = COLOURS.map(([colour]) => colour);
  for (const [colour, things] of COLOURS) {
    for (const thing of things) add("colour", `${thing} is`, colour, "", colours);
  }
  const words = OPPOSITES.flat();
  for (const [x, y] of OPPOSITES) {
    add("opposite", `the opposite of ${x} is`, y, "", words.filter((word) => word !== x));
    add("opposite", `the opposite of ${y} is`, x, "", words.filter((word) => word !== y));
  }
  for (const [i, day] of DAYS.entries()) {
    const others = DAYS.filter((other) => other !== day);
    add("day", `the day after ${day} is`, DAYS[(i + 1) % 7], "", others);
    add("day", `the day before ${day} is`, DAYS[(i + 6) % 7], "", others);
  }
  const homes = HOMES.map(([, home]) => home);
  for (const [animal, home] of HOMES) add("home", `a ${animal} lives in a`, home, "", homes);
  return facts;
}

/** All 360 facts; a fact's `id` is its index. */
export const FACTS: readonly Fact[] = makeFacts();

/** The kinds in the order of {@linkcode KIND_WEIGHTS}. */
export const KINDS = Object.keys(KIND_WEIGHTS) as FactKind[];

/** The facts of each kind. */
export const FACTS_BY_KIND = Object.fromEntries(
  KINDS.map((kind) => [kind, FACTS.filter((fact) => fact.kind === kind)]),
) as Record<FactKind, Fact[]>;

/** The statement with the given answer in its place. */
export function say(fact: Fact, answer: string): string {
  return [fact.before, answer, fact.after].filter((part) => part !== "").join(" ");
}

/** The answers of a fact that are wrong. */
export function wrongAnswers(fact: Fact): string[] {
  return fact.choices.filter((choice) => choice !== fact.answer);
}
