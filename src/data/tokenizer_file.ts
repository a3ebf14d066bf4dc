/**
 * What a `tokenizer.json` holds, checked and made ready for `@huggingface/tokenizers`.
 *
 * That package is measured against Rust's `tokenizers`, which all models are made with. Where the two differ, the step is
 * written so that both mean the same, or it is refused by name:
 *
 * | step | here |
 * |---|---|
 * | digits | written as a split by `\p{N}`; the package knows 0 to 9 only |
 * | blanks at the ends, splits at blanks and words, words of bytes | written with patterns; the package takes JavaScript's blanks and letters |
 * | splits that merge, are contiguous, inverted, or remove a text | written as an isolating split by a pattern |
 * | unknown tokens that fuse | refused, but where bytes stand for what is unknown; the package fuses across words |
 * | Unigram models | refused; of pieces with equal scores the package takes others |
 * | dropout, prefixes and suffixes of subwords | refused; the package does not have them |
 *
 * @module
 */
import { isJsonObject, type JsonObject, shortJson } from "../model/json_file.ts";

/** The tables are indexed by id, so one absurd id would exhaust the memory. */
const MAX_TOKENS = 2 ** 21;

/** Steps within steps, and all of them together. */
const MOST_DEPTH = 6, MOST_STEPS = 200;

/** Longest pattern or text of a step in characters. */
const MOST_CHARACTERS = 20_000;

const STEPS = {
  normalizer: [
    "BertNormalizer",
    "Lowercase",
    "NFC",
    "NFD",
    "NFKC",
    "NFKD",
    "Prepend",
    "Replace",
    "Sequence",
    "Strip",
    "StripAccents",
  ],
  pre_tokenizer: [
    "BertPreTokenizer",
    "ByteLevel",
    "Digits",
    "Metaspace",
    "Punctuation",
    "Sequence",
    "Split",
    "Whitespace",
    "WhitespaceSplit",
  ],
  post_processor: ["BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing"],
  decoder: ["ByteFallback", "ByteLevel", "Fuse", "Metaspace", "Replace", "Sequence", "Strip", "WordPiece"],
};

/** How GPT-2 splits a text into words. */
const BYTE_LEVEL_WORDS = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** The steps within a sequence are under one of these names. */
const PARTS = ["normalizers", "pretokenizers", "processors", "decoders"];

/** A token beside the vocabulary. */
export interface AddedToken {
  id: number;
  content: string;
  single_word: boolean;
  lstrip: boolean;
  rstrip: boolean;
}

/** A tokenizer that the package can be given. */
export interface CheckedTokenizer {
  json: JsonObject;
  added: AddedToken[];
  /** One more than the largest id. */
  vocabSize: number;
  /** Whether the package splits by its own idea of a blank somewhere. */
  oddBlanks: boolean;
}

/**
 * Checks the content of `file` and writes it so that the package does what Rust does.
 *
 * @throws {Error} that names the file and what is wrong with it, or cannot be done.
 */
export function checkTokenizer(json: JsonObject, file: string): CheckedTokenizer {
  const fail = (problem: string): never => {
    throw new Error(`Cannot read ${file}: ${problem}.`);
  };
  const { model } = json;
  if (!isJsonObject(model) || typeof model.vocab !== "object" || model.vocab === null) {
    return fail('expected "model" with "vocab"');
  }
  if (!Array.isArray(json.added_tokens)) return fail('expected a list "added_tokens"');
  const added = json.added_tokens.map((token) => checkAdded(token, fail));
  const steps = Object.fromEntries(
    Object.entries(STEPS).map(([kind, known]) => [kind, checkStep(json[kind] ?? null, kind, known, fail)]),
  );
  const checked = checkModel(model, fail);
  let vocabSize = 0;
  for (const id of [...Object.values(checked.vocab as JsonObject), ...added.map((token) => token.id)]) {
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id >= MAX_TOKENS) {
      fail(`a token has id ${shortJson(id)}. Expected a whole number below ${MAX_TOKENS}`);
    }
    vocabSize = Math.max(vocabSize, id as number + 1);
  }
  const oddBlanks = /"use_regex":true/.test(JSON.stringify(steps.pre_tokenizer));
  return { json: { ...json, ...steps, model: checked }, added, vocabSize, oddBlanks };
}

type Fail = (problem: string) => never;

function checkAdded(token: unknown, fail: Fail): AddedToken {
  if (!isJsonObject(token) || typeof token.content !== "string" || token.content === "") {
    return fail(`${shortJson(token)} among "added_tokens" has no "content"`);
  }
  const flags = ["single_word", "lstrip", "rstrip", "normalized", "special"];
  const wrong = flags.find((name) => !["boolean", "undefined"].includes(typeof token[name]));
  if (wrong !== undefined) {
    fail(`"${wrong}" of the added token ${shortJson(token.content)} is not true or false`);
  }
  return token as unknown as AddedToken;
}

