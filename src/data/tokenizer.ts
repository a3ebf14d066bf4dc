/**
 * Tokenizers in Hugging Face's format: text to ids and back, and chat templates.
 *
 * @module
 */

import { join } from "node:path";
import type { Template } from "@huggingface/jinja";
import { Tokenizer as HubTokenizer } from "@huggingface/tokenizers";
import { readGguf } from "../model/gguf.ts";
import { ggufTokenizer } from "../model/gguf_tokenizer.ts";
import {
  fileExists,
  isJsonObject,
  type JsonObject,
  readJsonObject,
  readTextFile,
} from "../model/json_file.ts";
import { chatTemplate } from "./chat_template.ts";
import { tokenBytesOf } from "./token_bytes.ts";
import { checkTokenizer } from "./tokenizer_file.ts";
import { ambiguityOf, keepByteOrderMarks } from "./tokenizer_limits.ts";

/** One turn of a conversation. */
export interface Message {
  /** `system`, `user`, `assistant`, … */
  role: string;
  /** What was said; null in a turn that only calls tools. */
  content: string | null;
  /** Fields that a chat template may use. */
  [field: string]: unknown;
}

/** How a conversation is written. */
export interface ChatTemplateOptions {
  /** Ends with the beginning of the assistant's turn. */
  addGenerationPrompt?: boolean;
  /** JSON schemas of functions that may be called. */
  tools?: unknown[];
  /** Further variables of the template. */
  variables?: Record<string, unknown>;
  /** Instead of the tokenizer's own template. */
  chatTemplate?: string;
}

/** What a model directory's tokenizer files can do. */
export interface Tokenizer {
  /** The directory or GGUF file, for messages. */
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
  /** The bytes of text that a token stands for; a token within a word may be part of a character. */
  tokenBytes(id: number): Uint8Array;
  /** The text of a conversation. Encode it with `addSpecialTokens: false`: templates write their special tokens. */
  applyChatTemplate(messages: Message[], options?: ChatTemplateOptions): string;
  /** The chat template. */
  chatTemplate?: string;
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

/** A special token is written as text or as an object with its text. */
function tokenText(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (isJsonObject(value) && typeof value.content === "string") return value.content;
}

/** Loads the optional JSON files of a directory; special tokens of the older extra file fill what the config leaves out. */
function readSettings(directory: string): JsonObject {
  const optional = (name: string) =>
    fileExists(join(directory, name)) ? readJsonObject(join(directory, name)) : {};
  return { ...optional("special_tokens_map.json"), ...optional("tokenizer_config.json") };
}

/** Settings with special tokens as texts. */
function plainSettings(stored: JsonObject): JsonObject {
  const settings = { ...stored };
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

/** Loads `tokenizer.json` of a directory and the settings beside it, or the tokenizer in a `.gguf` file. */
export function loadTokenizer(path: string): Tokenizer {
  if (path.endsWith(".gguf")) {
    const { tokenizer, config } = ggufTokenizer(readGguf(path));
    return makeTokenizer(path, path, tokenizer, config, config.chat_template as string | undefined);
  }
  const file = join(path, "tokenizer.json");
  const settings = readSettings(path);
  const json = readJsonObject(file, MAX_TOKENIZER_BYTES);
  return makeTokenizer(path, file, json, settings, readChatTemplate(path, settings));
}

/** A tokenizer of what its files hold; `directory` and `file` are for messages, `source` is the chat template. */
function makeTokenizer(
  directory: string,
  file: string,
  json: JsonObject,
  stored: JsonObject,
  source: string | undefined,
): Tokenizer {
  const settings = plainSettings(stored);
  const checked = checkTokenizer(json, file);
  let hub: HubTokenizer;
  try {
    hub = new HubTokenizer(checked.json, settings);
    keepByteOrderMarks(hub.decoder);
  } catch (error) {
    throw new Error(`Cannot read ${file}: ${(error as Error).message}.`, { cause: error });
  }

  const id = (name: string): number | undefined => {
    const token = settings[name] as string | undefined;
    return token === undefined ? undefined : hub.token_to_id(token);
  };
  const templates = new Map<string, Template>(), ambiguity = ambiguityOf(checked);
  const bytesOf = tokenBytesOf(json);

  return {
    source: directory,
    hasChatTemplate: source !== undefined,
    bosId: id("bos_token"),
    eosId: id("eos_token"),
    padId: id("pad_token"),
    eosToken: settings.eos_token as string | undefined,
    vocabSize: checked.vocabSize,
    encode(text, { addSpecialTokens = true } = {}) {
      const unclear = ambiguity(text);
      if (unclear) throw new Error(`Cannot encode "${unclear.text}" with ${directory}: ${unclear.problem}.`);
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
    tokenBytes: (id) => bytesOf(id, hub.id_to_token(id) ?? ""),
    chatTemplate: source,
    applyChatTemplate(messages, options = {}) {
      const { addGenerationPrompt = false, tools, variables, chatTemplate: text = source } = options;
      if (text === undefined) {
        throw new Error(
          `Cannot format a conversation: the tokenizer in ${directory} has no chat template. Expected "chat_template" in tokenizer_config.json, or chat_template.jinja.`,
        );
      }
      try {
        const template = templates.get(text) ?? chatTemplate(text);
        templates.set(text, template);
        const { bos_token, eos_token, pad_token, unk_token } = settings;
        return template.render({
          ...variables,
          messages,
          tools: tools ?? null,
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
