/**
 * Understanding a `config.json`. Both spellings are read: transformers 5 (`rope_parameters`, `dtype`) and before
 * (`rope_theta`, `rope_scaling`, `torch_dtype`). What keel does not compute is refused by name, never ignored.
 *
 * @module
 */
import type { ModelConfig, RopeScaling } from "./config.ts";
import { Fields } from "./config_fields.ts";
import { architectureName, FAMILIES, type Family } from "./families.ts";
import { isJsonObject, type JsonObject, shortJson } from "./json_file.ts";

/**
 * Reads a config that was parsed from JSON. `source` names the file in errors; `generation` is the content of
 * `generation_config.json`, whose end tokens take precedence, as they do in transformers.
 */
export function parseConfig(json: JsonObject, source: string, generation?: JsonObject): ModelConfig {
  const fields = new Fields(json, source);
  const { family, architecture } = parseArchitecture(fields);
  refuseCommon(fields);
  if (architecture === "reward") {
    // transformers takes two labels when the file says nothing.
    const labels = fields.get("id2label");
    const count = isJsonObject(labels) ? Object.keys(labels).length : fields.get("num_labels") ?? 2;
    if (count !== 1) {
      throw new Error(
        `Cannot read ${source}: the model has ${
          shortJson(count)
        } labels. Expected a reward model with one ("num_labels": 1).`,
      );
    }
  }
  const vocabSize = fields.integer("vocab_size", 1, 2 ** 21, family === "gpt2" ? 50257 : undefined);
  const generated = new Fields(generation ?? {}, source.replace(/config\.json$/, "generation_config.json"));
  const standard = SPECIAL_IDS[family];
  const ids = (name: string, fallback?: number) => fields.ids(name, vocabSize, fallback);
  const config: ModelConfig = {
    family,
    architecture,
    vocabSize,
    ...(family === "gpt2"
      ? parseGpt2(fields)
      : family === "gpt_neox"
      ? parseGptNeox(fields, source)
      : parseGated(family, fields, source)),
    tied: fields.boolean("tie_word_embeddings", FAMILIES[family].tied),
    eosIds: generated.get("eos_token_id") === undefined
      ? ids("eos_token_id", standard.eos)
      : generated.ids("eos_token_id", vocabSize),
  };
  const bosId = [...ids("bos_token_id", standard.bos), ...generated.ids("bos_token_id", vocabSize)][0];
  const padId = [...ids("pad_token_id", standard.pad), ...generated.ids("pad_token_id", vocabSize)][0];
  const dropout = parseDropout(fields);
  if (dropout > 0) config.dropout = dropout;
  if (bosId !== undefined) config.bosId = bosId;
  if (padId !== undefined) config.padId = padId;
  return config;
}

/** Special tokens of configs that do not name them. */
const SPECIAL_IDS: Record<Family, { bos?: number; eos?: number; pad?: number }> = {
  llama: { bos: 1, eos: 2 },
  mistral: { bos: 1, eos: 2 },
  qwen2: {},
  qwen3: {},
  phi3: { bos: 1, eos: 32000, pad: 32000 },
  gemma: { bos: 2, eos: 1, pad: 0 },
  gemma2: { bos: 2, eos: 1, pad: 0 },
  gpt2: { bos: 50256, eos: 50256 },
  gpt_neox: { bos: 0, eos: 2 },
};

function parseArchitecture(fields: Fields): Pick<ModelConfig, "family" | "architecture"> {
  const families = Object.keys(FAMILIES) as Family[];
  const known = new Map(
    families.flatMap((family) =>
      (["causal", "reward"] as const).map((architecture) =>
        [architectureName(family, architecture), { family, architecture }] as const
      )
    ),
  );
  const names = fields.get("architectures");
  const found = Array.isArray(names) && names.length === 1 ? known.get(names[0]) : undefined;
  if (!found) {
    const all = families.map((family) => architectureName(family, "causal"));
    fields.fail("architectures", `one of ${all.join(", ")}, or the same ending in ForSequenceClassification`);
  }
  fields.refuse("model_type", found.family);
  return found;
}

/** What no family of ours computes. */
function refuseCommon(fields: Fields): void {
  fields.refuse("quantization_config");
  fields.refuse("rope_interleaved", false);
  fields.refuse("use_bidirectional_attention", false);
}