function checkModel(model: JsonObject, fail: Fail): JsonObject {
  const { vocab, merges } = model;
  const type = model.type ?? (merges !== undefined ? "BPE" : undefined);
  if (type === "Unigram" || Array.isArray(vocab)) {
    return fail(
      "it is a Unigram model, which keel does not do exactly. Expected BPE, WordPiece or WordLevel",
    );
  }
  if (type !== "BPE" && type !== "WordPiece" && type !== "WordLevel") {
    return fail(`the model has type ${shortJson(type)}. Expected BPE, WordPiece or WordLevel`);
  }
  if (!["string", "undefined"].includes(typeof (model.unk_token ?? undefined))) {
    fail(`"unk_token" is ${shortJson(model.unk_token)}. Expected a text or null`);
  }
  if (type === "WordPiece") {
    const { continuing_subword_prefix: prefix = "##", max_input_chars_per_word: most = 100 } = model;
    if (typeof prefix !== "string") fail('"continuing_subword_prefix" is not a text');
    if (!Number.isInteger(most)) fail('"max_input_chars_per_word" is not a whole number');
  }
  if (type !== "BPE") return { ...model, type };
  for (const name of ["dropout", "continuing_subword_prefix", "end_of_word_suffix"]) {
    if (![undefined, null, "", 0].includes(model[name] as null)) {
      fail(`"${name}" is ${shortJson(model[name])}, which keel does not do. Expected null`);
    }
  }
  const isPair = (merge: unknown) =>
    typeof merge === "string"
      ? /^[^ ]+ [^ ]+$/.test(merge)
      : Array.isArray(merge) && merge.length === 2 && merge.every((part) => typeof part === "string" && part);
  if (!Array.isArray(merges)) return fail('expected a list "merges"');
  const odd = merges.find((merge) => !isPair(merge) || typeof merge !== typeof merges[0]);
  if (odd !== undefined) fail(`the merge ${shortJson(odd)} is not a pair of tokens`);
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
  );
  const everything = model.byte_fallback === true &&
    bytes.every((token) => Object.hasOwn(vocab as object, token));
  if (model.fuse_unk === true && !everything) {
    fail(
      '"fuse_unk" is true, which keel does not do exactly but where "byte_fallback" leaves nothing unknown',
    );
  }
  return { ...model, type };
}

/** A step of which every part is known and of a reasonable size, in the package's words. */
function checkStep(step: unknown, kind: string, known: string[], fail: Fail): unknown {
  let count = 0;
  const visit = (step: unknown, depth: number): unknown => {
    if (!isJsonObject(step) || typeof step.type !== "string") {
      return fail(`"${kind}" holds ${shortJson(step)}. Expected an object with a "type"`);
    }
    if (!known.includes(step.type)) {
      return fail(`"${kind}" has the type ${shortJson(step.type)}. Expected ${known.join(", ")}`);
    }
    if (++count > MOST_STEPS || depth > MOST_DEPTH) fail(`"${kind}" has too many steps within steps`);
    if (JSON.stringify(step).length > MOST_CHARACTERS * 10) fail(`"${kind}" is too long`);
    checkFields(step, kind, fail);
    const parts = PARTS.find((name) => step[name] !== undefined);
    if (step.type === "Sequence") {
      const list = parts === undefined ? undefined : step[parts];
      if (!Array.isArray(list)) return fail(`"${kind}" has a sequence without steps`);
      return { ...step, [parts!]: list.map((part) => visit(part, depth + 1)) };
    }
    return inTheSameWords(step, kind, fail);
  };
  return step === null ? null : visit(step, 0);
}

/** A step that means in the package what `step` means in Rust. */
function inTheSameWords(step: JsonObject, kind: string, fail: Fail): JsonObject {
  switch (step.type) {
    case "Digits":
      return isolating(step.individual_digits === true ? "\\p{N}" : "\\p{N}+");
    case "Whitespace":
      return removing("\\w+|[^\\w\\s]+", true);
    case "WhitespaceSplit":
      return removing("\\s+", false);
    case "Split":
      return plainSplit(step, fail);
    case "ByteLevel":
      if (kind !== "pre_tokenizer" || step.use_regex === false) return step;
      // With a space in front of every text the package's own pattern must do; see oddBlanks.
      if (step.add_prefix_space === true) return { ...step, use_regex: true };
      return {
        type: "Sequence",
        pretokenizers: [isolating(BYTE_LEVEL_WORDS), { ...step, use_regex: false }],
      };
    case "Strip": {
      if (kind === "decoder") return step;
      const ends = [...step.strip_left ? ["\\A\\s+"] : [], ...step.strip_right ? ["\\s+\\z"] : []];
      const normalizers = ends.map((Regex) => ({ type: "Replace", pattern: { Regex }, content: "" }));
      return { type: "Sequence", normalizers };
    }
  }
  return step;
}

