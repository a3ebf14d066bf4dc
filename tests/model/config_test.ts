import assert from "node:assert/strict";
import { join } from "node:path";
import {
  configJson,
  type ModelConfig,
  parseConfig,
  plainLlama,
  readConfig,
  writeConfig,
} from "../../src/model/config.ts";
import { asset, assetTest, golden, withDirectory } from "../assets.ts";

const tinyLlama = () => JSON.parse(Deno.readTextFileSync(golden("models/tiny-llama/config.json")));
const parse = (changes: Record<string, unknown>, generation?: Record<string, unknown>) =>
  parseConfig({ ...tinyLlama(), ...changes }, "models/x/config.json", generation);
/** The same config without some of its fields. */
function without(...names: string[]): ModelConfig {
  const json = tinyLlama();
  for (const name of names) delete json[name];
  return parseConfig(json, "config.json");
}

Deno.test("the older spelling is read", () => {
  const expected = plainLlama({
    architecture: "causal",
    vocabSize: 331,
    hiddenSize: 60,
    intermediateSize: 115,
    layers: 2,
    heads: 3,
    kvHeads: 1,
    headDim: 20,
    normEps: 1e-5,
    ropeTheta: 10000,
    maxPositions: 64,
    tied: false,
    bosId: 1,
    eosIds: [2],
    padId: 0,
  });
  assert.deepEqual(readConfig(golden("models/tiny-llama")), expected);
  const reward = readConfig(golden("models/tiny-llama-rm"));
  assert.deepEqual([reward.architecture, reward.heads, reward.kvHeads, reward.headDim], ["reward", 4, 2, 10]);
});

assetTest("the spelling of transformers 5 is read", () => {
  const config = readConfig(asset("goldens/models/stories260K"));
  assert.equal(config.ropeTheta, 10000);
  assert.deepEqual([config.layers, config.heads, config.kvHeads, config.headDim, config.tied], [
    5,
    8,
    4,
    8,
    true,
  ]);
  assert.equal(config.padId, undefined);
});

Deno.test("rope_parameters give the base", () => {
  const config = parse({
    rope_theta: undefined,
    rope_parameters: { rope_theta: 5e5, rope_type: "default" },
    torch_dtype: undefined,
    dtype: "float32",
  });
  assert.equal(config.ropeTheta, 500000);
  assert.throws(
    () => parse({ rope_parameters: { rope_theta: 5e5 } }),
    /"rope_theta" is 10000\. Expected 500000, as in "rope_parameters"/,
  );
});

Deno.test("fields that transformers leaves out get its defaults", () => {
  assert.equal(without("num_key_value_heads").kvHeads, 3);
  assert.equal(without("head_dim").headDim, 20);
  assert.equal(without("rms_norm_eps").normEps, 1e-6);
  assert.equal(without("rope_theta").ropeTheta, 10000);
  assert.equal(without("tie_word_embeddings").tied, false);
  assert.equal(without("max_position_embeddings").maxPositions, 2048);
  assert.deepEqual(without("bos_token_id", "eos_token_id", "pad_token_id").eosIds, [2]);
  assert.deepEqual(parse({ num_key_value_heads: null, head_dim: null }).headDim, 20);
});

Deno.test("end tokens may be many, and those of generation_config.json come first", () => {
  assert.deepEqual(parse({ eos_token_id: [2, 5] }).eosIds, [2, 5]);
  assert.deepEqual(parse({}, { eos_token_id: [7, 2], pad_token_id: 9 }).eosIds, [7, 2]);
  assert.equal(parse({ pad_token_id: null }, { pad_token_id: 9 }).padId, 9);
  assert.equal(parse({ pad_token_id: -1 }).padId, undefined);
  assert.deepEqual(parse({ eos_token_id: null, bos_token_id: null }).eosIds, []);
  assert.throws(
    () => parse({ eos_token_id: 331 }),
    /"eos_token_id" is 331\. Expected token ids below the vocabulary size 331/,
  );
  assert.throws(() => parse({}, { eos_token_id: "2" }), /generation_config\.json: "eos_token_id" is "2"/);
});

