import assert from "node:assert/strict";
import { ggufConfig } from "../../src/model/gguf_config.ts";
import { readGguf } from "../../src/model/gguf.ts";
import { openGguf } from "../../src/model/open_gguf.ts";
import { writeGguf } from "../../src/model/write_gguf.ts";
import { withDirectory } from "../assets.ts";
import { smollm2Test } from "../smollm2.ts";
import { MAGIC, type Part, writeParts } from "./gguf_goldens.ts";
import { tinyLlama } from "./tiny_gguf.ts";

const f32 = (value: number): Part[] => [6, new Uint8Array(Float32Array.of(value).buffer)];
const u32 = (value: number): Part[] => [4, value];
const text = (value: string): Part[] => [8, value];

/** A file of one architecture with an embedding of 20 tokens; `changes` may take entries away. */
function describe(
  directory: string,
  architecture: string,
  changes: Record<string, Part[] | undefined> = {},
  tensor = "token_embd.weight",
): string {
  const entries: Record<string, Part[] | undefined> = {
    "general.architecture": text(architecture),
    [`${architecture}.context_length`]: u32(64),
    [`${architecture}.embedding_length`]: u32(32),
    [`${architecture}.block_count`]: u32(2),
    [`${architecture}.feed_forward_length`]: u32(48),
    [`${architecture}.attention.head_count`]: u32(4),
    [`${architecture}.attention.layer_norm_rms_epsilon`]: f32(1e-5),
    [`${architecture}.attention.layer_norm_epsilon`]: f32(1e-5),
    ...changes,
  };
  const kept = Object.entries(entries).filter(([, parts]) => parts !== undefined) as [string, Part[]][];
  return writeParts(directory, [
    MAGIC,
    3,
    1n,
    BigInt(kept.length),
    ...kept.flatMap(([key, parts]) => [key, ...parts]),
    tensor,
    2,
    32n,
    20n,
    0,
    0n,
  ], 8000);
}

const RMS = "attention.layer_norm_rms_epsilon";
const LAYER_NORM = "attention.layer_norm_epsilon";

Deno.test("what files leave out has the values that llama.cpp takes", () =>
  withDirectory((directory) => {
    const read = (architecture: string, changes = {}) =>
      ggufConfig(readGguf(describe(directory, architecture, {
        [`${architecture}.${architecture.startsWith("gpt") ? RMS : LAYER_NORM}`]: undefined,
        ...changes,
      }))).config;
    const llama = read("llama");
    assert.deepEqual([llama.head_dim, llama.num_key_value_heads, llama.rope_theta, llama.rms_norm_eps], [
      8,
      4,
      10000,
      1e-5,
    ]);
    assert.deepEqual([llama.tie_word_embeddings, llama.vocab_size, llama.bos_token_id], [true, 20, null]);
    const gemma2 = read("gemma2");
    assert.deepEqual(
      [gemma2.attn_logit_softcapping, gemma2.final_logit_softcapping, gemma2.sliding_window],
      [50, 30, 4096],
    );
    assert.deepEqual(gemma2.layer_types, ["sliding_attention", "full_attention"]);
    assert.equal(gemma2.query_pre_attn_scalar, 8);
    // Gemma 2 of 27 billion: 46 layers, heads of 128 in a width of 4608 for 32 heads.
    const large = read("gemma2", {
      "gemma2.block_count": u32(46),
      "gemma2.embedding_length": u32(4608),
      "gemma2.attention.head_count": u32(32),
      "gemma2.attention.key_length": u32(128),
      "gemma2.attention.value_length": u32(128),
    });
    assert.equal(large.query_pre_attn_scalar, 144);
    assert.equal(read("gptneox", { "gptneox.rope.dimension_count": u32(2) }).rotary_pct, 0.25);
    assert.equal(read("gpt2", { "gpt2.feed_forward_length": u32(128) }).n_inner, null);
    assert.equal(read("gpt2").n_inner, 48);
    assert.equal(read("phi3", { "phi3.attention.sliding_window": u32(0) }).sliding_window, null);
    assert.deepEqual(read("qwen3", { "qwen3.attention.key_length": u32(16) }).head_dim, 16);
    const lists: Part[] = [9, 5, 2n, 2, 2];
    assert.equal(read("llama", { "llama.attention.head_count_kv": lists }).num_key_value_heads, 2);
  }));