/** The largest dropout that a config asks for; training without it is said, not refused: it is no part of the function. */
function parseDropout(fields: Fields): number {
  const names = ["attention_dropout", "hidden_dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop"];
  return Math.max(...names.map((name) => fields.number(name, 0, 1, 0)));
}

type Shape = Omit<ModelConfig, "family" | "architecture" | "vocabSize" | "tied" | "eosIds">;

/** Widest head: what a workgroup of attention's kernels holds. */
const MOST_HEAD_DIM = 256;

/** Heads and their width, checked. */
function parseHeads(
  fields: Fields,
  source: string,
  { widthName, headsName }: { widthName: string; headsName: string },
): Pick<Shape, "hiddenSize" | "heads" | "kvHeads" | "headDim"> {
  const hiddenSize = fields.integer(widthName, 1, 2 ** 17);
  const heads = fields.integer(headsName, 1, 4096);
  const kvHeads = fields.integer("num_key_value_heads", 1, 4096, heads);
  if (heads % kvHeads !== 0) fields.fail("num_key_value_heads", `a divisor of the ${heads} attention heads`);
  if (fields.get("head_dim") === undefined && hiddenSize % heads !== 0) {
    fields.fail(widthName, `a multiple of the ${heads} attention heads, or "head_dim"`);
  }
  const headDim = fields.integer("head_dim", 2, MOST_HEAD_DIM, hiddenSize / heads);
  if (headDim % 2 !== 0) {
    throw new Error(
      `Cannot read ${source}: the head dimension is ${headDim}. Expected an even number for rotary positions.`,
    );
  }
  return { hiddenSize, heads, kvHeads, headDim };
}

/** The families with a gated feed-forward block. */
function parseGated(family: Family, fields: Fields, source: string): Shape {
  const gemma = family === "gemma" || family === "gemma2";
  const defaults = gemma
    ? { num_key_value_heads: family === "gemma" ? 16 : 4, head_dim: 256 }
    : family === "mistral"
    ? { num_key_value_heads: 8 }
    : {};
  const sizes = parseHeads(fields.or(defaults), source, {
    widthName: "hidden_size",
    headsName: "num_attention_heads",
  });
  const { headDim } = sizes;
  const layers = fields.integer("num_hidden_layers", 1, 1024);
  const biased = family === "llama" || family === "qwen3" || gemma
    ? fields.boolean("attention_bias", false)
    : false;
  if (!biased && family !== "qwen2") fields.refuse("attention_bias", false);
  const { rotaryShare = 1, ...rope } = parseRope(fields, source, { partial: family === "phi3" });
  if (gemma) fields.refuse("hidden_activation", "gelu_pytorch_tanh");
  const window = parseWindow(family, fields, layers);
  const caps = family === "gemma2"
    ? {
      scoreCap: optionalNumber(fields, "attn_logit_softcapping", 50),
      logitCap: optionalNumber(fields, "final_logit_softcapping", 30),
    }
    : {};
  return {
    ...sizes,
    intermediateSize: fields.integer("intermediate_size", 1, 2 ** 20),
    layers,
    normEps: fields.number("rms_norm_eps", 1e-30, 1, family === "phi3" ? 1e-5 : 1e-6),
    activation: gemma
      ? fields.choice(family === "gemma2" ? "hidden_activation" : "hidden_act", {
        gelu_pytorch_tanh: "geglu" as const,
      }, "gelu_pytorch_tanh")
      : fields.choice("hidden_act", { silu: "swiglu" as const }, "silu"),
    biases: {
      qkv: family === "qwen2" || biased,
      out: biased,
      mlp: family === "llama" ? fields.boolean("mlp_bias", false) : false,
    },
    ...rotatedColumns(headDim, rotaryShare, source),
    ...rope,
    ...(window && { window }),
    scoreScale: 1 /
      Math.sqrt(family === "gemma2" ? fields.number("query_pre_attn_scalar", 1e-6, 1e6, 256) : headDim),
    ...(caps.scoreCap !== undefined && { scoreCap: caps.scoreCap }),
    ...(caps.logitCap !== undefined && { logitCap: caps.logitCap }),
    maxPositions: fields.integer("max_position_embeddings", 1, 2 ** 24, MAX_POSITIONS[family]),
  };
}

