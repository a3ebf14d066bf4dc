/**
 * The metadata of a GGUF file as the objects of Hugging Face's `config.json` and `generation_config.json`.
 *
 * Every key of the architecture is either read or known to change nothing; what cannot be said in a config is refused by name.
 *
 * @module
 */

import { dequantize } from "./ggml_types.ts";
import type { GgufFile, GgufValue } from "./gguf.ts";
import { GGUF_ARCHITECTURES, type GgufArchitecture } from "./gguf_names.ts";
import { fitRopeFactors, ROPE_FACTORS } from "./gguf_rope.ts";
import type { JsonObject } from "./json_file.ts";

/** Keys of an architecture that change nothing about what is computed here. */
const HARMLESS = [
  "vocab_size",
  "rope.scaling.finetuned",
  "rope.scaling.original_context_length",
  "tensor_data_layout",
  "expert_used_count",
  "pooling_type",
  "classifier.output_labels",
];

/** The shortest decimal of a float32, so that 0.00001 is read as it was written. */
function shortest(value: number): number {
  if (Math.fround(value) !== value) return value;
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return value;
}

/** Reads keys of one architecture; each error names file and key. */
class Keys {
  #read = new Set<string>();

  constructor(private file: GgufFile, readonly architecture: string) {}

  /** The value under the architecture's prefix. */
  get(name: string): GgufValue | undefined {
    this.#read.add(name);
    return this.file.metadata.get(`${this.architecture}.${name}`);
  }

  fail(name: string, expected: string): never {
    const value = this.get(name);
    const got = value === undefined ? "missing" : typeof value === "object" ? "a list" : `${value}`;
    throw new Error(
      `Cannot read ${this.file.source}: "${this.architecture}.${name}" is ${got}. Expected ${expected}.`,
    );
  }

  /** A whole number in a range; a list where all layers have the same. Without `fallback` it is required. */
  integer(name: string, max: number, fallback?: number, min = 1): number {
    const stored = this.get(name);
    const list = typeof stored === "object" && stored.length > 0
      ? Array.from(stored as ArrayLike<unknown>)
      : [];
    const same = list.length > 0 && list.every((one) => one === list[0]);
    const value = stored === undefined ? fallback : same ? list[0] : stored;
    if (typeof value !== "number" || !Number.isInteger(value) || value < min || value > max) {
      this.fail(name, `a whole number from ${min} to ${max}, the same for all layers`);
    }
    return value;
  }

  number(name: string, fallback?: number): number {
    const value = this.get(name) ?? fallback;
    if (typeof value !== "number" || !(value > 0 && value < 1e12)) this.fail(name, "a number above 0");
    return shortest(value);
  }

  boolean(name: string, fallback: boolean): boolean {
    const value = this.get(name) ?? fallback;
    if (typeof value !== "boolean") this.fail(name, "true or false");
    return value;
  }

  /** Refuses a feature: the key must be absent or one of the values that mean "off". */
  refuse(name: string, ...off: GgufValue[]): void {
    const value = this.get(name);
    if (value !== undefined && !off.includes(value)) this.fail(name, `${off.join(" or ")}`);
  }

  /** Refuses keys that nothing has asked for: they would change the model. */
  refuseOthers(): void {
    const prefix = `${this.architecture}.`;
    for (const key of this.file.metadata.keys()) {
      const name = key.slice(prefix.length);
      if (!key.startsWith(prefix) || this.#read.has(name) || HARMLESS.includes(name)) continue;
      throw new Error(
        `Cannot read ${this.file.source}: "${key}" is in its metadata, and what it changes about the model is not known.`,
      );
    }
  }
}

/** The architecture of a file, if it is one that is understood. */
export function ggufArchitecture({ source, metadata }: GgufFile): GgufArchitecture {
  const name = metadata.get("general.architecture");
  const found = GGUF_ARCHITECTURES.find((one) => one === name);
  if (found === undefined) {
    throw new Error(
      `Cannot read ${source}: "general.architecture" is ${
        JSON.stringify(name) ?? "missing"
      }. Expected one of ${GGUF_ARCHITECTURES.join(", ")}.`,
    );
  }
  return found;
}

/** The config and the generation config of a file. */
export function ggufConfig(file: GgufFile): { config: JsonObject; generation: JsonObject } {
  const architecture = ggufArchitecture(file);
  const keys = new Keys(file, architecture);
  keys.refuse("expert_count", 0);
  keys.refuse("attention.causal", true);
  const vocabSize = file.tensors.get("token_embd.weight")?.shape[0];
  if (vocabSize === undefined) {
    throw new Error(
      `Cannot read ${file.source}: it has no tensor "token_embd.weight". Expected a whole model.`,
    );
  }
  const generation = specialTokens(file, vocabSize);
  const config = {
    ...describe(keys, file, architecture),
    tie_word_embeddings: !file.tensors.has("output.weight") && !file.tensors.has("cls.output.weight"),
    vocab_size: vocabSize,
    bos_token_id: generation.bos_token_id ?? null,
    eos_token_id: generation.eos_token_id ?? null,
    pad_token_id: generation.pad_token_id ?? null,
  };
  keys.refuseOthers();
  return { config, generation };
}

/** The ids that texts begin and end with; a turn's and a message's end also end a generation. */
function specialTokens(file: GgufFile, vocabSize: number): JsonObject {
  const id = (name: string): number[] => {
    const key = `tokenizer.ggml.${name}_token_id`;
    const value = file.metadata.get(key);
    if (value === undefined) return [];
    if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value >= vocabSize) {
      throw new Error(
        `Cannot read ${file.source}: "${key}" is ${value}. Expected a token id below the vocabulary size ${vocabSize}.`,
      );
    }
    return [value];
  };
  const [bos] = id("bos"), [pad] = id("padding");
  const eos = [...new Set([...id("eos"), ...id("eot"), ...id("eom")])];
  return {
    ...(bos !== undefined && { bos_token_id: bos }),
    ...(eos.length > 0 && { eos_token_id: eos.length > 1 ? eos : eos[0] }),
    ...(pad !== undefined && { pad_token_id: pad }),
  };
}