const REFUSED: [string, Record<string, Part[] | undefined>, RegExp][] = [
  ["mamba", {}, /"general\.architecture" is "mamba"\. Expected one of llama, qwen2, qwen3/],
  ["llama", { "general.architecture": undefined }, /"general\.architecture" is missing/],
  ["llama", { "llama.expert_count": u32(8) }, /"llama\.expert_count" is 8\. Expected 0/],
  ["llama", { "llama.block_count": undefined }, /"llama\.block_count" is missing\. Expected a whole number/],
  [
    "llama",
    { "llama.block_count": u32(0) },
    /"llama\.block_count" is 0\. Expected a whole number from 1 to 1024/,
  ],
  ["llama", { "llama.block_count": text("2") }, /"llama\.block_count" is 2\. Expected a whole number/],
  [
    "llama",
    { "llama.rope.scaling.type": text("yarn") },
    /"llama\.rope\.scaling\.type" is yarn\. Expected none or/,
  ],
  ["phi3", { "phi3.rope.scaling.type": text("longrope") }, /"phi3\.rope\.scaling\.type" is longrope/],
  [
    "llama",
    { "llama.rope.dimension_count": u32(4), "llama.attention.key_length": u32(8) },
    /dimension_count" is 4/,
  ],
  ["llama", { "llama.attention.value_length": u32(4) }, /"llama\.attention\.value_length" is 4\. Expected 8/],
  ["llama", { "llama.logit_scale": f32(2) }, /"llama\.logit_scale" is in its metadata, and what it changes/],
  [
    "llama",
    { "llama.attention.head_count_kv": [9, 5, 2n, 2, 4] },
    /head_count_kv" is a list\. Expected a whole number from 1 to 4096, the same for all layers/,
  ],
  ["qwen2", { "qwen2.attention.sliding_window": u32(9) }, /"qwen2\.attention\.sliding_window" is 9/],
  [
    "llama",
    { "tokenizer.ggml.eos_token_id": u32(20) },
    /eos_token_id" is 20\. Expected a token id below the/,
  ],
];

for (const [architecture, changes, message] of REFUSED) {
  Deno.test(`refused: ${String(message).slice(1, 60)}`, () =>
    withDirectory((directory) => {
      const norm = architecture.startsWith("gpt") ? RMS : LAYER_NORM;
      const path = describe(directory, architecture, { [`${architecture}.${norm}`]: undefined, ...changes });
      assert.throws(() => openGguf(path), (error: Error) => {
        assert.match(error.message, /^Cannot read .*x\.gguf: /);
        assert.match(error.message, message);
        return true;
      });
    }));
}

Deno.test("a tensor that an architecture does not have is refused by name", () =>
  withDirectory((directory) => {
    const norm = { [`llama.${LAYER_NORM}`]: undefined };
    assert.throws(
      () => openGguf(describe(directory, "llama", norm, "blk.0.ffn_gate_inp.weight")),
      /it has no tensor "token_embd\.weight"/,
    );
    const path = `${directory}/model.gguf`;
    writeGguf(path, { ...tinyLlama(), type: "F32" });
    const bytes = Deno.readFileSync(path);
    const at = new TextDecoder("latin1").decode(bytes).indexOf("blk.0.ffn_up.weight");
    bytes.set(new TextEncoder().encode("blk.0.ffn_xx.weight"), at);
    Deno.writeFileSync(path, bytes);
    assert.throws(
      () => openGguf(path),
      /tensor "blk\.0\.ffn_xx\.weight" has no place in the architecture llama/,
    );
  }));

Deno.test("rotary factors that Llama 3's scaling does not give are refused", () =>
  withDirectory((directory) => {
    const path = `${directory}/model.gguf`;
    const rope = {
      rope_type: "llama3",
      rope_theta: 1e4,
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 32,
    };
    writeGguf(path, { ...tinyLlama({ rope_parameters: rope }), type: "F32" });
    assert.deepEqual(openGguf(path).config.rope_parameters, rope);
    const bytes = Deno.readFileSync(path);
    bytes[readGguf(path).tensors.get("rope_freqs.weight")!.offset + 6] ^= 1;
    Deno.writeFileSync(path, bytes);
    assert.throws(() => openGguf(path), /"rope_freqs\.weight" is not what Llama 3's scaling/);
  }));

smollm2Test("SmolLM2's file is the Llama model that its makers published", (path) => {
  const { config, generation, weights } = openGguf(path);
  const expected = {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    vocab_size: 49152,
    hidden_size: 576,
    intermediate_size: 1536,
    num_hidden_layers: 30,
    num_attention_heads: 9,
    num_key_value_heads: 3,
    head_dim: 64,
    max_position_embeddings: 8192,
    rms_norm_eps: 1e-5,
    rope_theta: 100000,
    tie_word_embeddings: true,
    bos_token_id: 1,
    eos_token_id: 2,
    pad_token_id: 2,
  };
  for (const [field, value] of Object.entries(expected)) assert.deepEqual(config[field], value, field);
  assert.deepEqual(generation, { bos_token_id: 1, eos_token_id: 2, pad_token_id: 2 });
  assert.equal(weights.tensors.size, 272);
  assert.deepEqual(weights.tensors.get("model.layers.29.self_attn.k_proj.weight")!.shape, [192, 576]);
});
