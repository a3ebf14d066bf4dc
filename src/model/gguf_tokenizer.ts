/**
 * The tokenizer in a GGUF file as the objects of Hugging Face's `tokenizer.json` and `tokenizer_config.json`.
 *
 * Two kinds are understood: byte-level BPE with merges ("gpt2"), and SentencePiece's BPE with scores and bytes for what is not in the
 * vocabulary ("llama"), whose merges follow from the scores. A file that holds a whole `tokenizer.json` is taken at its word.
 *
 * @module
 */

import type { GgufFile } from "./gguf.ts";
import {
  PRE_TOKENIZERS,
  type PreTokenizer,
  preTokenizerJson,
  preTokenizerNamed,
} from "./gguf_pretokenizers.ts";
import { isJsonObject, type JsonObject } from "./json_file.ts";

/** What a token is, by the number that files have for it. */
export const TOKEN_TYPES = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** Key of a whole `tokenizer.json`. */
export const HUGGING_FACE_KEY = "tokenizer.huggingface.json";

/** The two files of a tokenizer. */
export interface TokenizerFiles {
  /** The content of `tokenizer.json`. */
  tokenizer: JsonObject;
  /** The content of `tokenizer_config.json`, with the chat template. */
  config: JsonObject;
}

/** SentencePiece's stand-in for a blank. */
const BLANK = "▁";
/** Finding the merges of a token takes the square of its length; SentencePiece's have 16 characters unless told otherwise. */
const MAX_PIECE = 1024;

