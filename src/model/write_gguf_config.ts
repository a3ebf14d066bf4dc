/**
 * Hugging Face's config of a model as the metadata of a GGUF file.
 *
 * @module
 */

import type { GgufArchitecture, Naming } from "./gguf_names.ts";
import { type Llama3Rope, ropeFactors } from "./gguf_rope.ts";
import { isJsonObject, type JsonObject } from "./json_file.ts";

/** A value to be written, by its type in the file. */
export type GgufEntry =
  | { type: "u32" | "f32"; value: number }
  | { type: "bool"; value: boolean }
  | { type: "string"; value: string }
  | { type: "strings"; value: string[] }
  | { type: "i32s" | "f32s"; value: number[] };

/** A whole number. */
export const u32 = (value: number): GgufEntry => ({ type: "u32", value });
/** A float. */
export const f32 = (value: number): GgufEntry => ({ type: "f32", value });
/** A text. */
export const text = (value: string): GgufEntry => ({ type: "string", value });
/** A boolean. */
export const bool = (value: boolean): GgufEntry => ({ type: "bool", value });

/** What a config becomes. */
export interface DescribedModel {
  /** What names and orders of tensors depend on. */
  naming: Naming;
  /** Entries by key. */
  metadata: Map<string, GgufEntry>;
  /** Divisors of the rotary frequencies, where Llama 3's scaling asks for them. */
  ropeFactors?: Float32Array;
  /** Rows of the embedding. */
  vocabSize: number;
  /** Whether the head is the embedding and not stored again. */
  tied: boolean;
  /** What other readers of the file will not take from it, as sentences. */
  notes: string[];
}

/** Reads fields of a config; each error names the file to be written and the field. */
class ConfigFields {
  constructor(private json: JsonObject, private path: string) {}

  get(name: string): unknown {
    return this.json[name] ?? undefined;
  }

  fail(name: string, expected: string): never {
    const got = JSON.stringify(this.json[name]) ?? "missing";
    throw new Error(`Cannot write ${this.path}: "${name}" of the config is ${got}. Expected ${expected}.`);
  }

  number(name: string, fallback?: number): number {
    const value = this.get(name) ?? fallback;
    if (typeof value !== "number" || !(value > 0)) this.fail(name, "a number above 0");
    return value;
  }

  integer(name: string, fallback?: number): number {
    const value = this.number(name, fallback);
    if (!Number.isInteger(value) || value >= 2 ** 31) this.fail(name, "a whole number");
    return value;
  }

  /** Refuses what a GGUF file cannot say. */
  only(name: string, ...values: unknown[]): void {
    const value = this.get(name);
    if (value !== undefined && !values.includes(value)) {
      this.fail(
        name,
        `${values.map((one) => JSON.stringify(one)).join(" or ")}; a GGUF file cannot say others`,
      );
    }
  }
}

const ARCHITECTURES: Record<string, GgufArchitecture> = {
  llama: "llama",
  mistral: "llama",
  qwen2: "qwen2",
  qwen3: "qwen3",
  gemma: "gemma",
  gemma2: "gemma2",
  phi3: "phi3",
  gpt2: "gpt2",
  gpt_neox: "gptneox",
};

/** The metadata of a config, without the tokenizer's. `path` names the file in errors. */
export function describeGguf(config: JsonObject, path: string): DescribedModel {
  const fields: ConfigFields = new ConfigFields(config, path);
  const type = String(fields.get("model_type"));
  if (!Object.hasOwn(ARCHITECTURES, type)) {
    fields.fail("model_type", `one of ${Object.keys(ARCHITECTURES).join(", ")}`);
  }
  const architecture = ARCHITECTURES[type];
  const gpt2 = architecture === "gpt2";
  const heads = fields.integer(gpt2 ? "n_head" : "num_attention_heads");
  const kvHeads = gpt2 ? heads : fields.integer("num_key_value_heads", heads);
  const hiddenSize = fields.integer(gpt2 ? "n_embd" : "hidden_size");
  const vocabSize = fields.integer("vocab_size");
  const reward = String(fields.get("architectures")).endsWith("ForSequenceClassification");
  const notes: string[] = [];
  const own = new Map<string, GgufEntry>([
    ["context_length", u32(fields.integer(gpt2 ? "n_positions" : "max_position_embeddings"))],
    ["embedding_length", u32(hiddenSize)],
    ["block_count", u32(fields.integer(gpt2 ? "n_layer" : "num_hidden_layers"))],
    [
      "feed_forward_length",
      u32(gpt2 ? fields.integer("n_inner", 4 * hiddenSize) : fields.integer("intermediate_size")),
    ],
    ["attention.head_count", u32(heads)],
    ["vocab_size", u32(vocabSize)],
  ]);
  let factors: Float32Array | undefined;
  if (gpt2) {
    fields.only("activation_function", "gelu_new");
    fields.only("scale_attn_weights", true);
    fields.only("scale_attn_by_inverse_layer_idx", false);
    own.set("attention.layer_norm_epsilon", f32(fields.number("layer_norm_epsilon", 1e-5)));
  } else {
    const headDim = fields.integer("head_dim", hiddenSize / heads);
    factors = describeRope(fields, architecture, headDim, own);
    if (architecture === "gptneox") {
      fields.only("hidden_act", "gelu");
      fields.only("attention_bias", true);
      own.set("attention.layer_norm_epsilon", f32(fields.number("layer_norm_eps", 1e-5)));
      own.set("use_parallel_residual", bool(fields.get("use_parallel_residual") !== false));
    } else {
      own.set("attention.head_count_kv", u32(kvHeads));
      own.set("attention.layer_norm_rms_epsilon", f32(fields.number("rms_norm_eps", 1e-6)));
      own.set("attention.key_length", u32(headDim));
      own.set("attention.value_length", u32(headDim));
      describeFamily(fields, architecture, type, { headDim, heads, hiddenSize }, own, notes);
    }
  }
  if (reward) {
    const labels = fields.get("id2label");
    if (!isJsonObject(labels) || Object.keys(labels).length !== 1) fields.fail("id2label", "one label");
    // As files of rerankers have it: 4 is the kind of pooling that ranks.
    own.set("pooling_type", u32(4));
    own.set("classifier.output_labels", { type: "strings", value: Object.values(labels).map(String) });
    notes.push("Other readers may refuse the head of a reward model.");
  }
  const tied = fields.get("tie_word_embeddings") ?? (gpt2 || architecture.startsWith("gemma"));
  return {
    naming: { architecture, heads, kvHeads },
    metadata: new Map<string, GgufEntry>([
      ["general.architecture", text(architecture)],
      ["general.type", text("model")],
      ...[...own].map(([key, entry]): [string, GgufEntry] => [`${architecture}.${key}`, entry]),
    ]),
    ...(factors && { ropeFactors: factors }),
    vocabSize,
    tied: tied === true,
    notes,
  };
}

