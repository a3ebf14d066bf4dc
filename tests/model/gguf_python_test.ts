import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import type { JsonObject } from "../../src/model/json_file.ts";
import { openGguf } from "../../src/model/open_gguf.ts";
import { type WeightSource, writeGguf } from "../../src/model/write_gguf.ts";
import { withDirectory } from "../assets.ts";
import { python, pythonTest } from "../python.ts";
import { goldenFloats } from "./gguf_goldens.ts";
import { randomWeights, tinyLlama, tinyTokenizer } from "./tiny_gguf.ts";

const SCRIPT = fileURLToPath(new URL("../python/read_gguf.py", import.meta.url));
const LAYER = "model.layers.0";

/** Tiny Llama with other tensors besides. */
function like(overrides: JsonObject, more: Record<string, number[]>): Model {
  const { config, weights } = tinyLlama(overrides);
  const shapes = Object.fromEntries([...weights.tensors].map(([name, { shape }]) => [name, shape]));
  return { config, weights: randomWeights({ ...shapes, ...more }) };
}

interface Model {
  config: JsonObject;
  weights: WeightSource;
}

const PHI3 = tinyLlama({ model_type: "phi3", architectures: ["Phi3ForCausalLM"] }).config;
const NEOX = tinyLlama({
  model_type: "gpt_neox",
  architectures: ["GPTNeoXForCausalLM"],
  hidden_act: "gelu",
  num_key_value_heads: null,
}).config;

const MODELS: Record<string, Model> = {
  llama: tinyLlama(),
  qwen2: like({ model_type: "qwen2" }, { [`${LAYER}.self_attn.q_proj.bias`]: [32] }),
  qwen3: like({ model_type: "qwen3" }, {
    [`${LAYER}.self_attn.q_norm.weight`]: [8],
    [`${LAYER}.self_attn.k_norm.weight`]: [8],
  }),
  gemma: tinyLlama({ model_type: "gemma", hidden_act: "gelu_pytorch_tanh" }),
  gemma2: like({ model_type: "gemma2", hidden_act: "gelu_pytorch_tanh", query_pre_attn_scalar: 8 }, {
    [`${LAYER}.pre_feedforward_layernorm.weight`]: [32],
    [`${LAYER}.post_feedforward_layernorm.weight`]: [32],
  }),
  phi3: {
    config: PHI3,
    weights: randomWeights({
      "model.embed_tokens.weight": [20, 32],
      [`${LAYER}.self_attn.qkv_proj.weight`]: [64, 32],
      [`${LAYER}.self_attn.o_proj.weight`]: [32, 32],
      [`${LAYER}.mlp.gate_up_proj.weight`]: [80, 32],
      [`${LAYER}.mlp.down_proj.weight`]: [32, 40],
    }),
  },
  gptneox: {
    config: NEOX,
    weights: randomWeights({
      "gpt_neox.embed_in.weight": [20, 32],
      "gpt_neox.layers.0.input_layernorm.bias": [32],
      "gpt_neox.layers.0.attention.query_key_value.weight": [96, 32],
      "gpt_neox.layers.0.attention.query_key_value.bias": [96],
      "gpt_neox.layers.0.attention.dense.weight": [32, 32],
      "gpt_neox.layers.0.post_attention_layernorm.weight": [32],
      "gpt_neox.layers.0.mlp.dense_h_to_4h.weight": [40, 32],
      "gpt_neox.layers.0.mlp.dense_4h_to_h.weight": [32, 40],
      "gpt_neox.final_layer_norm.weight": [32],
    }),
  },
  gpt2: {
    config: { model_type: "gpt2", n_embd: 32, n_head: 4, n_layer: 1, n_positions: 8, vocab_size: 20 },
    weights: randomWeights({
      "transformer.wte.weight": [20, 32],
      "transformer.wpe.weight": [8, 32],
      "transformer.h.0.ln_1.weight": [32],
      "transformer.h.0.attn.c_attn.weight": [32, 96],
      "transformer.h.0.attn.c_attn.bias": [96],
      "transformer.h.0.attn.c_proj.weight": [32, 32],
      "transformer.h.0.ln_2.bias": [32],
      "transformer.h.0.mlp.c_fc.weight": [32, 128],
      "transformer.h.0.mlp.c_proj.weight": [128, 32],
      "transformer.ln_f.weight": [32],
    }),
  },
};

interface Read {
  fields: Record<string, unknown>;
  tensors: Record<string, { type: string; shape: number[]; values: string }>;
  others: string[];
}

pythonTest(
  "Python's gguf finds every tensor of every architecture where and as we find it",
  () =>
    withDirectory(async (directory) => {
      const path = `${directory}/model.gguf`;
      for (const [architecture, { config, weights }] of Object.entries(MODELS)) {
        for (const type of ["F32", "F16", "Q8_0"] as const) {
          if (type !== "F32" && architecture !== "llama" && architecture !== "gpt2") continue;
          writeGguf(path, { config, weights, type });
          const ours = openGguf(path).weights;
          const names = [...weights.tensors].map(([name]) => name);
          const heads = architecture === "gptneox" ? "4" : "2";
          const read: Read = JSON.parse(await python([SCRIPT, path, "4", heads, ...names]));
          assert.equal(read.fields["general.architecture"], architecture);
          assert.deepEqual(read.others, []);
          assert.equal(Object.keys(read.tensors).length, ours.tensors.size);
          for (const [name, { type, shape, values }] of Object.entries(read.tensors)) {
            const { dtype, shape: ourShape } = ours.tensors.get(name)!;
            assert.deepEqual([dtype, ourShape], [type, shape], name);
            assert.deepEqual(ours.read(name), goldenFloats(values), `${architecture} ${name}`);
            // Gemma's norms lose a bit to the 1 that is added.
            if (type === "F32" && !architecture.startsWith("gemma")) {
              assert.deepEqual(weights.read(name), goldenFloats(values));
            }
          }
        }
      }
    }),
);

pythonTest(
  "Python's gguf reads the metadata and the tokenizer that we write",
  () =>
    withDirectory(async (directory) => {
      const path = `${directory}/tiny.gguf`;
      const { config, weights } = tinyLlama({ vocab_size: 269, rope_theta: 5e5 });
      writeGguf(path, { config, weights, tokenizerFrom: tinyTokenizer(directory), type: "Q8_0" });
      const { fields }: Read = JSON.parse(
        await python([SCRIPT, path, "4", "2", ...[...weights.tensors].map(([name]) => name)]),
      );
      const tokens = fields["tokenizer.ggml.tokens"] as string[];
      assert.deepEqual([tokens.length, tokens[10], tokens[268]], [269, "▁abc", "<0xFF>"]);
      const expected = {
        "GGUF.version": 3,
        "general.architecture": "llama",
        "general.name": "tiny",
        "general.file_type": 7,
        "general.quantization_version": 2,
        "llama.context_length": 64,
        "llama.embedding_length": 32,
        "llama.block_count": 1,
        "llama.feed_forward_length": 40,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": Math.fround(1e-5),
        "llama.rope.freq_base": 500000,
        "llama.rope.dimension_count": 8,
        "llama.vocab_size": 269,
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": true,
        "tokenizer.chat_template": "{{ messages[0].content }}",
      };
      for (const [key, value] of Object.entries(expected)) assert.deepEqual(fields[key], value, key);
    }),
);