/** Positions of configs that do not say. */
const MAX_POSITIONS: Partial<Record<Family, number>> = {
  llama: 2048,
  mistral: 131072,
  qwen2: 32768,
  qwen3: 32768,
  phi3: 4096,
  gemma: 8192,
  gemma2: 8192,
};

/** A positive number; null is none, absence is the default. */
function optionalNumber(fields: Fields, name: string, fallback: number): number | undefined {
  if (fields.has(name) && fields.get(name) === undefined) return undefined;
  return fields.number(name, 1e-6, 1e6, fallback);
}

/** Which layers see only the last tokens. */
function parseWindow(family: Family, fields: Fields, layers: number): Shape["window"] {
  const types = parseLayerTypes(fields, layers);
  const uses = family === "qwen2" || family === "qwen3"
    ? fields.boolean("use_sliding_window", false)
    : family === "mistral" || family === "phi3" || family === "gemma2";
  if (!uses) {
    if (types?.includes(true)) fields.fail("layer_types", `"full_attention" in every layer`);
    if (family === "llama" || family === "gemma") fields.refuse("sliding_window");
    return undefined;
  }
  const fallback = fields.has("sliding_window") ? undefined : family === "phi3" ? undefined : 4096;
  if (fields.get("sliding_window") === undefined && fallback === undefined) {
    if (types?.includes(true)) fields.fail("sliding_window", "a number of tokens, as layers slide");
    return undefined;
  }
  const size = fields.integer("sliding_window", 1, 2 ** 24, fallback);
  const from = family === "qwen2" || family === "qwen3"
    ? fields.integer("max_window_layers", 0, 1024, 28)
    : 0;
  const standard = (layer: number) => family === "gemma2" ? layer % 2 === 0 : layer >= from;
  const sliding = types ?? Array.from({ length: layers }, (_, layer) => standard(layer));
  return sliding.includes(true) ? { size, sliding } : undefined;
}

/** `layer_types`, where it is given: true for sliding layers. */
function parseLayerTypes(fields: Fields, layers: number): boolean[] | undefined {
  const types = fields.get("layer_types");
  if (types === undefined) return undefined;
  const known = (type: unknown) => type === "full_attention" || type === "sliding_attention";
  if (!Array.isArray(types) || types.length !== layers || !types.every(known)) {
    fields.fail("layer_types", `"full_attention" or "sliding_attention" for each of ${layers} layers`);
  }
  return types.map((type) => type === "sliding_attention");
}

/** Columns of a head that are rotated when a share of it is. As in transformers an odd number of columns is completed to pairs. */
function rotatedColumns(
  headDim: number,
  share: number,
  source: string,
): Pick<ModelConfig, "rotaryDims" | "rotarySpan"> {
  const span = Math.floor(headDim * share), rotaryDims = span + span % 2;
  if (span > 0) return { rotaryDims, ...(span < rotaryDims && { rotarySpan: span }) };
  throw new Error(
    `Cannot read ${source}: no column of a head's ${headDim} is rotated. Expected one or more.`,
  );
}

interface Rope {
  ropeTheta: number;
  ropeScaling?: RopeScaling;
  /** Share of each head that is rotated, where the config says it. */
  rotaryShare?: number;
}

/** Base, scaling and rotated share, from either spelling. */
function parseRope(fields: Fields, source: string, { partial }: { partial: boolean }): Rope {
  let theta: number | undefined, ropeScaling: RopeScaling | undefined, share: number | undefined;
  for (const name of ["rope_parameters", "rope_scaling"]) {
    const value = fields.get(name);
    if (value === undefined) continue;
    if (!isJsonObject(value)) fields.fail(name, "an object or null");
    const rope = new Fields(value, `${source}, "${name}"`);
    if (rope.get("rope_theta") !== undefined) theta ??= rope.number("rope_theta", 1, 1e12, 1e4);
    share ??= parseShare(rope, partial);
    ropeScaling ??= parseScaling(rope);
  }
  share ??= parseShare(fields, partial);
  const plain = fields.number("rope_theta", 1, 1e12, theta ?? 1e4);
  if (theta !== undefined && plain !== theta) {
    fields.fail("rope_theta", `${theta}, as in "rope_parameters"`);
  }
  return {
    ropeTheta: plain,
    ...(share !== undefined && { rotaryShare: share }),
    ...(ropeScaling && { ropeScaling }),
  };
}