function describe(keys: Keys, file: GgufFile, architecture: GgufArchitecture): JsonObject {
  const hiddenSize = keys.integer("embedding_length", 2 ** 17);
  const heads = keys.integer("attention.head_count", 4096);
  const layers = keys.integer("block_count", 1024);
  const intermediateSize = keys.integer("feed_forward_length", 2 ** 20);
  const maxPositions = keys.integer("context_length", 2 ** 24);
  if (architecture === "gpt2") {
    return {
      architectures: ["GPT2LMHeadModel"],
      model_type: "gpt2",
      activation_function: "gelu_new",
      layer_norm_epsilon: keys.number("attention.layer_norm_epsilon"),
      n_embd: hiddenSize,
      n_head: heads,
      n_inner: intermediateSize === 4 * hiddenSize ? null : intermediateSize,
      n_layer: layers,
      n_positions: maxPositions,
    };
  }
  const rotated = keys.get("rope.dimension_count") === undefined
    ? undefined
    : keys.integer("rope.dimension_count", 1024);
  const headDim = keys.integer(
    "attention.key_length",
    1024,
    architecture === "llama" && rotated !== undefined ? rotated : hiddenSize / heads,
  );
  keys.refuse("attention.value_length", headDim);
  const common = {
    hidden_size: hiddenSize,
    intermediate_size: intermediateSize,
    max_position_embeddings: maxPositions,
    num_attention_heads: heads,
    num_hidden_layers: layers,
  };
  if (architecture === "gptneox") {
    return {
      architectures: ["GPTNeoXForCausalLM"],
      model_type: "gpt_neox",
      ...common,
      attention_bias: true,
      hidden_act: "gelu",
      layer_norm_eps: keys.number("attention.layer_norm_epsilon"),
      rotary_emb_base: keys.number("rope.freq_base", 1e4),
      rotary_pct: (rotated ?? headDim) / headDim,
      ...describeRope(keys, file, headDim, (rotated ?? headDim) / headDim),
      use_parallel_residual: keys.boolean("use_parallel_residual", true),
    };
  }
  const share = architecture === "phi3" ? (rotated ?? headDim) / headDim : 1;
  if (architecture !== "phi3" && rotated !== undefined && rotated !== headDim) {
    keys.fail("rope.dimension_count", `${headDim}, the size of a head`);
  }
  return {
    ...common,
    num_key_value_heads: keys.integer("attention.head_count_kv", 4096, heads),
    rms_norm_eps: keys.number("attention.layer_norm_rms_epsilon"),
    head_dim: headDim,
    hidden_act: architecture.startsWith("gemma") ? "gelu_pytorch_tanh" : "silu",
    ...describeRope(keys, file, headDim, share),
    ...describeFamily(keys, file, architecture, { headDim, hiddenSize, heads, layers }),
  };
}

