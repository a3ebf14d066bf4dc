/**
 * What a model is, read from and written to Hugging Face's `config.json`.
 *
 * Both spellings are read: transformers 5 (`rope_parameters`, `dtype`) and before (`rope_theta`, `rope_scaling`,
 * `torch_dtype`). What we do not compute is refused by name, never ignored.
 *
 * @module
 */

import { join } from "node:path";
import { writeTextAtomically } from "./atomic_file.ts";
import { fileExists, isJsonObject, type JsonObject, readJsonObject } from "./json_file.ts";

/** A Llama decoder with a language-model head (`causal`) or a scalar head (`reward`). */
export interface ModelConfig {
  /** A language model or a reward model. */
  architecture: "causal" | "reward";
  /** Tokens of the vocabulary. */
  vocabSize: number;
  /** Width of the residual stream. */
  hiddenSize: number;
  /** Width of the gated MLP. */
  intermediateSize: number;
  /** Transformer blocks. */
  layers: number;
  /** Query heads. */
  heads: number;
  /** Key and value heads; divides `heads`. */
  kvHeads: number;
  /** Width of one head, even; `heads * headDim` need not be `hiddenSize`. */
  headDim: number;
  /** RMSNorm's epsilon. */
  normEps: number;
  /** Base of the rotary frequencies. */
  ropeTheta: number;
  /** Llama 3's stretching of the low rotary frequencies; absent for plain rotary embedding. */
  ropeScaling?: RopeScaling;
  /** Longest sequence. */
  maxPositions: number;
  /** Whether the language-model head is the embedding; a reward model has no such head. */
  tied: boolean;
  /** Token that texts begin with. */
  bosId?: number;
  /** Tokens that end a generation. Data are ended with the tokenizer's own end token. */
  eosIds: number[];
  /** Padding token. */
  padId?: number;
}

/** How Llama 3 stretches rotary frequencies beyond the context they were trained for. */
export interface RopeScaling {
  /** How much the low frequencies are stretched. */
  factor: number;
  /** Turns over the original context below which a frequency is stretched in full. */
  lowFreqFactor: number;
  /** Turns above which it is left alone. */
  highFreqFactor: number;
  /** Context length before stretching, in tokens. */
  originalMaxPositions: number;
}

const ARCHITECTURES: Record<string, ModelConfig["architecture"]> = {
  LlamaForCausalLM: "causal",
  LlamaForSequenceClassification: "reward",
};

/** Reads fields of one JSON file; each error names file and field. */
class Fields {
  constructor(private json: JsonObject, private source: string) {}

  /** The value, or undefined where it is absent or null. */
  get(name: string): unknown {
    return this.json[name] ?? undefined;
  }

  has(name: string): boolean {
    return Object.hasOwn(this.json, name);
  }

  fail(name: string, expected: string): never {
    throw new Error(
      `Cannot read ${this.source}: "${name}" is ${JSON.stringify(this.json[name])}. Expected ${expected}.`,
    );
  }

  /** A whole number in a range; `fallback` for an absent field, without one the field is required. */
  integer(name: string, min: number, max: number, fallback?: number): number {
    const value = this.get(name) ?? fallback;
    if (typeof value !== "number" || !Number.isInteger(value) || value < min || value > max) {
      this.fail(name, `a whole number from ${min} to ${max}`);
    }
    return value;
  }

  /** A number in a range. */
  number(name: string, min: number, max: number, fallback?: number): number {
    const value = this.get(name) ?? fallback;
    if (typeof value !== "number" || !(value >= min && value <= max)) {
      this.fail(name, `a number from ${min} to ${max}`);
    }
    return value;
  }

  boolean(name: string, fallback: boolean): boolean {
    const value = this.get(name) ?? fallback;
    if (typeof value !== "boolean") this.fail(name, "true or false");
    return value;
  }

  /** Refuses a feature: the field must be absent, null or one of the values that mean "off". */
  refuse(name: string, ...off: unknown[]): void {
    const value = this.get(name);
    if (value !== undefined && !off.includes(value)) {
      this.fail(
        name,
        `${[...off, null].map((item) => JSON.stringify(item)).join(" or ")}; keel does not compute this`,
      );
    }
  }

