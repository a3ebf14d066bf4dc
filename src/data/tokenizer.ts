/**
 * Tokenizers in Hugging Face's format: text to ids and back, and chat templates.
 *
 * @module
 */

import { join } from "node:path";
import { Template } from "@huggingface/jinja";
import { Tokenizer as HubTokenizer } from "@huggingface/tokenizers";
import {
  fileExists,
  isJsonObject,
  type JsonObject,
  readJsonObject,
  readTextFile,
} from "../model/json_file.ts";

/** One turn of a conversation. */
export interface Message {
  /** `system`, `user`, `assistant`, … */
  role: string;
  /** What was said. */
  content: string;
  /** Fields that a chat template may use. */
  [field: string]: unknown;
}

/** What a model directory's tokenizer files can do. */
export interface Tokenizer {
  /** The directory, for messages. */
  source: string;
  /** Ids of a text. Special tokens written in the text become their ids; `addSpecialTokens` (true) adds the usual ones around it. */
  encode(text: string, options?: { addSpecialTokens?: boolean }): number[];
  /**
   * The text of some ids; `skipSpecialTokens` (true) leaves special tokens out, `cleanUpSpaces` (as the tokenizer's settings say)
   * takes out spaces before punctuation.
   */
  decode(
    ids: ArrayLike<number>,
    options?: { skipSpecialTokens?: boolean; cleanUpSpaces?: boolean },
  ): string;
  /** The text of a conversation. Encode it with `addSpecialTokens: false`: templates write their special tokens. */
  applyChatTemplate(messages: Message[], options?: { addGenerationPrompt?: boolean }): string;
  /** Whether {@linkcode Tokenizer.applyChatTemplate} can be used. */
  hasChatTemplate: boolean;
  /** Id of the token that texts begin with. */
  bosId?: number;
  /** Id of the token that texts end with. */
  eosId?: number;
  /** Id of the padding token. */
  padId?: number;
  /** The text of the end token. */
  eosToken?: string;
  /** One more than the largest id. */
  vocabSize: number;
}

/** The largest tokenizers in use have about 35 MB. */
const MAX_TOKENIZER_BYTES = 256e6;
const MAX_TOKENS = 2 ** 21;

/** A special token is written as text or as an object with its text. */
function tokenText(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (isJsonObject(value) && typeof value.content === "string") return value.content;
}

/** Loads the optional JSON files of a directory; special tokens of the older extra file fill what the config leaves out. */
function readSettings(directory: string): JsonObject {
  const optional = (name: string) =>
    fileExists(join(directory, name)) ? readJsonObject(join(directory, name)) : {};
  const settings = { ...optional("special_tokens_map.json"), ...optional("tokenizer_config.json") };
  for (const name of ["bos_token", "eos_token", "pad_token", "unk_token"]) {
    settings[name] = tokenText(settings[name]);
  }
  return settings;
}

/** The chat template of a directory: its own file, else the config's, where a list holds one called "default". */
function readChatTemplate(directory: string, settings: JsonObject): string | undefined {
  const file = join(directory, "chat_template.jinja");
  if (fileExists(file)) return readTextFile(file, 4e6);
  const value = settings.chat_template;
  if (Array.isArray(value)) {
    const named = value.find((item) => isJsonObject(item) && item.name === "default");
    return typeof named?.template === "string" ? named.template : undefined;
  }
  return typeof value === "string" ? value : undefined;
}

/** One more than the largest id, of the vocabulary or an added token. */
function countTokens(json: JsonObject, file: string): number {
  const vocab = isJsonObject(json.model) ? json.model.vocab : undefined;
  if (typeof vocab !== "object" || vocab === null || !Array.isArray(json.added_tokens)) {
    throw new Error(`Cannot read ${file}: expected "model" with "vocab", and "added_tokens".`);
  }
  // Unigram models list their tokens, the others map them to ids.
  const ids: unknown[] = Array.isArray(vocab) ? [vocab.length - 1] : Object.values(vocab);
  for (const token of json.added_tokens) ids.push(isJsonObject(token) ? token.id : undefined);
  let count = 0;
  for (const id of ids) {
    // The tables are indexed by id, so one absurd id would exhaust the memory.
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id >= MAX_TOKENS) {
      throw new Error(
        `Cannot read ${file}: a token has id ${
          JSON.stringify(id)
        }. Expected a whole number below ${MAX_TOKENS}.`,
      );
    }
    count = Math.max(count, id + 1);
  }
  return count;
}