/** The tokenizer of a file. */
export function ggufTokenizer(file: GgufFile): TokenizerFiles {
  const { source, metadata } = file;
  const fail = (what: string): never => {
    throw new Error(`Cannot read the tokenizer of ${source}: ${what}.`);
  };
  const flag = (name: string, fallback: boolean): boolean => {
    const value = metadata.get(`tokenizer.ggml.${name}`) ?? fallback;
    return typeof value === "boolean" ? value : fail(`"tokenizer.ggml.${name}" is not true or false`);
  };
  const whole = metadata.get(HUGGING_FACE_KEY);
  const model = metadata.get("tokenizer.ggml.model");
  if (whole === undefined && model !== "gpt2" && model !== "llama") {
    const got = model === undefined ? "missing" : JSON.stringify(String(model));
    fail(`"tokenizer.ggml.model" is ${got}. Expected "gpt2" or "llama"`);
  }
  const tokens = metadata.get("tokenizer.ggml.tokens") ?? [];
  if (!isTexts(tokens)) return fail(`"tokenizer.ggml.tokens" is not a list of texts`);
  const specials: Specials = {};
  for (const name of ["bos", "eos", "unknown", "padding"] as const) {
    // llama.cpp's SentencePiece tokenizers have these where a file does not say.
    const usual = model === "llama" ? { bos: 1, eos: 2, unknown: 0, padding: undefined }[name] : undefined;
    const id = metadata.get(`tokenizer.ggml.${name}_token_id`) ?? usual;
    if (id === undefined) continue;
    if (typeof id !== "number" || !(id in tokens)) {
      if (tokens.length === 0) continue;
      fail(`"tokenizer.ggml.${name}_token_id" is ${id}. Expected an id of its ${tokens.length} tokens`);
    }
    specials[name] = { id: Number(id), content: tokens[Number(id)] };
  }
  const template = metadata.get("tokenizer.chat_template");
  if (template !== undefined && typeof template !== "string") fail(`"tokenizer.chat_template" is not a text`);
  const config = (addsBos: boolean, addsEos: boolean): JsonObject => ({
    tokenizer_class: "PreTrainedTokenizerFast",
    add_bos_token: addsBos,
    add_eos_token: addsEos,
    ...(specials.bos && { bos_token: specials.bos.content }),
    ...(specials.eos && { eos_token: specials.eos.content }),
    ...(specials.unknown && { unk_token: specials.unknown.content }),
    ...(specials.padding && { pad_token: specials.padding.content }),
    clean_up_tokenization_spaces: false,
    ...(template !== undefined && { chat_template: template }),
  });
  if (whole !== undefined) {
    const json = typeof whole === "string" ? parse(whole) : undefined;
    if (json === undefined) return fail(`"${HUGGING_FACE_KEY}" is not a JSON object`);
    return { tokenizer: json, config: config(flag("add_bos_token", false), flag("add_eos_token", false)) };
  }

  const { vocab, types } = readVocabulary(file, tokens, fail);
  const common = (addsBos: boolean, addsEos: boolean) => ({
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: tokens.flatMap((content, id) => {
      const special = types[id] === TOKEN_TYPES.control || types[id] === TOKEN_TYPES.unknown;
      if (!special && types[id] !== TOKEN_TYPES.userDefined) return [];
      return [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special }];
    }),
    post_processor: templateProcessing(
      addsBos ? specials.bos : undefined,
      addsEos ? specials.eos : undefined,
    ),
  });
  const bpe = { type: "BPE", dropout: null, continuing_subword_prefix: null, end_of_word_suffix: null };
  if (model === "gpt2") {
    const pre = readPreTokenizer(metadata.get("tokenizer.ggml.pre") ?? "default", fail);
    const merges = readMerges(metadata.get("tokenizer.ggml.merges"), fail);
    const addsBos = flag("add_bos_token", pre.addsBos ?? false), addsEos = flag("add_eos_token", false);
    if (flag("add_space_prefix", false)) fail(`"tokenizer.ggml.add_space_prefix" is true. Expected false`);
    return {
      tokenizer: {
        ...common(addsBos, addsEos),
        normalizer: pre.composes ? { type: "NFC" } : null,
        pre_tokenizer: preTokenizerJson(pre),
        decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
        model: {
          ...bpe,
          unk_token: null,
          fuse_unk: false,
          byte_fallback: false,
          ignore_merges: pre.ignoreMerges ?? false,
          vocab,
          merges,
        },
      },
      config: config(addsBos, addsEos),
    };
  }
  const scores = metadata.get("tokenizer.ggml.scores");
  if (!(scores instanceof Float32Array) || scores.length !== tokens.length) {
    return fail(`"tokenizer.ggml.scores" is not a list of ${tokens.length} numbers`);
  }
  if (flag("remove_extra_whitespaces", false)) {
    fail(`"tokenizer.ggml.remove_extra_whitespaces" is true. Expected false`);
  }
  const long = tokens.findIndex((token) => token.length > MAX_PIECE);
  if (long >= 0) {
    fail(`its token ${long} has ${tokens[long].length} characters. Expected at most ${MAX_PIECE}`);
  }
  const addsBos = flag("add_bos_token", true), addsEos = flag("add_eos_token", false);
  const prefix = flag("add_space_prefix", true);
  return {
    tokenizer: {
      ...common(addsBos, addsEos),
      ...blanks(prefix),
      pre_tokenizer: null,
      model: {
        ...bpe,
        unk_token: specials.unknown?.content ?? null,
        fuse_unk: true,
        byte_fallback: true,
        ignore_merges: false,
        vocab,
        merges: mergesOfScores(tokens, types, scores),
      },
    },
    config: config(addsBos, addsEos),
  };
}

type Specials = Partial<Record<"bos" | "eos" | "unknown" | "padding", { id: number; content: string }>>;

/** Throws the error of a file's tokenizer. */
type Fail = (what: string) => never;

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === "string");
}