/** The rotary embedding's keys, from either spelling; returns Llama 3's divisors. */
function describeRope(
  fields: ConfigFields,
  architecture: GgufArchitecture,
  headDim: number,
  own: Map<string, GgufEntry>,
): Float32Array | undefined {
  const object = (name: string): JsonObject => {
    const value = fields.get(name) ?? {};
    return isJsonObject(value) ? value : fields.fail(name, "an object or null");
  };
  const rope: JsonObject = { ...object("rope_scaling"), ...object("rope_parameters") };
  const theta = Number(rope.rope_theta ?? fields.get("rope_theta") ?? fields.get("rotary_emb_base") ?? 1e4);
  const share = Number(
    rope.partial_rotary_factor ?? fields.get("partial_rotary_factor") ?? fields.get("rotary_pct") ??
      (architecture === "gptneox" ? 0.25 : 1),
  );
  if (!(theta > 0)) fields.fail("rope_theta", "a number above 0");
  if (share !== 1 && architecture !== "gptneox" && architecture !== "phi3") {
    fields.fail("partial_rotary_factor", "1");
  }
  own.set("rope.freq_base", f32(theta));
  own.set("rope.dimension_count", u32(Math.floor(share * headDim)));
  const type = rope.rope_type ?? rope.type ?? "default";
  if (type === "default") return undefined;
  const name = fields.get("rope_parameters") === undefined ? "rope_scaling" : "rope_parameters";
  if (type === "linear" && typeof rope.factor === "number") {
    own.set("rope.scaling.type", text("linear"));
    own.set("rope.scaling.factor", f32(rope.factor));
    return undefined;
  }
  const values: unknown[] = [
    rope.factor,
    rope.low_freq_factor,
    rope.high_freq_factor,
    rope.original_max_position_embeddings,
  ];
  if (type !== "llama3" || !values.every((value) => typeof value === "number" && value > 0)) {
    fields.fail(name, "scaling of type default, linear or llama3 with its parameters");
  }
  own.set("rope.scaling.original_context_length", u32(rope.original_max_position_embeddings as number));
  return ropeFactors(theta, headDim, rope as unknown as Llama3Rope);
}

function describeFamily(
  fields: ConfigFields,
  architecture: Exclude<GgufArchitecture, "gpt2" | "gptneox">,
  type: string,
  { headDim, heads, hiddenSize }: Record<"headDim" | "heads" | "hiddenSize", number>,
  own: Map<string, GgufEntry>,
  notes: string[],
): void {
  const window = fields.get("sliding_window") === undefined ? undefined : fields.integer("sliding_window");
  if (architecture.startsWith("gemma")) {
    // Gemma's first configs say "gelu" and mean its approximation.
    fields.only("hidden_activation", "gelu_pytorch_tanh");
    fields.only("hidden_act", "gelu_pytorch_tanh", "gelu");
  } else fields.only("hidden_act", "silu");
  if (architecture === "qwen2" || architecture === "qwen3") fields.only("use_sliding_window", false);
  if (architecture === "phi3") {
    const context = fields.integer(
      "original_max_position_embeddings",
      fields.integer("max_position_embeddings"),
    );
    own.set("rope.scaling.original_context_length", u32(context));
    own.set("attention.sliding_window", u32(window ?? 0));
  }
  if (type === "mistral" && window !== undefined) {
    own.set("attention.sliding_window", u32(window));
    notes.push(`Other readers may attend beyond the sliding window of ${window} tokens.`);
  }
  if (architecture === "gemma2") {
    own.set("attn_logit_softcapping", f32(fields.number("attn_logit_softcapping", 50)));
    own.set("final_logit_softcapping", f32(fields.number("final_logit_softcapping", 30)));
    own.set("attention.sliding_window", u32(fields.integer("sliding_window", 4096)));
    const scalar = fields.number("query_pre_attn_scalar", 256);
    const usual = fields.integer("num_hidden_layers") === 46 ? hiddenSize / heads : headDim;
    if (scalar !== usual) {
      own.set("attention.scale", f32(scalar ** -0.5));
      notes.push(`Other readers may divide by the root of ${usual} in attention instead of ${scalar}.`);
    }
  }
}
