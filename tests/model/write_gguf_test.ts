import assert from "node:assert/strict";
import { dequantize } from "../../src/model/ggml_types.ts";
import { readGguf } from "../../src/model/gguf.ts";
import { readJsonObject } from "../../src/model/json_file.ts";
import { openGguf } from "../../src/model/open_gguf.ts";
import { openWeights } from "../../src/model/weights.ts";
import { type WeightSource, writeGguf } from "../../src/model/write_gguf.ts";
import { asset, assetTest, golden, withDirectory } from "../assets.ts";
import { randomWeights, tinyLlama } from "./tiny_gguf.ts";

/** Fields of a config that say nothing about what is computed, or repeat what other fields say. */
const IRRELEVANT =
  /^(dtype|torch_dtype|transformers_version|use_cache|initializer_range|pretraining_tp|is_decoder|max_window_layers|add_cross_attention|reorder_and_upcast_attn|scale_attn_.*|summary_.*|.*dropout|.*_pdrop)$/;

/** Writes a model directory in F32 and reads it again: every weight and every field of the config must be there. */
function roundTrip(directory: string, model: string): void {
  const path = `${directory}/model.gguf`;
  const config = readJsonObject(`${model}/config.json`);
  const weights = openWeights(model);
  const written = writeGguf(path, { config, weights, type: "F32" });
  assert.equal(written.storedAsHalf, 0);
  const again = openGguf(path);
  assert.deepEqual([...again.weights.tensors.keys()].sort(), [...weights.tensors.keys()].sort());
  for (const [name, { shape }] of weights.tensors) {
    assert.deepEqual(again.weights.tensors.get(name)!.shape, shape, name);
    const ours = weights.read(name), read = again.weights.read(name);
    // Gemma's norms are stored with the 1 that is added when they are used, and are the same then.
    const used = (values: Float32Array) =>
      String(config.model_type).startsWith("gemma") && name.endsWith("norm.weight")
        ? values.map((value) => 1 + value)
        : values;
    assert.deepEqual(used(read), used(ours), name);
  }
  for (const [field, value] of Object.entries(config)) {
    if (value === null || IRRELEVANT.test(field)) continue;
    // Its default, which transformers writes where every layer is alike.
    if (field === "layer_types" && (value as string[]).every((type) => type === "full_attention")) continue;
    assert.deepEqual(again.config[field], value, field);
  }
  for (const field of ["bos_token_id", "eos_token_id", "pad_token_id"]) {
    assert.deepEqual(again.generation[field], config[field] ?? undefined);
  }
}

for (const name of ["tiny-llama", "tiny-llama-tied", "tiny-llama-rm"]) {
  Deno.test(`${name} as a GGUF file is the same model`, () =>
    withDirectory((directory) => roundTrip(directory, golden(`models/${name}`))));
}

assetTest(
  "models of every architecture as GGUF files are the same models",
  () =>
    withDirectory((directory) => {
      let count = 0;
      for (const { name } of Deno.readDirSync(asset("goldens/models"))) {
        roundTrip(directory, asset(`goldens/models/${name}`));
        count++;
      }
      assert.ok(count >= 16);
    }),
);

/** Weights whose value is the number of their row. */
function numbered(shapes: Record<string, number[]>): WeightSource {
  const { tensors } = randomWeights(shapes);
  return {
    tensors,
    read: (name) => {
      const [rows, width = 1] = shapes[name];
      return Float32Array.from({ length: rows * width }, (_, i) => Math.floor(i / width));
    },
  };
}

/** The first element of each row of a file's tensor. */
function rowsOf(path: string, name: string): number[] {
  const file = readGguf(path);
  const { shape, type } = file.tensors.get(name)!;
  return Array.from(
    { length: shape[0] },
    (_, row) =>
      shape.length === 1
        ? dequantize(type, file.readBlocks(name))[row]
        : dequantize(type, file.readBlocks(name, row, 1))[0],
  );
}