function parseShare(fields: Fields, partial: boolean): number | undefined {
  if (!partial) fields.refuse("partial_rotary_factor", 1);
  if (fields.get("partial_rotary_factor") === undefined) return undefined;
  return fields.number("partial_rotary_factor", 0.01, 1);
}

function parseScaling(rope: Fields): RopeScaling | undefined {
  const name = rope.get("rope_type") === undefined ? "type" : "rope_type";
  const type = rope.choice(
    name,
    { default: "default", linear: "linear", dynamic: "dynamic", llama3: "llama3" } as const,
    "default",
  );
  if (type === "default") return undefined;
  const factor = rope.number("factor", 1, 1e6);
  if (type !== "llama3") return { type, factor };
  return {
    type,
    factor,
    lowFreqFactor: rope.number("low_freq_factor", 1e-6, 1e6),
    highFreqFactor: rope.number("high_freq_factor", 1e-6, 1e6),
    originalMaxPositions: rope.integer("original_max_position_embeddings", 1, 2 ** 24),
  };
}

const GELUS = { gelu: "gelu_erf", gelu_new: "gelu", gelu_pytorch_tanh: "gelu" } as const;

function parseGpt2(fields: Fields): Shape {
  fields.refuse("scale_attn_weights", true);
  fields.refuse("scale_attn_by_inverse_layer_idx", false);
  fields.refuse("add_cross_attention", false);
  const hiddenSize = fields.integer("n_embd", 1, 2 ** 17, 768);
  const heads = fields.integer("n_head", 1, 4096, 12);
  if (hiddenSize % heads !== 0) fields.fail("n_embd", `a multiple of the ${heads} attention heads`);
  if (hiddenSize / heads > MOST_HEAD_DIM) {
    fields.fail("n_embd", `at most ${MOST_HEAD_DIM} columns for each of ${heads} heads`);
  }
  return {
    hiddenSize,
    heads,
    kvHeads: heads,
    headDim: hiddenSize / heads,
    layers: fields.integer("n_layer", 1, 1024, 12),
    intermediateSize: fields.integer("n_inner", 1, 2 ** 20, 4 * hiddenSize),
    normEps: fields.number("layer_norm_epsilon", 1e-30, 1, 1e-5),
    activation: fields.choice("activation_function", GELUS, "gelu_new"),
    biases: { qkv: true, out: true, mlp: true },
    rotaryDims: 0,
    ropeTheta: 10000,
    scoreScale: 1 / Math.sqrt(hiddenSize / heads),
    maxPositions: fields.integer("n_positions", 1, 2 ** 24, 1024),
  };
}

function parseGptNeox(fields: Fields, source: string): Shape {
  const sizes = parseHeads(fields, source, { widthName: "hidden_size", headsName: "num_attention_heads" });
  if (sizes.kvHeads !== sizes.heads) fields.fail("num_key_value_heads", `${sizes.heads} or null`);
  const biased = fields.boolean("attention_bias", true);
  const { rotaryShare, ropeTheta, ropeScaling } = parseRope(fields, source, { partial: true });
  const share = fields.number("rotary_pct", 0.01, 1, rotaryShare ?? 0.25);
  return {
    ...sizes,
    layers: fields.integer("num_hidden_layers", 1, 1024),
    intermediateSize: fields.integer("intermediate_size", 1, 2 ** 20),
    normEps: fields.number("layer_norm_eps", 1e-30, 1, 1e-5),
    activation: fields.choice("hidden_act", GELUS, "gelu"),
    biases: { qkv: biased, out: biased, mlp: true },
    ...rotatedColumns(sizes.headDim, share, source),
    ropeTheta: fields.number("rotary_emb_base", 1, 1e12, ropeTheta),
    ...(ropeScaling && { ropeScaling }),
    scoreScale: 1 / Math.sqrt(sizes.headDim),
    ...(fields.boolean("use_parallel_residual", true) && { parallelResidual: true }),
    maxPositions: fields.integer("max_position_embeddings", 1, 2 ** 24, 2048),
  };
}
