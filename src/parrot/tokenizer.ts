/**
 * The parrot's vocabulary as a Hugging Face tokenizer, so that its models are ordinary model directories.
 *
 * @module
 */

import { join } from "node:path";
import { writeTextAtomically } from "../model/atomic_file.ts";
import { BOS_ID, EOS_ID, PAD_ID, VOCABULARY } from "./vocabulary.ts";

const SPECIAL = [PAD_ID, BOS_ID, EOS_ID];

/** The content of `tokenizer.json`: words separated by blanks, `<bos>` put in front. */
export function parrotTokenizer(): Record<string, unknown> {
  const bos = VOCABULARY[BOS_ID];
  const template = [{ SpecialToken: { id: bos, type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }];
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: SPECIAL.map((id) => ({
      id,
      content: VOCABULARY[id],
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: { type: "WhitespaceSplit" },
    post_processor: {
      type: "TemplateProcessing",
      single: template,
      pair: [...template, { Sequence: { id: "B", type_id: 1 } }],
      special_tokens: { [bos]: { id: bos, ids: [BOS_ID], tokens: [bos] } },
    },
    decoder: null,
    model: {
      type: "WordLevel",
      vocab: Object.fromEntries(
        // Words that are numbers come first in any object, so the order here is not that of the ids; ids are explicit.
        VOCABULARY.map((word, id) => [word, id]),
      ),
      // Not in the vocabulary on purpose: an unknown word is an error, not a token.
      unk_token: "<unk>",
    },
  };
}

/** The content of `tokenizer_config.json`. */
export function parrotTokenizerConfig(): Record<string, unknown> {
  return {
    tokenizer_class: "PreTrainedTokenizerFast",
    bos_token: VOCABULARY[BOS_ID],
    eos_token: VOCABULARY[EOS_ID],
    pad_token: VOCABULARY[PAD_ID],
    clean_up_tokenization_spaces: false,
    model_max_length: 64,
  };
}

/** Writes `tokenizer.json` and `tokenizer_config.json` into a directory that exists. */
export function writeParrotTokenizer(directory: string): void {
  const json = (value: unknown) => JSON.stringify(value, null, 2) + "\n";
  writeTextAtomically(join(directory, "tokenizer.json"), json(parrotTokenizer()));
  writeTextAtomically(join(directory, "tokenizer_config.json"), json(parrotTokenizerConfig()));
}