function parse(text: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isJsonObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function readVocabulary(
  { metadata }: GgufFile,
  tokens: string[],
  fail: Fail,
): { vocab: Record<string, number>; types: ArrayLike<number> } {
  if (tokens.length === 0) fail(`"tokenizer.ggml.tokens" is missing or empty`);
  const types = metadata.get("tokenizer.ggml.token_type") ??
    new Int32Array(tokens.length).fill(TOKEN_TYPES.normal);
  const numbers = types instanceof Int32Array || types instanceof Uint32Array;
  if (!numbers || types.length !== tokens.length) {
    return fail(`"tokenizer.ggml.token_type" is not a list of ${tokens.length} whole numbers`);
  }
  const ids = new Map(tokens.map((token, id) => [token, id]));
  if (ids.size < tokens.length) {
    const id = tokens.findIndex((token, i) => ids.get(token) !== i);
    fail(`its tokens ${id} and ${ids.get(tokens[id])} are both ${JSON.stringify(tokens[id])}`);
  }
  return { vocab: Object.fromEntries(ids), types };
}

function readPreTokenizer(name: unknown, fail: Fail): PreTokenizer {
  const found = typeof name === "string" ? preTokenizerNamed(name) : undefined;
  const known = PRE_TOKENIZERS.flatMap(({ names }) => names).join(", ");
  return found ?? fail(`"tokenizer.ggml.pre" is ${JSON.stringify(String(name))}. Expected one of ${known}`);
}

function readMerges(lines: unknown, fail: Fail): [string, string][] {
  if (!isTexts(lines)) return fail(`"tokenizer.ggml.merges" is not a list of texts`);
  return lines.map((line, i) => {
    // A part may be a blank itself only where it begins the line.
    const blank = line.indexOf(" ", 1);
    if (blank < 0 || blank === line.length - 1) {
      fail(`merge ${i} is ${JSON.stringify(line)}. Expected two parts with a blank between`);
    }
    return [line.slice(0, blank), line.slice(blank + 1)];
  });
}

function templateProcessing(bos: Specials["bos"], eos: Specials["eos"]): JsonObject {
  const around = (id: string) => [
    ...(bos ? [{ SpecialToken: { id: bos.content, type_id: 0 } }] : []),
    { Sequence: { id, type_id: 0 } },
    ...(eos ? [{ SpecialToken: { id: eos.content, type_id: 0 } }] : []),
  ];
  return {
    type: "TemplateProcessing",
    single: around("A"),
    pair: [...around("A"), ...around("B")],
    special_tokens: Object.fromEntries(
      [bos, eos].flatMap((one) =>
        one ? [[one.content, { id: one.content, ids: [one.id], tokens: [one.content] }]] : []
      ),
    ),
  };
}

/** SentencePiece's treatment of blanks; with `prefix`, texts get one in front that decoding takes away again. */
function blanks(prefix: boolean): JsonObject {
  const replace = { type: "Replace", pattern: { String: " " }, content: BLANK };
  return {
    normalizer: prefix
      ? { type: "Sequence", normalizers: [{ type: "Prepend", prepend: BLANK }, replace] }
      : replace,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: BLANK }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(prefix ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
      ],
    },
  };
}

/**
 * The merges that SentencePiece's BPE makes, best first: any two pieces whose union is a piece, by the union's score. A union can be made in
 * several ways; those with older parts come first.
 */
export function mergesOfScores(
  tokens: string[],
  types: ArrayLike<number>,
  scores: ArrayLike<number>,
): [string, string][] {
  const ids = new Map(tokens.flatMap((token, id) => types[id] === TOKEN_TYPES.normal ? [[token, id]] : []));
  const ordered = [...ids.values()].sort((a, b) => scores[b] - scores[a] || a - b);
  const merges: [string, string][] = [];
  for (const id of ordered) {
    const token = tokens[id];
    const ways: { pair: [string, string]; left: number; right: number }[] = [];
    for (let cut = 1; cut < token.length; cut++) {
      const pair: [string, string] = [token.slice(0, cut), token.slice(cut)];
      const left = ids.get(pair[0]), right = ids.get(pair[1]);
      if (left !== undefined && right !== undefined) ways.push({ pair, left, right });
    }
    ways.sort((a, b) => a.left - b.left || a.right - b.right);
    merges.push(...ways.map(({ pair }) => pair));
  }
  return merges;
}
