/** Configs of every family in both spellings, what they mean, and what of their like is refused. */
import type { ModelConfig } from "../../src/model/config.ts";
import type { Family } from "../../src/model/families.ts";
import type { JsonObject } from "../../src/model/json_file.ts";

const SIZES = {
  vocab_size: 300,
  hidden_size: 48,
  intermediate_size: 100,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  max_position_embeddings: 128,
  bos_token_id: 1,
  eos_token_id: 2,
};
const GROUPED = { ...SIZES, num_key_value_heads: 2, rms_norm_eps: 1e-6 };

/** A family's config as transformers 5 writes it, as earlier versions did, and some of what both mean. */
export interface FamilyConfigs {
  now: JsonObject;
  before: JsonObject;
  means: Partial<ModelConfig>;
  /** Changes that make it another model than keel computes, and what the message says. */
  refused: [change: JsonObject, message: RegExp][];
}

const named = (className: string, model_type: Family) => ({
  architectures: [`${className}ForCausalLM`],
  model_type,
});
const NO_BIAS = { qkv: false, out: false, mlp: false }, ALL_BIAS = { qkv: true, out: true, mlp: true };
const FULL = "full_attention", SLIDING = "sliding_attention";
const LLAMA3 = {
  rope_type: "llama3",
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 32,
};

/** What no family with a gated feed-forward block computes. */
const GATED_REFUSED: FamilyConfigs["refused"] = [
  [{ rope_scaling: { rope_type: "yarn", factor: 4 } }, /"rope_scaling": "rope_type" is "yarn"/],
  [{ rope_parameters: { rope_type: "longrope" } }, /"rope_parameters": "rope_type" is "longrope"/],
  [{ quantization_config: { bits: 4 } }, /"quantization_config" is/],
  [{ model_type: "mixtral" }, /"model_type" is "mixtral"/],
  [{ head_dim: 512 }, /"head_dim" is 512\. Expected a whole number from 2 to 256/],
  [{ layer_types: [FULL] }, /"layer_types" is .* for each of 3 layers/],
  [{ layer_types: [FULL, FULL, "linear_attention"] }, /"layer_types"/],
];