Deno.test("rows of q and k are stored as llama.cpp's rotation takes them, other models' as they are", () =>
  withDirectory((directory) => {
    const path = `${directory}/model.gguf`;
    const layer = "model.layers.0.self_attn";
    const weights = numbered({
      "model.embed_tokens.weight": [20, 8],
      [`${layer}.q_proj.weight`]: [8, 8],
      [`${layer}.q_proj.bias`]: [8],
      [`${layer}.k_proj.weight`]: [4, 8],
      [`${layer}.v_proj.weight`]: [4, 8],
    });
    const sizes = { hidden_size: 8, num_attention_heads: 2, num_key_value_heads: 1 };
    writeGguf(path, { config: tinyLlama(sizes).config, weights, type: "F32" });
    // Two heads of 4: elements 0 and 1 of the first half are next to 2 and 3 of the second.
    assert.deepEqual(rowsOf(path, "blk.0.attn_q.weight"), [0, 2, 1, 3, 4, 6, 5, 7]);
    assert.deepEqual(rowsOf(path, "blk.0.attn_q.bias"), [0, 2, 1, 3, 4, 6, 5, 7]);
    assert.deepEqual(rowsOf(path, "blk.0.attn_k.weight"), [0, 2, 1, 3]);
    assert.deepEqual(rowsOf(path, "blk.0.attn_v.weight"), [0, 1, 2, 3]);
    const model = openGguf(path);
    assert.equal(model.config.attention_bias, true);
    const { type, bytes } = model.weights.readBlocks(`${layer}.q_proj.weight`, 1, 3);
    assert.deepEqual(
      dequantize(type, bytes),
      Float32Array.from({ length: 24 }, (_, i) => 1 + Math.floor(i / 8)),
    );
    assert.throws(
      () => model.weights.readBlocks(`${layer}.q_proj.weight`, 6, 3),
      /Cannot read rows 6 to 9 of tensor "blk\.0\.attn_q\.weight" of .*: it has 8/,
    );
    assert.equal(model.weights.readBlocks(`${layer}.q_proj.weight`, 0, 0).bytes.length, 0);
    writeGguf(path, { config: tinyLlama({ ...sizes, model_type: "qwen2" }).config, weights, type: "F32" });
    assert.deepEqual(rowsOf(path, "blk.0.attn_q.weight"), [0, 1, 2, 3, 4, 5, 6, 7]);
  }));

Deno.test("GPT-NeoX's q, k and v are stored one after the other, GPT-2's matrices as outputs of inputs", () =>
  withDirectory((directory) => {
    const path = `${directory}/model.gguf`;
    const neox = tinyLlama({
      architectures: ["GPTNeoXForCausalLM"],
      model_type: "gpt_neox",
      hidden_act: "gelu",
      hidden_size: 4,
      num_attention_heads: 2,
      num_key_value_heads: null,
    }).config;
    const weights = numbered({
      "gpt_neox.embed_in.weight": [20, 4],
      "gpt_neox.layers.0.attention.query_key_value.weight": [12, 4],
      "gpt_neox.layers.0.attention.query_key_value.bias": [12],
    });
    writeGguf(path, { config: neox, weights, type: "F32" });
    for (const name of ["blk.0.attn_qkv.weight", "blk.0.attn_qkv.bias"]) {
      assert.deepEqual(rowsOf(path, name), [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]);
    }
    const gpt2 = { model_type: "gpt2", n_head: 1, n_embd: 2, n_layer: 1, n_positions: 4, vocab_size: 20 };
    const name = "transformer.h.0.mlp.c_fc.weight";
    writeGguf(path, {
      config: gpt2,
      weights: numbered({ "transformer.wte.weight": [20, 2], [name]: [2, 3] }),
      type: "F32",
    });
    assert.deepEqual(readGguf(path).tensors.get("blk.0.ffn_up.weight")!.shape, [3, 2]);
    const read = openGguf(path).weights;
    assert.deepEqual(read.tensors.get(name)!.shape, [2, 3]);
    assert.deepEqual(read.read(name), Float32Array.of(0, 0, 0, 1, 1, 1));
    assert.deepEqual(
      dequantize("F32", read.readBlocks(name, 1, 2).bytes),
      Float32Array.of(0, 1, 0, 1),
    );
  }));

Deno.test("F16 and Q8_0 keep vectors in F32, and rows that do not fill blocks in F16", () =>
  withDirectory((directory) => {
    const path = `${directory}/model.gguf`;
    const { config, weights } = tinyLlama();
    for (const type of ["F16", "Q8_0"] as const) {
      // Only down_proj has rows of 40.
      assert.equal(writeGguf(path, { config, weights, type }).storedAsHalf, type === "Q8_0" ? 1 : 0);
      const again = openGguf(path).weights;
      for (const [name, { dtype, shape }] of again.tensors) {
        const expected = shape.length === 1 ? "F32" : name.includes("down_proj") ? "F16" : type;
        assert.equal(dtype, expected, name);
        const ours = weights.read(name), read = again.read(name);
        const largest = ours.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
        const step = { F32: 0, F16: 2 ** -11, Q8_0: 0.5 / 127 + 2 ** -10 }[expected as typeof type | "F32"];
        assert.ok(ours.every((value, i) => Math.abs(value - read[i]) <= step * largest), name);
      }
    }
    const large = { tensors: weights.tensors, read: (name: string) => weights.read(name).fill(1e5) };
    assert.throws(
      () => writeGguf(path, { config, weights: large, type: "F16" }),
      /^Error: Cannot write .*model\.gguf: tensor "token_embd\.weight" holds 100000\. Expected at most 65504/,
    );
    const short = { tensors: weights.tensors, read: () => new Float32Array(3) };
    assert.throws(
      () => writeGguf(path, { config, weights: short, type: "F32" }),
      /tensor "token_embd\.weight" has 3 values\. Expected 640/,
    );
    // The last good file is still there, and nothing else.
    assert.equal(openGguf(path).weights.tensors.size, 11);
    assert.deepEqual([...Deno.readDirSync(directory)].map(({ name }) => name), ["model.gguf"]);
  }));

