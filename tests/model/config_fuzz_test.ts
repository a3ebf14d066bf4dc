/** Damaged configs: a clear error, or a config whose numbers can be used; never another exception, and never for long. */
import assert from "node:assert/strict";
import { configJson, type ModelConfig, parseConfig } from "../../src/model/config.ts";
import type { JsonObject } from "../../src/model/json_file.ts";
import { randomStream } from "../../src/random/stream.ts";
import { mutateJson } from "../fuzz.ts";

const EACH = 400;

const COMMON = {
  vocab_size: 300,
  hidden_size: 48,
  intermediate_size: 96,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  max_position_embeddings: 128,
  rms_norm_eps: 1e-6,
  bos_token_id: 1,
  eos_token_id: [2, 3],
  pad_token_id: 0,
  tie_word_embeddings: false,
};

const LLAMA3 = {
  rope_type: "llama3",
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 64,
};

/** Configs of the families, in both spellings. */
const CONFIGS: Record<string, JsonObject> = {
  llama: {
    ...COMMON,
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    rope_theta: 1e4,
    rope_scaling: LLAMA3,
  },
  "llama as a reward model": {
    ...COMMON,
    architectures: ["LlamaForSequenceClassification"],
    model_type: "llama",
    id2label: { "0": "LABEL_0" },
    rope_parameters: { rope_theta: 1e4, ...LLAMA3 },
  },
  qwen3: {
    ...COMMON,
    architectures: ["Qwen3ForCausalLM"],
    model_type: "qwen3",
    head_dim: 16,
    attention_bias: false,
    layer_types: ["full_attention", "full_attention"],
    rope_parameters: { rope_type: "default", rope_theta: 1e6 },
  },
  gemma2: {
    ...COMMON,
    architectures: ["Gemma2ForCausalLM"],
    model_type: "gemma2",
    head_dim: 12,
    hidden_activation: "gelu_pytorch_tanh",
    attn_logit_softcapping: 50,
    final_logit_softcapping: 30,
    query_pre_attn_scalar: 18,
    sliding_window: 6,
    layer_types: ["sliding_attention", "full_attention"],
  },
  phi3: {
    ...COMMON,
    architectures: ["Phi3ForCausalLM"],
    model_type: "phi3",
    partial_rotary_factor: 0.5,
    sliding_window: null,
    rope_scaling: null,
  },
  gpt_neox: {
    ...COMMON,
    architectures: ["GPTNeoXForCausalLM"],
    model_type: "gpt_neox",
    num_key_value_heads: undefined,
    layer_norm_eps: 1e-5,
    rotary_pct: 0.5,
    rotary_emb_base: 1e4,
    use_parallel_residual: true,
  },
  gpt2: {
    architectures: ["GPT2LMHeadModel"],
    model_type: "gpt2",
    vocab_size: 300,
    n_embd: 48,
    n_head: 3,
    n_inner: null,
    n_layer: 2,
    n_positions: 64,
    layer_norm_epsilon: 1e-5,
    bos_token_id: 1,
    eos_token_id: 2,
  },
};

/** Every number of a config is finite, and the sizes make a model that could exist. */
function checkUsable(config: ModelConfig): void {
  const visit = (value: unknown, path: string) => {
    if (typeof value === "number") assert.ok(Number.isFinite(value), `${path} is ${value}`);
    else if (typeof value === "object" && value !== null) {
      for (const [key, item] of Object.entries(value)) visit(item, `${path}.${key}`);
    }
  };
  visit(config, "config");
  const { vocabSize, hiddenSize, layers, heads, kvHeads, headDim, maxPositions, eosIds } = config;
  for (const size of [vocabSize, hiddenSize, layers, heads, kvHeads, headDim, maxPositions]) {
    assert.ok(Number.isInteger(size) && size > 0 && size <= 2 ** 24);
  }
  assert.equal(heads % kvHeads, 0);
  assert.ok(eosIds.every((id) => Number.isInteger(id) && id >= 0 && id < vocabSize));
  // What is written is read as the same again.
  const written = JSON.parse(JSON.stringify(configJson(config)));
  assert.deepEqual(parseConfig(written, "again/config.json"), config);
}

for (const [name, json] of Object.entries(CONFIGS)) {
  Deno.test(`${EACH} damaged configs of ${name} are refused or can be used`, () => {
    checkUsable(parseConfig(json, "m/config.json"));
    let usable = 0;
    const begin = performance.now();
    for (let i = 0; i < EACH; i++) {
      const random = randomStream(5, name, i);
      const generation = { eos_token_id: [2], bos_token_id: 1, pad_token_id: 0 };
      const [config, other] = i % 4 === 3
        ? [json, mutateJson(generation, random)]
        : [mutateJson(json, random)];
      try {
        checkUsable(parseConfig(config, "m/config.json", other));
        usable++;
      } catch (error) {
        const { message } = error as Error;
        assert.ok(
          /^Cannot read m\/(generation_)?config\.json\b.*\.$/s.test(message),
          `mutation ${i}: ${error}`,
        );
        assert.ok(message.length < 1000, `mutation ${i}: a message of ${message.length} characters`);
      }
    }
    assert.ok(performance.now() - begin < 5000);
    assert.ok(usable > EACH / 10 && usable < EACH * 0.9, `${usable} of ${EACH} can be used`);
  });
}
