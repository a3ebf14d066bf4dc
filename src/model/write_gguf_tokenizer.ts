/**
 * A Hugging Face tokenizer as the metadata of a GGUF file.
 *
 * Byte-level BPE and SentencePiece's BPE are written as llama.cpp reads them. Anything else is written as the whole `tokenizer.json`, which
 * GGUF has a key for and few readers use.
 *
 * @module
 */

import { join } from "node:path";
import { preTokenizerOf } from "./gguf_pretokenizers.ts";
import { HUGGING_FACE_KEY, mergesOfScores, TOKEN_TYPES } from "./gguf_tokenizer.ts";
import { fileExists, isJsonObject, type JsonObject, readJsonObject, readTextFile } from "./json_file.ts";
import { bool, type GgufEntry, text, u32 } from "./write_gguf_config.ts";

/** The largest tokenizers in use have about 35 MB. */
const MAX_TOKENIZER_BYTES = 256e6;

/** Entries by key, and what other readers will miss. */
export interface DescribedTokenizer {
  /** Entries by key. */
  entries: Map<string, GgufEntry>;
  /** A sentence on what other readers will not take from the file. */
  note?: string;
}

/**
 * The tokenizer of a directory, filled up to the rows of the model's embedding; without a directory only the special ids of the model's
 * config. `path` names the file in errors.
 */
export function describeTokenizer(
  config: JsonObject,
  path: string,
  vocabSize: number,
  directory?: string,
): DescribedTokenizer {
  const entries = new Map<string, GgufEntry>();
  if (directory === undefined) {
    entries.set("tokenizer.ggml.model", text("none"));
    addSpecialIds(entries, config, () => undefined);
    return { entries, note: "Other readers will find no tokenizer in the file." };
  }
  const optional = (name: string) =>
    fileExists(join(directory, name)) ? readJsonObject(join(directory, name)) : {};
  const settings = { ...optional("special_tokens_map.json"), ...optional("tokenizer_config.json") };
  const json = readJsonObject(join(directory, "tokenizer.json"), MAX_TOKENIZER_BYTES);
  const vocabulary = readVocabulary(json, join(directory, "tokenizer.json"));
  if (vocabulary.tokens.length > vocabSize) {
    throw new Error(
      `Cannot write ${path}: the tokenizer in ${directory} has ${vocabulary.tokens.length} tokens, but the model has only ${vocabSize}. Use the tokenizer that the model was trained with.`,
    );
  }
  const idOf = (name: string): number | undefined => {
    const token = settings[name];
    const content = isJsonObject(token) ? token.content : token;
    const id = vocabulary.tokens.indexOf(content as string);
    return id < 0 ? undefined : id;
  };
  const around = readTemplate(json, idOf);
  const kind = around === undefined ? undefined : describeKind(json, vocabulary);
  entries.set("tokenizer.ggml.model", text(kind?.model ?? "none"));
  const { tokens, types } = vocabulary;
  for (let id = 0; id < vocabSize; id++) {
    // llama.cpp wants a token for each row of the embedding.
    if (tokens[id] !== undefined) continue;
    tokens[id] = `[PAD${id}]`;
    types[id] = TOKEN_TYPES.unused;
  }
  entries.set("tokenizer.ggml.tokens", { type: "strings", value: tokens });
  entries.set("tokenizer.ggml.token_type", { type: "i32s", value: types });
  if (kind?.model === "llama") {
    const scores = tokens.map((_, id) => kind.scores[id] ?? 0);
    entries.set("tokenizer.ggml.scores", { type: "f32s", value: scores });
  }
  for (const [key, entry] of kind?.entries ?? []) entries.set(key, entry);
  addSpecialIds(entries, config, idOf);
  if (around !== undefined) {
    entries.set("tokenizer.ggml.add_bos_token", bool(around.bos));
    entries.set("tokenizer.ggml.add_eos_token", bool(around.eos));
  }
  const template = readChatTemplate(directory, settings);
  if (template !== undefined) entries.set("tokenizer.chat_template", text(template));
  if (kind !== undefined) return { entries };
  entries.set(HUGGING_FACE_KEY, text(JSON.stringify(json)));
  return {
    entries,
    note: "The tokenizer is none that llama.cpp knows; the file holds it as Hugging Face's tokenizer.json.",
  };
}