Deno.test("what a GGUF file cannot say is refused, what others may not read is noted", () =>
  withDirectory((directory) => {
    const path = `${directory}/model.gguf`;
    const write = (overrides: Record<string, unknown>) =>
      writeGguf(path, { ...tinyLlama(overrides), type: "F32" });
    const refused: [Record<string, unknown>, RegExp][] = [
      [{ model_type: "mamba" }, /"model_type" of the config is "mamba"\. Expected one of llama, mistral/],
      [{ hidden_act: "relu" }, /"hidden_act" of the config is "relu"\. Expected "silu"; a GGUF file cannot/],
      [{ hidden_size: undefined }, /"hidden_size" of the config is missing\. Expected a number above 0/],
      [{ num_attention_heads: 5 }, /"head_dim" of the config is missing\. Expected a whole number/],
      [{ rope_scaling: { rope_type: "yarn", factor: 4 } }, /"rope_scaling" of the config is .*yarn/],
      [{ rope_parameters: { rope_type: "llama3", factor: 4 } }, /"rope_parameters" of the config/],
      [{ model_type: "qwen2", use_sliding_window: true }, /"use_sliding_window" of the config is true/],
      [{ partial_rotary_factor: 0.5 }, /"partial_rotary_factor" of the config is 0\.5\. Expected 1/],
      [{ num_key_value_heads: 3 }, /k_proj\.weight" has 16 rows\. Expected a multiple of 6, whole heads/],
      [
        { architectures: ["LlamaForSequenceClassification"] },
        /"id2label" of the config is missing\. Expected one label/,
      ],
    ];
    for (const [overrides, message] of refused) {
      assert.throws(() => write(overrides), (error: Error) => {
        assert.match(error.message, /^Cannot write .*model\.gguf: /);
        assert.match(error.message, message);
        return true;
      });
    }
    const { config } = tinyLlama();
    const weights = randomWeights({ "model.layers.0.mlp.experts.weight": [2, 3] });
    assert.throws(
      () => writeGguf(path, { config, weights, type: "F32" }),
      /tensor "model\.layers\.0\.mlp\.experts\.weight" \[2, 3\] has no place in a GGUF file of the architecture llama/,
    );
    const { notes } = write({ model_type: "mistral", sliding_window: 7 });
    assert.deepEqual(notes, [
      "Other readers may attend beyond the sliding window of 7 tokens.",
      "Other readers will find no tokenizer in the file.",
    ]);
    assert.equal(openGguf(path).config.model_type, "mistral");
    write({ rope_parameters: { rope_type: "linear", factor: 4, rope_theta: 500 } });
    assert.deepEqual(openGguf(path).config.rope_parameters, {
      rope_theta: 500,
      rope_type: "linear",
      factor: 4,
    });
    write({ eos_token_id: [2, 5, 7] });
    assert.deepEqual(openGguf(path).generation, { bos_token_id: 1, eos_token_id: [2, 5, 7] });
  }));

Deno.test("a tied model's second copy of the embedding and tables are left out", () =>
  withDirectory((directory) => {
    const path = `${directory}/model.gguf`;
    const { config } = tinyLlama();
    const weights = randomWeights({
      "model.embed_tokens.weight": [20, 32],
      "lm_head.weight": [20, 32],
      "model.layers.0.self_attn.rotary_emb.inv_freq": [4],
    });
    assert.equal(writeGguf(path, { config, weights, type: "F32" }).tensors, 1);
    assert.equal(openGguf(path).config.tie_word_embeddings, true);
    const untied = { config: { ...config, tie_word_embeddings: false }, weights, type: "F32" as const };
    assert.equal(writeGguf(path, untied).tensors, 2);
    assert.equal(openGguf(path).config.tie_word_embeddings, false);
  }));