Deno.test("what is not computed is refused by name", () => {
  const refused: [Record<string, unknown>, RegExp][] = [
    [
      { architectures: ["FalconForCausalLM"] },
      /"architectures" is \["FalconForCausalLM"\]\. Expected one of LlamaForCausalLM, MistralForCausalLM, .*, or the same ending in ForSequenceClassification/,
    ],
    [{ architectures: ["MistralForCausalLM"] }, /"model_type" is "llama"\. Expected "mistral" or null/],
    [{ architectures: ["toString"] }, /"architectures"/],
    [{ architectures: undefined }, /"architectures" is undefined/],
    [{ model_type: "mistral" }, /"model_type" is "mistral"/],
    [{ hidden_act: "gelu" }, /"hidden_act" is "gelu"\. Expected "silu"; keel computes nothing else here/],
    [{ attention_bias: 1 }, /"attention_bias" is 1\. Expected true or false/],
    [{ quantization_config: { quant_method: "gptq" } }, /"quantization_config"/],
    [{ rope_scaling: { rope_type: "yarn", factor: 8 } }, /"rope_scaling": "rope_type" is "yarn"/],
    [{ rope_scaling: { rope_type: "llama3" } }, /"factor" is undefined\. Expected a number from 1/],
    [
      { rope_scaling: { type: "linear" } },
      /"rope_scaling": "factor" is undefined\. Expected a number from 1/,
    ],
    [{ rope_parameters: { rope_theta: 10000, rope_type: "yarn" } }, /"rope_type" is "yarn"/],
    [{ rope_scaling: "linear" }, /"rope_scaling" is "linear"\. Expected an object or null/],
    [{ sliding_window: 7 }, /"sliding_window" is 7/],
    [{ attention_dropout: "0.1" }, /"attention_dropout" is "0\.1"\. Expected a number from 0 to 1/],
    [
      { architectures: ["LlamaForSequenceClassification"], id2label: { 0: "a", 1: "b" } },
      /the model has 2 labels/,
    ],
    [
      { architectures: ["LlamaForSequenceClassification"] },
      /the model has 2 labels\. Expected a reward model with one/,
    ],
  ];
  for (const [changes, message] of refused) {
    assert.throws(() => parse(changes), message);
    assert.throws(() => parse(changes), /^Error: Cannot read models\/x\/config\.json/);
  }
});

Deno.test("sizes out of range are refused by name", () => {
  for (
    const name of [
      "vocab_size",
      "hidden_size",
      "intermediate_size",
      "num_hidden_layers",
      "num_attention_heads",
      "max_position_embeddings",
    ]
  ) {
    for (const value of [0, -4, 2.5, "60", 1e15, NaN, true]) {
      assert.throws(
        () => parse({ [name]: value }),
        new RegExp(`"${name}" is .*Expected a whole number from 1 to`),
        `${name} ${value}`,
      );
    }
  }
  assert.throws(() => parse({ vocab_size: undefined }), /"vocab_size" is undefined/);
  assert.throws(
    () => parse({ num_key_value_heads: 2 }),
    /"num_key_value_heads" is 2\. Expected a divisor of the 3/,
  );
  assert.throws(() => parse({ head_dim: 15 }), /the head dimension is 15\. Expected an even number/);
  assert.throws(
    () => parse({ head_dim: undefined, hidden_size: 61 }),
    /"hidden_size" is 61\. Expected a multiple/,
  );
  assert.throws(() => parse({ rms_norm_eps: 0 }), /"rms_norm_eps" is 0/);
  assert.throws(() => parse({ rope_theta: -1 }), /"rope_theta" is -1/);
  assert.throws(
    () => parse({ tie_word_embeddings: "no" }),
    /"tie_word_embeddings" is "no"\. Expected true or false/,
  );
});

Deno.test("files that are missing or not JSON are refused by name", () =>
  withDirectory((directory) => {
    assert.throws(() => readConfig(directory), /config\.json: the file does not exist/);
    Deno.writeTextFileSync(join(directory, "config.json"), "{");
    assert.throws(() => readConfig(directory), /config\.json: it is not valid JSON/);
    Deno.writeTextFileSync(join(directory, "config.json"), "[]");
    assert.throws(() => readConfig(directory), /config\.json: expected a JSON object/);
    Deno.writeTextFileSync(join(directory, "config.json"), " ".repeat(5e6));
    assert.throws(() => readConfig(directory), /it has 5000000 bytes\. Expected at most 4000000/);
  }));

Deno.test("a written config is read back as the same model, in both spellings", () =>
  withDirectory((directory) => {
    const config = plainLlama({
      architecture: "causal",
      vocabSize: 209,
      hiddenSize: 96,
      intermediateSize: 192,
      layers: 3,
      heads: 3,
      kvHeads: 1,
      headDim: 32,
      normEps: 1e-5,
      ropeTheta: 5000,
      maxPositions: 64,
      tied: true,
      bosId: 1,
      eosIds: [2, 6],
      padId: 0,
    });
    writeConfig(directory, config);
    assert.deepEqual(readConfig(directory), config);
    const json = configJson(config);
    assert.deepEqual([json.rope_theta, json.rope_parameters], [5000, {
      rope_theta: 5000,
      rope_type: "default",
    }]);
    const bare: ModelConfig = { ...config, architecture: "reward", eosIds: [] };
    delete bare.bosId;
    delete bare.padId;
    assert.deepEqual(parseConfig(configJson(bare), "config.json"), bare);
  }));

Deno.test("Llama 3's rotary scaling is read and written", () => {
  const config = readConfig(golden("models/tiny-llama-tied"));
  const expected = {
    type: "llama3",
    factor: 8,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalMaxPositions: 32,
  };
  assert.deepEqual(config.ropeScaling, expected);
  assert.deepEqual(parseConfig(configJson(config), "config.json").ropeScaling, expected);
});