/** By family. */
export const CASES: Record<Family, FamilyConfigs> = {
  llama: {
    now: {
      ...named("Llama", "llama"),
      ...GROUPED,
      attention_bias: true,
      mlp_bias: true,
      rope_parameters: { rope_theta: 5e5, ...LLAMA3 },
    },
    before: {
      ...named("Llama", "llama"),
      ...GROUPED,
      attention_bias: true,
      mlp_bias: true,
      rope_theta: 5e5,
      rope_scaling: LLAMA3,
      pretraining_tp: 1,
    },
    means: {
      biases: ALL_BIAS,
      ropeTheta: 5e5,
      activation: "swiglu",
      ropeScaling: {
        type: "llama3",
        factor: 8,
        lowFreqFactor: 1,
        highFreqFactor: 4,
        originalMaxPositions: 32,
      },
    },
    refused: [
      ...GATED_REFUSED,
      [{ hidden_act: "gelu" }, /"hidden_act" is "gelu"\. Expected "silu"/],
      [{ sliding_window: 8 }, /"sliding_window" is 8/],
      [{ layer_types: [SLIDING, FULL, FULL] }, /"layer_types" .*in every layer/],
      [{ partial_rotary_factor: 0.5 }, /"partial_rotary_factor" is 0\.5/],
      [{ rope_interleaved: true }, /"rope_interleaved" is true/],
    ],
  },
  mistral: {
    now: {
      ...named("Mistral", "mistral"),
      ...GROUPED,
      sliding_window: 7,
      rope_parameters: { rope_type: "default", rope_theta: 1e6 },
    },
    before: { ...named("Mistral", "mistral"), ...GROUPED, sliding_window: 7, rope_theta: 1e6 },
    means: {
      window: { size: 7, sliding: [true, true, true] },
      biases: NO_BIAS,
      ropeTheta: 1e6,
      scoreScale: 1 / Math.sqrt(12),
    },
    refused: [
      ...GATED_REFUSED,
      [{ attention_bias: true }, /"attention_bias" is true/],
      [{ sliding_window: 0 }, /"sliding_window" is 0/],
      [
        { sliding_window: null, layer_types: [SLIDING, FULL, FULL] },
        /"sliding_window" is null\. Expected a number of tokens/,
      ],
    ],
  },
  qwen2: {
    now: {
      ...named("Qwen2", "qwen2"),
      ...GROUPED,
      use_sliding_window: true,
      sliding_window: 9,
      layer_types: [FULL, SLIDING, SLIDING],
      max_window_layers: 1,
      rope_parameters: { rope_type: "linear", factor: 2, rope_theta: 1e6 },
    },
    before: {
      ...named("Qwen2", "qwen2"),
      ...GROUPED,
      use_sliding_window: true,
      sliding_window: 9,
      max_window_layers: 1,
      rope_theta: 1e6,
      rope_scaling: { type: "linear", factor: 2 },
    },
    means: {
      biases: { qkv: true, out: false, mlp: false },
      window: { size: 9, sliding: [false, true, true] },
      ropeScaling: { type: "linear", factor: 2 },
    },
    refused: [...GATED_REFUSED, [
      { use_sliding_window: "yes" },
      /"use_sliding_window" is "yes"\. Expected true or false/,
    ]],
  },
  qwen3: {
    now: {
      ...named("Qwen3", "qwen3"),
      ...GROUPED,
      head_dim: 16,
      sliding_window: 9,
      use_sliding_window: false,
      rope_parameters: { rope_type: "dynamic", factor: 4, rope_theta: 1e6 },
    },
    before: {
      ...named("Qwen3", "qwen3"),
      ...GROUPED,
      head_dim: 16,
      sliding_window: 9,
      use_sliding_window: false,
      rope_theta: 1e6,
      rope_scaling: { rope_type: "dynamic", factor: 4 },
    },
    means: { headDim: 16, biases: NO_BIAS, ropeScaling: { type: "dynamic", factor: 4 }, window: undefined },
    refused: [...GATED_REFUSED, [{ head_dim: 15 }, /the head dimension is 15\. Expected an even number/]],
  },
  phi3: {
    now: {
      ...named("Phi3", "phi3"),
      ...GROUPED,
      sliding_window: 7,
      rope_parameters: { rope_type: "default", rope_theta: 1e4, partial_rotary_factor: 0.75 },
    },
    before: {
      ...named("Phi3", "phi3"),
      ...GROUPED,
      sliding_window: 7,
      rope_theta: 1e4,
      rope_scaling: null,
      partial_rotary_factor: 0.75,
      original_max_position_embeddings: 128,
    },
    // Nine of twelve columns: five pairs, whose frequencies are spread over nine.
    means: {
      rotaryDims: 10,
      rotarySpan: 9,
      window: { size: 7, sliding: [true, true, true] },
      maxPositions: 128,
    },
    refused: [
      ...GATED_REFUSED,
      [{ rope_scaling: { type: "longrope", long_factor: [1], short_factor: [1] } }, /"type" is "longrope"/],
      [{ attention_bias: true }, /"attention_bias" is true/],
    ],
  },
  gemma: {
    now: {
      ...named("Gemma", "gemma"),
      ...GROUPED,
      head_dim: 24,
      hidden_act: "gelu_pytorch_tanh",
      rope_parameters: { rope_type: "default", rope_theta: 1e4 },
    },
    before: {
      ...named("Gemma", "gemma"),
      ...GROUPED,
      head_dim: 24,
      hidden_act: "gelu_pytorch_tanh",
      rope_theta: 1e4,
    },
    means: { headDim: 24, activation: "geglu", tied: true, scoreScale: 1 / Math.sqrt(24) },
    refused: [
      ...GATED_REFUSED,
      [{ hidden_act: "gelu" }, /"hidden_act" is "gelu"\. Expected "gelu_pytorch_tanh"/],
      [{ use_bidirectional_attention: true }, /"use_bidirectional_attention" is true/],
    ],
  },
  gemma2: {
    now: {
      ...named("Gemma2", "gemma2"),
      ...GROUPED,
      head_dim: 12,
      hidden_activation: "gelu_pytorch_tanh",
      query_pre_attn_scalar: 18,
      sliding_window: 6,
      attn_logit_softcapping: 3.5,
      final_logit_softcapping: 8,
      layer_types: [SLIDING, FULL, SLIDING],
      rope_parameters: { rope_type: "default", rope_theta: 1e4 },
    },
    before: {
      ...named("Gemma2", "gemma2"),
      ...GROUPED,
      head_dim: 12,
      hidden_activation: "gelu_pytorch_tanh",
      query_pre_attn_scalar: 18,
      sliding_window: 6,
      attn_logit_softcapping: 3.5,
      final_logit_softcapping: 8,
      rope_theta: 1e4,
      cache_implementation: "hybrid",
    },
    means: {
      scoreCap: 3.5,
      logitCap: 8,
      scoreScale: 1 / Math.sqrt(18),
      window: { size: 6, sliding: [true, false, true] },
    },
    refused: [
      ...GATED_REFUSED,
      [{ hidden_activation: "gelu" }, /"hidden_activation" is "gelu"/],
      [{ attn_logit_softcapping: -1 }, /"attn_logit_softcapping" is -1/],
      [{ query_pre_attn_scalar: 0 }, /"query_pre_attn_scalar" is 0/],
    ],
  },
  gpt2: {
    now: {
      architectures: ["GPT2LMHeadModel"],
      model_type: "gpt2",
      vocab_size: 300,
      n_embd: 48,
      n_layer: 3,
      n_head: 4,
      n_positions: 64,
      n_inner: null,
      layer_norm_epsilon: 1e-5,
      activation_function: "gelu_new",
      attn_pdrop: 0.1,
      resid_pdrop: 0.2,
      dtype: "float32",
    },
    before: {
      architectures: ["GPT2LMHeadModel"],
      model_type: "gpt2",
      vocab_size: 300,
      n_embd: 48,
      n_layer: 3,
      n_head: 4,
      n_positions: 64,
      n_ctx: 64,
      attn_pdrop: 0.1,
      resid_pdrop: 0.2,
      torch_dtype: "float32",
    },
    means: {
      intermediateSize: 192,
      biases: ALL_BIAS,
      rotaryDims: 0,
      activation: "gelu",
      dropout: 0.2,
      tied: true,
      eosIds: [],
    },
    refused: [
      [{ activation_function: "relu" }, /"activation_function" is "relu"\. Expected "gelu" or "gelu_new"/],
      [{ scale_attn_by_inverse_layer_idx: true }, /"scale_attn_by_inverse_layer_idx" is true/],
      [{ scale_attn_weights: false }, /"scale_attn_weights" is false/],
      [{ add_cross_attention: true }, /"add_cross_attention" is true/],
      [{ n_embd: 2048 }, /"n_embd" is 2048\. Expected at most 256 columns for each of 4 heads/],
      [{ n_head: 5 }, /"n_embd" is 48\. Expected a multiple of the 5 attention heads/],
    ],
  },
  gpt_neox: {
    now: {
      ...named("GPTNeoX", "gpt_neox"),
      ...SIZES,
      layer_norm_eps: 1e-5,
      hidden_act: "gelu",
      use_parallel_residual: true,
      rope_parameters: { rope_type: "default", rope_theta: 2e4, partial_rotary_factor: 0.5 },
    },
    before: {
      ...named("GPTNeoX", "gpt_neox"),
      ...SIZES,
      layer_norm_eps: 1e-5,
      hidden_act: "gelu",
      use_parallel_residual: true,
      rotary_emb_base: 2e4,
      rotary_pct: 0.5,
      rope_scaling: null,
    },
    means: {
      rotaryDims: 6,
      ropeTheta: 2e4,
      parallelResidual: true,
      activation: "gelu_erf",
      biases: ALL_BIAS,
      tied: false,
    },
    refused: [
      [{ hidden_act: "relu" }, /"hidden_act" is "relu"/],
      [{ num_key_value_heads: 2 }, /"num_key_value_heads" is 2\. Expected 4 or null/],
      [{ rotary_pct: 0.05 }, /no column of a head's 12 is rotated/],
      [{ use_parallel_residual: 1 }, /"use_parallel_residual" is 1\. Expected true or false/],
    ],
  },
};