/** Fields that the package takes as they are. */
function checkFields(step: JsonObject, kind: string, fail: Fail): void {
  const { type } = step;
  const expect = (name: string, good: boolean, expected: string) => {
    if (!good) fail(`"${name}" of ${type} in "${kind}" is ${shortJson(step[name])}. Expected ${expected}`);
  };
  const text = (name: string) => expect(name, typeof step[name] === "string", "a text");
  switch (type) {
    case "Prepend":
      return text("prepend");
    case "Replace":
      patternOf(step, fail);
      return text("content");
    case "Split":
      patternOf(step, fail);
      return;
    case "Metaspace":
      expect("replacement", typeof step.replacement === "string" && step.replacement.length > 0, "a text");
      return expect(
        "prepend_scheme",
        [undefined, null, "always", "first", "never"].includes(step.prepend_scheme as null),
        "always, first or never",
      );
    case "Strip":
      if (kind !== "decoder") return;
      text("content");
      for (const name of ["start", "stop"]) {
        const value = step[name];
        expect(name, Number.isInteger(value) && value as number >= 0 && value as number <= 1000, "0 to 1000");
      }
      return;
    case "WordPiece":
      return text("prefix");
    case "TemplateProcessing":
      return checkTemplate(step, fail);
    case "BertProcessing":
    case "RobertaProcessing":
      for (const name of ["sep", "cls"]) {
        const value = step[name];
        expect(name, Array.isArray(value) && typeof value[0] === "string", "a token with its id");
      }
  }
}

/** One text is encoded at a time, so it is sequence A, and every token around it is one of the vocabulary's. */
function checkTemplate({ single, special_tokens: special }: JsonObject, fail: Fail): void {
  const isToken = (id: unknown) => {
    const token = typeof id === "string" && isJsonObject(special) ? special[id] : undefined;
    return isJsonObject(token) && Array.isArray(token.tokens) && token.tokens.length === 1 &&
      token.tokens[0] === id;
  };
  const good = Array.isArray(single) && single.every((piece) => {
    if (!isJsonObject(piece)) return false;
    const { SpecialToken: token, Sequence: sequence } = piece;
    return isJsonObject(token) ? isToken(token.id) : isJsonObject(sequence) && sequence.id === "A";
  });
  if (!good) fail('"single" of TemplateProcessing has a piece that is neither a known token nor sequence A');
}

/** The pattern of a step as a regular expression. */
function patternOf({ type, pattern }: JsonObject, fail: Fail): string {
  const { Regex, String: text } = isJsonObject(pattern) ? pattern : {};
  const source = typeof Regex === "string"
    ? Regex
    : typeof text === "string"
    ? text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&")
    : undefined;
  if (!source || source.length > MOST_CHARACTERS) {
    return fail(`${type} has the pattern ${shortJson(pattern)}`);
  }
  return source;
}

const isolating = (pattern: string) => ({
  type: "Split",
  pattern: { Regex: pattern },
  behavior: "Isolated",
  invert: false,
});

const removing = (pattern: string, invert: boolean) => ({
  type: "Split",
  pattern: { Regex: pattern },
  behavior: "Removed",
  invert,
});

/**
 * A split as an isolating one. With P for the pattern and G for a text between two matches: P merged with the previous G, or,
 * inverted, G merged with the next P, makes the pieces "GP", "P" and "G"; the other way round "PG", "P" and "G"; contiguous
 * matches are one piece; and isolated pieces are the same inverted or not.
 */
function plainSplit(step: JsonObject, fail: Fail): JsonObject {
  const behavior = typeof step.behavior === "string" ? step.behavior.replaceAll("_", "").toLowerCase() : "";
  const invert = step.invert === true;
  const match = `(?:${patternOf(step, fail)})`, gap = `(?:(?!${match})[\\s\\S])+`;
  switch (behavior) {
    case "isolated":
      return isolating(patternOf(step, fail));
    case "contiguous":
      return isolating(`${match}+`);
    case "mergedwithprevious":
    case "mergedwithnext":
      return isolating(
        behavior === "mergedwithprevious" !== invert
          ? `${gap}${match}?|${match}`
          : `${match}(?:${gap})?|${gap}`,
      );
    case "removed":
      return removing(patternOf(step, fail), invert);
  }
  return fail(`Split has the behavior ${shortJson(step.behavior)}`);
}
