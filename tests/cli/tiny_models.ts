/** Directories of the tiny golden models with a tokenizer, as a person would have them. */
import { copyFileSync, existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { golden } from "../assets.ts";

const SPECIAL = ["<pad>", "<s>", "</s>"];

/** A tokenizer with a token for every byte, after three special ones: any text can be written with it. */
export function writeByteTokenizer(directory: string): void {
  const special = SPECIAL.map((content, id) => ({
    id,
    content,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  }));
  let next = 256;
  const letters = Array.from({ length: 256 }, (_, byte) => {
    const printable = byte >= 0x21 && byte <= 0x7e || byte >= 0xa1 && byte <= 0xac || byte >= 0xae;
    return String.fromCodePoint(printable ? byte : next++);
  });
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  const json = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: special,
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries([...SPECIAL, ...letters].map((token, id) => [token, id])),
      merges: [],
    },
  };
  Deno.writeTextFileSync(join(directory, "tokenizer.json"), JSON.stringify(json));
  Deno.writeTextFileSync(
    join(directory, "tokenizer_config.json"),
    JSON.stringify({
      tokenizer_class: "PreTrainedTokenizerFast",
      pad_token: "<pad>",
      bos_token: "<s>",
      eos_token: "</s>",
      clean_up_tokenization_spaces: false,
    }),
  );
}

/** A copy of a model's directory, a committed one if only its name is given, with that tokenizer. */
export function tinyModel(within: string, name: string, from: string = golden(`models/${name}`)): string {
  const directory = join(within, name);
  mkdirSync(directory, { recursive: true });
  for (const file of ["config.json", "generation_config.json", "model.safetensors"]) {
    if (existsSync(join(from, file))) copyFileSync(join(from, file), join(directory, file));
  }
  writeByteTokenizer(directory);
  return directory;
}