/** Rotary embedding in both spellings, as {@linkcode configJson} writes them. */
function describeRope(keys: Keys, file: GgufFile, headDim: number, share: number): JsonObject {
  const theta = keys.number("rope.freq_base", 1e4);
  const type = keys.get("rope.scaling.type") ?? "none";
  if (type !== "none" && type !== "linear") {
    keys.fail("rope.scaling.type", "none or linear; others cannot be expressed");
  }
  keys.refuse("rope.scaling.attn_factor", 1);
  const factor = keys.get("rope.scaling.factor") === undefined
    ? keys.number("rope.scale_linear", 1)
    : keys.number("rope.scaling.factor");
  for (const name of ["rope_factors_long.weight", "rope_factors_short.weight"]) {
    if (file.tensors.has(name)) {
      throw new Error(
        `Cannot read ${file.source}: it has "${name}", the factors of longrope scaling. Expected a model without.`,
      );
    }
  }
  let scaling: JsonObject = { rope_type: "default" };
  if (type === "linear" && factor !== 1) scaling = { rope_type: "linear", factor };
  if (file.tensors.has(ROPE_FACTORS)) {
    const stored = dequantize(file.tensors.get(ROPE_FACTORS)!.type, file.readBlocks(ROPE_FACTORS));
    const context = file.metadata.get(`${keys.architecture}.rope.scaling.original_context_length`);
    const rope = fitRopeFactors(stored, theta, headDim, typeof context === "number" ? context : undefined);
    if (rope === undefined || scaling.rope_type !== "default") {
      throw new Error(
        `Cannot read ${file.source}: "${ROPE_FACTORS}" is not what Llama 3's scaling of rotary frequencies gives. Expected that, or no such tensor.`,
      );
    }
    if (rope.factor !== 1) scaling = { rope_type: "llama3", ...rope };
  }
  const partial = share === 1 ? {} : { partial_rotary_factor: share };
  return {
    rope_parameters: { rope_theta: theta, ...partial, ...scaling },
    ...(scaling.rope_type !== "default" && { rope_scaling: scaling }),
    rope_theta: theta,
    ...partial,
  };
}

function describeFamily(
  keys: Keys,
  { tensors, metadata }: GgufFile,
  architecture: Exclude<GgufArchitecture, "gpt2" | "gptneox">,
  { headDim, hiddenSize, heads, layers }: Record<"headDim" | "hiddenSize" | "heads" | "layers", number>,
): JsonObject {
  const named = (name: string, type: string) => ({
    architectures: [
      `${name}${tensors.has("cls.output.weight") ? "ForSequenceClassification" : "ForCausalLM"}`,
    ],
    model_type: type,
    ...(tensors.has("cls.output.weight") && { id2label: { "0": "LABEL_0" }, label2id: { LABEL_0: 0 } }),
  });
  const bias = tensors.has("blk.0.attn_q.bias");
  const window = keys.get("attention.sliding_window");
  const sliding = window === undefined || window === 0
    ? null
    : keys.integer("attention.sliding_window", 2 ** 24);
  switch (architecture) {
    case "llama":
      // Mistral's models say "llama"; without a window they are.
      if (sliding !== null) return { ...named("Mistral", "mistral"), sliding_window: sliding };
      return {
        ...named("Llama", "llama"),
        attention_bias: bias,
        mlp_bias: tensors.has("blk.0.ffn_up.bias"),
      };
    case "qwen2":
      keys.refuse("attention.sliding_window", 0);
      return { ...named("Qwen2", "qwen2"), sliding_window: null, use_sliding_window: false };
    case "qwen3":
      keys.refuse("attention.sliding_window", 0);
      return {
        ...named("Qwen3", "qwen3"),
        attention_bias: bias,
        sliding_window: null,
        use_sliding_window: false,
      };
    case "phi3":
      return {
        ...named("Phi3", "phi3"),
        original_max_position_embeddings: metadata.get("phi3.rope.scaling.original_context_length") ??
          metadata.get("phi3.context_length"),
        sliding_window: sliding,
      };
    case "gemma":
      keys.refuse("attention.sliding_window", 0);
      return { ...named("Gemma", "gemma"), hidden_activation: "gelu_pytorch_tanh", attention_bias: bias };
    case "gemma2": {
      // Files do not say it; the model of 46 layers is the only one of Google's where it is not the size of a head.
      const divisor = layers === 46 ? hiddenSize / heads : headDim;
      const scale = keys.number("attention.scale", divisor ** -0.5);
      return {
        ...named("Gemma2", "gemma2"),
        hidden_activation: "gelu_pytorch_tanh",
        attention_bias: bias,
        attn_logit_softcapping: keys.number("attn_logit_softcapping", 50),
        final_logit_softcapping: keys.number("final_logit_softcapping", 30),
        // The scale was rounded to float32, the scalar is a short number.
        query_pre_attn_scalar: Math.round(1e4 / scale ** 2) / 1e4,
        sliding_window: sliding ?? 4096,
        layer_types: Array.from(
          { length: layers },
          (_, i) => i % 2 === 0 ? "sliding_attention" : "full_attention",
        ),
      };
    }
  }
}