/** The tokenizer's own end comes first; other ids that end a generation are written as a turn's and a message's end. */
function addSpecialIds(
  entries: Map<string, GgufEntry>,
  config: JsonObject,
  idOf: (name: string) => number | undefined,
): void {
  const ids = (name: string): number[] => {
    const value = config[name];
    return (Array.isArray(value) ? value : [value]).filter((id) => Number.isInteger(id) && id >= 0);
  };
  const all = (name: string) => [
    ...new Set([idOf(`${name}_token`), ...ids(`${name}_token_id`)].filter((id) => id !== undefined)),
  ];
  const put = (name: string, id: number | undefined) => {
    if (id !== undefined) entries.set(`tokenizer.ggml.${name}_token_id`, u32(id));
  };
  const [eos, eot, eom] = all("eos");
  put("bos", all("bos")[0]);
  put("eos", eos);
  put("eot", eot);
  put("eom", eom);
  put("unknown", idOf("unk_token"));
  put("padding", all("pad")[0]);
}

/** Tokens and their types by id, with holes where an id has none. */
interface Vocabulary {
  tokens: string[];
  types: number[];
}

function readVocabulary(json: JsonObject, file: string): Vocabulary {
  const vocab = isJsonObject(json.model) ? json.model.vocab : undefined;
  const added = json.added_tokens;
  if (!isJsonObject(vocab) || !Array.isArray(added)) {
    throw new Error(`Cannot read ${file}: expected "model" with "vocab", and "added_tokens".`);
  }
  const tokens: string[] = [], types: number[] = [];
  const put = (content: unknown, id: unknown, type: number) => {
    if (typeof content !== "string" || typeof id !== "number" || !(id >= 0 && id < 2 ** 21 && id % 1 === 0)) {
      throw new Error(
        `Cannot read ${file}: a token has id ${JSON.stringify(id)}. Expected a whole number below ${
          2 ** 21
        }.`,
      );
    }
    tokens[id] = content;
    types[id] = type;
  };
  const model = json.model as JsonObject;
  for (const [token, id] of Object.entries(vocab)) {
    const byte = model.byte_fallback === true && /^<0x[0-9A-F]{2}>$/.test(token);
    put(token, id, byte ? TOKEN_TYPES.byte : TOKEN_TYPES.normal);
  }
  for (const token of added) {
    if (!isJsonObject(token)) throw new Error(`Cannot read ${file}: an added token is not a JSON object.`);
    const unknown = token.content === model.unk_token;
    const type = unknown ? "unknown" : token.special === true ? "control" : "userDefined";
    put(token.content, token.id, TOKEN_TYPES[type]);
  }
  return { tokens, types };
}

/** Whether texts get a beginning and an end; undefined for what a GGUF file cannot say. */
function readTemplate(
  json: JsonObject,
  idOf: (name: string) => number | undefined,
): { bos: boolean; eos: boolean } | undefined {
  const post = json.post_processor;
  const steps: unknown[] = isJsonObject(post) && post.type === "Sequence" && Array.isArray(post.processors)
    ? post.processors
    : [post];
  const found = { bos: false, eos: false };
  for (const step of steps) {
    if (!isJsonObject(step) || step.type === "ByteLevel") continue;
    if (step.type !== "TemplateProcessing" || !Array.isArray(step.single)) return undefined;
    const names = step.single.map((part) => {
      const special = isJsonObject(part) && isJsonObject(part.SpecialToken)
        ? part.SpecialToken.id
        : undefined;
      if (special === undefined) return "text";
      const table = isJsonObject(step.special_tokens) ? step.special_tokens[String(special)] : undefined;
      const id = isJsonObject(table) && Array.isArray(table.ids) ? table.ids[0] : undefined;
      // One token may be both.
      return id === undefined
        ? "other"
        : id === idOf("bos_token")
        ? "bos"
        : id === idOf("eos_token")
        ? "eos"
        : "";
    });
    const order = names.join(" ");
    if (!/^(bos )?text( eos| bos)?$/.test(order)) return undefined;
    if (order.endsWith(" bos") && idOf("bos_token") !== idOf("eos_token")) return undefined;
    found.bos = order.startsWith("bos");
    found.eos = !order.endsWith("text");
  }
  return found;
}

type Kind =
  | { model: "gpt2"; entries: [string, GgufEntry][] }
  | { model: "llama"; entries: [string, GgufEntry][]; scores: number[] };