  /** Ids of special tokens: none, one, or a list. -1 means none in some old files. */
  ids(name: string, vocabSize: number, fallback?: number): number[] {
    const value = this.has(name) ? this.get(name) : fallback;
    if (value === undefined || value === -1) return [];
    const ids = Array.isArray(value) ? value : [value];
    const valid = (id: unknown) => Number.isInteger(id) && (id as number) >= 0 && (id as number) < vocabSize;
    if (!ids.every(valid)) this.fail(name, `token ids below the vocabulary size ${vocabSize}`);
    return ids;
  }
}

function parseArchitecture(fields: Fields): ModelConfig["architecture"] {
  const names = fields.get("architectures");
  const supported = Object.keys(ARCHITECTURES).join(" or ");
  if (!Array.isArray(names) || names.length !== 1 || !Object.hasOwn(ARCHITECTURES, String(names[0]))) {
    fields.fail("architectures", supported);
  }
  fields.refuse("model_type", "llama");
  return ARCHITECTURES[names[0]];
}

/** The RoPE base and Llama 3's scaling, from either spelling; any other scaling is refused. */
function parseRope(fields: Fields, source: string): Pick<ModelConfig, "ropeTheta" | "ropeScaling"> {
  let theta: number | undefined, ropeScaling: RopeScaling | undefined;
  for (const name of ["rope_parameters", "rope_scaling"]) {
    const value = fields.get(name);
    if (value === undefined) continue;
    if (!isJsonObject(value)) fields.fail(name, "an object or null");
    const rope = new Fields(value, `${source}, "${name}"`);
    rope.refuse("rope_type", "default", "llama3");
    rope.refuse("type", "default", "llama3");
    rope.refuse("partial_rotary_factor", 1);
    if (rope.get("rope_theta") !== undefined) theta ??= rope.number("rope_theta", 1, 1e12, 1e4);
    if (rope.get("rope_type") === "llama3" || rope.get("type") === "llama3") {
      ropeScaling = {
        factor: rope.number("factor", 1, 1e6),
        lowFreqFactor: rope.number("low_freq_factor", 1e-6, 1e6),
        highFreqFactor: rope.number("high_freq_factor", 1e-6, 1e6),
        originalMaxPositions: rope.integer("original_max_position_embeddings", 1, 2 ** 24),
      };
    }
  }
  const plain = fields.number("rope_theta", 1, 1e12, theta ?? 1e4);
  if (theta !== undefined && plain !== theta) {
    fields.fail("rope_theta", `${theta}, as in "rope_parameters"`);
  }
  return { ropeTheta: plain, ...(ropeScaling && { ropeScaling }) };
}

/**
 * Reads a config that was parsed from JSON. `source` names the file in errors; `generation` is the content of
 * `generation_config.json`, whose end tokens take precedence, as they do in transformers.
 */
export function parseConfig(json: JsonObject, source: string, generation?: JsonObject): ModelConfig {
  const fields = new Fields(json, source);
  const architecture = parseArchitecture(fields);
  fields.refuse("hidden_act", "silu");
  fields.refuse("attention_bias", false);
  fields.refuse("mlp_bias", false);
  fields.refuse("quantization_config");
  fields.refuse("sliding_window");
  fields.refuse("rope_interleaved", false);
  fields.refuse("attention_dropout", 0);
  fields.refuse("partial_rotary_factor", 1);
  if (architecture === "reward") {
    // transformers takes two labels when the file says nothing.
    const labels = fields.get("id2label");
    const count = isJsonObject(labels) ? Object.keys(labels).length : fields.get("num_labels") ?? 2;
    if (count !== 1) {
      throw new Error(
        `Cannot read ${source}: the model has ${count} labels. Expected a reward model with one ("num_labels": 1).`,
      );
    }
  }
  const vocabSize = fields.integer("vocab_size", 1, 2 ** 21);
  const hiddenSize = fields.integer("hidden_size", 1, 2 ** 17);
  const heads = fields.integer("num_attention_heads", 1, 4096);
  const kvHeads = fields.integer("num_key_value_heads", 1, 4096, heads);
  if (heads % kvHeads !== 0) fields.fail("num_key_value_heads", `a divisor of the ${heads} attention heads`);
  if (fields.get("head_dim") === undefined && hiddenSize % heads !== 0) {
    fields.fail("hidden_size", `a multiple of the ${heads} attention heads, or "head_dim"`);
  }
  const headDim = fields.integer("head_dim", 2, 1024, hiddenSize / heads);
  if (headDim % 2 !== 0) {
    throw new Error(
      `Cannot read ${source}: the head dimension is ${headDim}. Expected an even number for rotary positions.`,
    );
  }
  const generated = new Fields(generation ?? {}, source.replace(/config\.json$/, "generation_config.json"));
  const ids = (name: string, fallback?: number) => fields.ids(name, vocabSize, fallback);
  const config: ModelConfig = {
    architecture,
    vocabSize,
    hiddenSize,
    intermediateSize: fields.integer("intermediate_size", 1, 2 ** 20),
    layers: fields.integer("num_hidden_layers", 1, 1024),
    heads,
    kvHeads,
    headDim,
    normEps: fields.number("rms_norm_eps", 1e-30, 1, 1e-6),
    ...parseRope(fields, source),
    maxPositions: fields.integer("max_position_embeddings", 1, 2 ** 24, 2048),
    tied: fields.boolean("tie_word_embeddings", false),
    eosIds: generated.get("eos_token_id") === undefined
      ? ids("eos_token_id", 2)
      : generated.ids("eos_token_id", vocabSize),
  };
  const bosId = [...ids("bos_token_id", 1), ...generated.ids("bos_token_id", vocabSize)][0];
  const padId = [...ids("pad_token_id"), ...generated.ids("pad_token_id", vocabSize)][0];
  if (bosId !== undefined) config.bosId = bosId;
  if (padId !== undefined) config.padId = padId;
  return config;
}