/**
 * Rust's tokenizers count every Unicode number as a digit, the JavaScript port only 0 to 9; a split by pattern says what
 * is meant in both.
 */
function spellOutDigits(step: unknown): unknown {
  if (!isJsonObject(step)) return step;
  if (step.type === "Digits") {
    const pattern = { Regex: step.individual_digits === true ? "\\p{N}" : "\\p{N}+" };
    return { type: "Split", pattern, behavior: "Isolated", invert: false };
  }
  return Array.isArray(step.pretokenizers)
    ? { ...step, pretokenizers: step.pretokenizers.map(spellOutDigits) }
    : step;
}

/** Loads `tokenizer.json` and the settings beside it. */
export function loadTokenizer(directory: string): Tokenizer {
  const file = join(directory, "tokenizer.json");
  const settings = readSettings(directory);
  const json = readJsonObject(file, MAX_TOKENIZER_BYTES);
  const vocabSize = countTokens(json, file);
  let hub: HubTokenizer;
  try {
    hub = new HubTokenizer({ ...json, pre_tokenizer: spellOutDigits(json.pre_tokenizer) }, settings);
  } catch (error) {
    throw new Error(`Cannot read ${file}: ${(error as Error).message}.`, { cause: error });
  }

  const id = (name: string): number | undefined => {
    const token = settings[name] as string | undefined;
    return token === undefined ? undefined : hub.token_to_id(token);
  };
  const source = readChatTemplate(directory, settings);
  let template: Template | undefined;

  return {
    source: directory,
    hasChatTemplate: source !== undefined,
    bosId: id("bos_token"),
    eosId: id("eos_token"),
    padId: id("pad_token"),
    eosToken: settings.eos_token as string | undefined,
    vocabSize,
    encode(text, { addSpecialTokens = true } = {}) {
      const { ids, tokens } = hub.encode(text, { add_special_tokens: addSpecialTokens });
      const unknown = ids.findIndex((id) => id === undefined);
      if (unknown >= 0) {
        throw new Error(
          `Cannot encode "${
            tokens[unknown]
          }": it is not in the vocabulary of ${directory}, which has no token for unknown text.`,
        );
      }
      return ids;
    },
    decode(
      ids,
      { skipSpecialTokens = true, cleanUpSpaces = settings.clean_up_tokenization_spaces === true } = {},
    ) {
      // A model's head may be padded beyond the vocabulary; such ids have no text.
      const known = Array.from(ids).filter((id) => hub.id_to_token(id) !== undefined);
      if (known.length === 0) return "";
      return hub.decode(known, {
        skip_special_tokens: skipSpecialTokens,
        clean_up_tokenization_spaces: cleanUpSpaces,
      });
    },
    applyChatTemplate(messages, { addGenerationPrompt = false } = {}) {
      if (source === undefined) {
        throw new Error(
          `Cannot format a conversation: the tokenizer in ${directory} has no chat template. Expected "chat_template" in tokenizer_config.json, or chat_template.jinja.`,
        );
      }
      try {
        template ??= new Template(source);
        const { bos_token, eos_token, pad_token, unk_token } = settings;
        return template.render({
          messages,
          add_generation_prompt: addGenerationPrompt,
          bos_token,
          eos_token,
          pad_token,
          unk_token,
        });
      } catch (error) {
        throw new Error(`Cannot apply the chat template of ${directory}: ${(error as Error).message}.`, {
          cause: error,
        });
      }
    },
  };
}

/** Refuses a tokenizer whose ids do not all have a row in a model's embedding. A larger embedding is fine (padding). */
export function checkVocabulary(tokenizer: Tokenizer, modelVocabSize: number, model: string): void {
  if (tokenizer.vocabSize > modelVocabSize) {
    throw new Error(
      `The tokenizer in ${tokenizer.source} has ${tokenizer.vocabSize} tokens, but the model ${model} has only ${modelVocabSize}. Use the tokenizer that the model was trained with.`,
    );
  }
}
