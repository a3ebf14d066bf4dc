/** A small Llama model and tokenizers to be written as GGUF files. */
import { mkdirSync } from "node:fs";
import type { JsonObject } from "../../src/model/json_file.ts";
import type { WeightSource } from "../../src/model/write_gguf.ts";
import { randomStream } from "../../src/random/stream.ts";

/** A config and random weights by name. */
export function tinyLlama(overrides: JsonObject = {}): { config: JsonObject; weights: WeightSource } {
  const config: JsonObject = {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    hidden_act: "silu",
    hidden_size: 32,
    intermediate_size: 40,
    max_position_embeddings: 64,
    num_attention_heads: 4,
    num_hidden_layers: 1,
    num_key_value_heads: 2,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    tie_word_embeddings: true,
    vocab_size: 20,
    bos_token_id: 1,
    eos_token_id: 2,
    ...overrides,
  };
  const shapes: Record<string, number[]> = {
    "model.embed_tokens.weight": [Number(config.vocab_size), 32],
    "model.layers.0.input_layernorm.weight": [32],
    "model.layers.0.self_attn.q_proj.weight": [32, 32],
    "model.layers.0.self_attn.k_proj.weight": [16, 32],
    "model.layers.0.self_attn.v_proj.weight": [16, 32],
    "model.layers.0.self_attn.o_proj.weight": [32, 32],
    "model.layers.0.post_attention_layernorm.weight": [32],
    "model.layers.0.mlp.gate_proj.weight": [40, 32],
    "model.layers.0.mlp.up_proj.weight": [40, 32],
    "model.layers.0.mlp.down_proj.weight": [32, 40],
    "model.norm.weight": [32],
  };
  return { config, weights: randomWeights(shapes) };
}

/** Normal weights of the given shapes, the same each time. */
export function randomWeights(shapes: Record<string, number[]>): WeightSource {
  return {
    tensors: Object.entries(shapes).map(([name, shape]): [string, { shape: number[] }] => [name, { shape }]),
    read: (name) => {
      const rng = randomStream(1, name);
      const elements = shapes[name].reduce((a, b) => a * b, 1);
      return Float32Array.from({ length: elements }, () => rng.normal());
    },
  };
}

const special = (content: string, id: number) => ({
  id,
  content,
  single_word: false,
  lstrip: false,
  rstrip: false,
  normalized: false,
  special: true,
});

/** The directory of a tokenizer of SentencePiece's kind: 13 tokens and one for each byte, which makes 269. */
export function tinyTokenizer(within: string): string {
  const tokens = ["<unk>", "<s>", "</s>", "▁", "a", "b", "c", "ab", "▁ab", "abc", "▁abc", "bc", "é"];
  for (let byte = 0; byte < 256; byte++) {
    tokens.push(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
  }
  const json = {
    added_tokens: ["<unk>", "<s>", "</s>"].map(special),
    normalizer: {
      type: "Sequence",
      normalizers: [
        { type: "Prepend", prepend: "▁" },
        { type: "Replace", pattern: { String: " " }, content: "▁" },
      ],
    },
    pre_tokenizer: null,
    post_processor: {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<s>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
      special_tokens: { "<s>": { id: "<s>", ids: [1], tokens: ["<s>"] } },
    },
    model: {
      type: "BPE",
      byte_fallback: true,
      unk_token: "<unk>",
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: [
        ["a", "b"],
        ["▁", "ab"],
        ["b", "c"],
        ["ab", "c"],
        ["a", "bc"],
        ["▁", "abc"],
        ["▁ab", "c"],
      ],
    },
  };
  return writeTokenizer(within, json, {
    bos_token: "<s>",
    eos_token: "</s>",
    unk_token: "<unk>",
    chat_template: "{{ messages[0].content }}",
  });
}

/** Writes a tokenizer into a directory of its own. */
export function writeTokenizer(within: string, tokenizer: JsonObject, config: JsonObject): string {
  const directory = `${within}/tokenizer`;
  mkdirSync(directory, { recursive: true });
  Deno.writeTextFileSync(`${directory}/tokenizer.json`, JSON.stringify(tokenizer));
  Deno.writeTextFileSync(`${directory}/tokenizer_config.json`, JSON.stringify(config));
  return directory;
}