/** Reads `config.json`, and `generation_config.json` where there is one, of a model directory. */
export function readConfig(directory: string): ModelConfig {
  const generation = join(directory, "generation_config.json");
  const source = join(directory, "config.json");
  return parseConfig(
    readJsonObject(source),
    source,
    fileExists(generation) ? readJsonObject(generation) : undefined,
  );
}

/**
 * The content of a `config.json` that transformers 4 and 5 load as the same model: RoPE is written in both spellings,
 * because version 4 takes 10000 when `rope_theta` is absent.
 */
export function configJson(config: ModelConfig, storage: "F32" | "F16" = "F32"): JsonObject {
  const { architecture, eosIds, ropeScaling } = config;
  const rope = ropeScaling
    ? {
      rope_type: "llama3",
      factor: ropeScaling.factor,
      low_freq_factor: ropeScaling.lowFreqFactor,
      high_freq_factor: ropeScaling.highFreqFactor,
      original_max_position_embeddings: ropeScaling.originalMaxPositions,
    }
    : { rope_type: "default" };
  return {
    architectures: [architecture === "causal" ? "LlamaForCausalLM" : "LlamaForSequenceClassification"],
    model_type: "llama",
    attention_bias: false,
    attention_dropout: 0,
    bos_token_id: config.bosId ?? null,
    eos_token_id: eosIds.length > 1 ? eosIds : eosIds[0] ?? null,
    pad_token_id: config.padId ?? null,
    head_dim: config.headDim,
    hidden_act: "silu",
    hidden_size: config.hiddenSize,
    ...(architecture === "reward" && { id2label: { "0": "LABEL_0" }, label2id: { LABEL_0: 0 } }),
    initializer_range: 0.02,
    intermediate_size: config.intermediateSize,
    max_position_embeddings: config.maxPositions,
    mlp_bias: false,
    num_attention_heads: config.heads,
    num_hidden_layers: config.layers,
    num_key_value_heads: config.kvHeads,
    rms_norm_eps: config.normEps,
    rope_parameters: { rope_theta: config.ropeTheta, ...rope },
    ...(ropeScaling && { rope_scaling: rope }),
    rope_theta: config.ropeTheta,
    tie_word_embeddings: config.tied,
    torch_dtype: storage === "F16" ? "float16" : "float32",
    use_cache: true,
    vocab_size: config.vocabSize,
  };
}

/** Writes `config.json`, and `generation_config.json` for a causal model, into a directory that exists. */
export function writeConfig(directory: string, config: ModelConfig, storage: "F32" | "F16" = "F32"): void {
  const write = (name: string, json: JsonObject) =>
    writeTextAtomically(join(directory, name), JSON.stringify(json, null, 2) + "\n");
  const json = configJson(config, storage);
  write("config.json", json);
  if (config.architecture === "causal") {
    const { bos_token_id, eos_token_id, pad_token_id } = json;
    write("generation_config.json", {
      ...(bos_token_id !== null && { bos_token_id }),
      ...(eos_token_id !== null && { eos_token_id }),
      ...(pad_token_id !== null && { pad_token_id }),
    });
  }
}