/** The kind of tokenizer that ggml has for this one, or undefined. */
function describeKind(json: JsonObject, vocabulary: Vocabulary): Kind | undefined {
  const model = json.model as JsonObject;
  if (model.type !== "BPE" || model.continuing_subword_prefix || model.end_of_word_suffix) return undefined;
  const merges = readMerges(model.merges);
  if (merges === undefined) return undefined;
  if (model.byte_fallback === true) return describeSentencePiece(json, vocabulary, merges);
  const pre = preTokenizerOf(json.pre_tokenizer);
  const composes = isJsonObject(json.normalizer) && json.normalizer.type === "NFC";
  if (pre === undefined || (json.normalizer ?? null) !== null && !(composes && pre.composes)) {
    return undefined;
  }
  // A blank within a part could not be told from the one between the parts.
  if (merges.some((pair) => pair.some((part) => part.includes(" ")))) return undefined;
  return {
    model: "gpt2",
    entries: [
      ["tokenizer.ggml.pre", text(pre.names[0])],
      ["tokenizer.ggml.merges", { type: "strings", value: merges.map((pair) => pair.join(" ")) }],
    ],
  };
}

function readMerges(value: unknown): [string, string][] | undefined {
  if (!Array.isArray(value)) return undefined;
  const pairs = value.map((item) => typeof item === "string" ? item.split(" ") : item);
  const valid = pairs.every((pair) =>
    Array.isArray(pair) && pair.length === 2 && pair.every((part) => typeof part === "string")
  );
  return valid ? pairs as [string, string][] : undefined;
}

/** SentencePiece's pieces have scores instead of merges: minus the place of a piece's first merge. */
function describeSentencePiece(
  json: JsonObject,
  { tokens, types }: Vocabulary,
  merges: [string, string][],
): Kind | undefined {
  const prefix = readPrefix(json);
  if (prefix === undefined) return undefined;
  const first = new Map<string, number>();
  for (const [i, pair] of merges.entries()) {
    const piece = pair.join("");
    if (!first.has(piece)) first.set(piece, i);
  }
  // Pieces that no merge makes are single characters.
  const scores = tokens.map((token) => -(first.get(token) ?? merges.length));
  // A reader of scores makes every merge that the vocabulary allows; they must be these.
  const derived = mergesOfScores(tokens, types, scores);
  const ours = new Set(merges.map((pair) => JSON.stringify(pair)));
  if (derived.length !== ours.size || !derived.every((pair) => ours.has(JSON.stringify(pair)))) {
    return undefined;
  }
  return {
    model: "llama",
    scores,
    entries: [["tokenizer.ggml.pre", text("default")], ["tokenizer.ggml.add_space_prefix", bool(prefix)]],
  };
}

/** Whether a text gets a blank in front; undefined when blanks are not treated as SentencePiece does. */
function readPrefix({ normalizer, pre_tokenizer: pre }: JsonObject): boolean | undefined {
  const all =
    isJsonObject(normalizer) && normalizer.type === "Sequence" && Array.isArray(normalizer.normalizers)
      ? normalizer.normalizers
      : normalizer === null || normalizer === undefined
      ? []
      : [normalizer];
  const step = (one: unknown): string => {
    if (!isJsonObject(one)) return "other";
    if (one.type === "Prepend" && one.prepend === "▁") return "prepend";
    const blank = isJsonObject(one.pattern) && one.pattern.String === " " && one.content === "▁";
    return one.type === "Replace" && blank ? "replace" : "other";
  };
  const order = all.map(step).join(" ");
  if (isJsonObject(pre) && pre.type === "Metaspace" && order === "" && pre.split === false) {
    return pre.prepend_scheme !== "never";
  }
  // After blanks are replaced, cutting at blanks does nothing.
  const cuts = isJsonObject(pre) && pre.type === "Split" && isJsonObject(pre.pattern) &&
    pre.pattern.String === " ";
  if ((pre ?? null) !== null && !cuts) return undefined;
  return order === "prepend replace" ? true : order === "replace" ? false : undefined;
}

/** The chat template of a directory: its own file, else the settings'. */
function readChatTemplate(directory: string, settings: JsonObject): string | undefined {
  const file = join(directory, "chat_template.jinja");
  if (fileExists(file)) return readTextFile(file, 4e6);
  const value = settings.chat_template;
  if (!Array.isArray(value)) return typeof value === "string" ? value : undefined;
  const named = value.find((item) => isJsonObject(item) && item.name === "default");
  return typeof named?.template === "string" ? named.template : undefined;
}
