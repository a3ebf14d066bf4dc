/**
 * Writing a `config.json` that transformers 4 and 5 load as the same model.
 *
 * @module
 */
import type { ModelConfig, RopeScaling } from "./config.ts";
import { architectureName } from "./families.ts";
import type { JsonObject } from "./json_file.ts";

/** How a model's floats are stored in its file. */
export type StorageName = "F32" | "F16" | "BF16";

const TORCH_NAMES: Record<StorageName, string> = { F32: "float32", F16: "float16", BF16: "bfloat16" };

/** The content of a `config.json`. */
export function configJson(config: ModelConfig, storage: StorageName = "F32"): JsonObject {
  const { family, architecture, eosIds } = config;
  return {
    architectures: [architectureName(family, architecture)],
    model_type: family,
    bos_token_id: config.bosId ?? null,
    eos_token_id: eosIds.length > 1 ? eosIds : eosIds[0] ?? null,
    pad_token_id: config.padId ?? null,
    ...(architecture === "reward" && { id2label: { "0": "LABEL_0" }, label2id: { LABEL_0: 0 } }),
    initializer_range: 0.02,
    tie_word_embeddings: config.tied,
    torch_dtype: TORCH_NAMES[storage],
    use_cache: true,
    vocab_size: config.vocabSize,
    ...(family === "gpt2" ? gpt2Fields(config) : commonFields(config)),
  };
}

function gpt2Fields(config: ModelConfig): JsonObject {
  return {
    n_embd: config.hiddenSize,
    n_layer: config.layers,
    n_head: config.heads,
    n_inner: config.intermediateSize,
    n_positions: config.maxPositions,
    layer_norm_epsilon: config.normEps,
    activation_function: config.activation === "gelu" ? "gelu_new" : "gelu",
    attn_pdrop: 0,
    embd_pdrop: 0,
    resid_pdrop: 0,
    scale_attn_weights: true,
    scale_attn_by_inverse_layer_idx: false,
  };
}

function commonFields(config: ModelConfig): JsonObject {
  const { family } = config;
  return {
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    max_position_embeddings: config.maxPositions,
    num_attention_heads: config.heads,
    num_hidden_layers: config.layers,
    attention_dropout: 0,
    ...ropeFields(config),
    ...(family === "gpt_neox" ? neoxFields(config) : gatedFields(config)),
  };
}

function neoxFields(config: ModelConfig): JsonObject {
  return {
    attention_bias: config.biases.qkv,
    hidden_act: config.activation === "gelu" ? "gelu_new" : "gelu",
    hidden_dropout: 0,
    layer_norm_eps: config.normEps,
    rotary_pct: (config.rotarySpan ?? config.rotaryDims) / config.headDim,
    rotary_emb_base: config.ropeTheta,
    use_parallel_residual: config.parallelResidual ?? false,
  };
}

function gatedFields(config: ModelConfig): JsonObject {
  const { family, window, biases, headDim, rotaryDims, rotarySpan } = config;
  const layerTypes = Array.from(
    { length: config.layers },
    (_, i) => window?.sliding[i] ? "sliding_attention" : "full_attention",
  );
  return {
    num_key_value_heads: config.kvHeads,
    rms_norm_eps: config.normEps,
    // Phi-3 knows no such field: its heads are always hidden size by heads.
    ...(family !== "phi3" && { head_dim: headDim }),
    ...(family === "gemma2"
      ? { hidden_activation: "gelu_pytorch_tanh" }
      : { hidden_act: config.activation === "geglu" ? "gelu_pytorch_tanh" : "silu" }),
    ...(["llama", "qwen3", "gemma", "gemma2"].includes(family) && { attention_bias: biases.out }),
    ...(family === "llama" && { mlp_bias: biases.mlp }),
    ...(family === "phi3" && {
      partial_rotary_factor: (rotarySpan ?? rotaryDims) / headDim,
      original_max_position_embeddings: config.maxPositions,
    }),
    ...(["mistral", "phi3", "gemma2", "qwen2", "qwen3"].includes(family) && {
      sliding_window: window?.size ?? null,
    }),
    ...(["qwen2", "qwen3"].includes(family) && {
      use_sliding_window: window !== undefined,
      max_window_layers: window ? window.sliding.indexOf(true) : config.layers,
      layer_types: layerTypes,
    }),
    ...(family === "gemma2" && {
      layer_types: layerTypes,
      query_pre_attn_scalar: Math.round(1 / config.scoreScale ** 2 * 1e6) / 1e6,
      attn_logit_softcapping: config.scoreCap ?? null,
      final_logit_softcapping: config.logitCap ?? null,
    }),
  };
}

/** RoPE in both spellings, because version 4 takes 10000 when `rope_theta` is absent. */
function ropeFields(config: ModelConfig): JsonObject {
  const { ropeTheta, ropeScaling, rotaryDims, rotarySpan, headDim } = config;
  const scaling = ropeScaling ? scalingFields(ropeScaling) : { rope_type: "default" };
  const share = rotaryDims < headDim ? { partial_rotary_factor: (rotarySpan ?? rotaryDims) / headDim } : {};
  return {
    rope_parameters: { rope_theta: ropeTheta, ...share, ...scaling },
    ...(ropeScaling && { rope_scaling: scaling }),
    rope_theta: ropeTheta,
  };
}

function scalingFields(scaling: RopeScaling): JsonObject {
  if (scaling.type !== "llama3") return { rope_type: scaling.type, factor: scaling.factor };
  return {
    rope_type: "llama3",
    factor: scaling.factor,
    low_freq_factor: scaling.lowFreqFactor,
    high_freq_factor: scaling.highFreqFactor,
    original_max_position_embeddings: scaling.originalMaxPositions,
  };
}
