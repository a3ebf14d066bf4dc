/**
 * What each family calls its weights in Hugging Face's files.
 *
 * @module
 */
import type { ModelConfig } from "./config.ts";
import { FAMILIES } from "./families.ts";

/** Names outside the layers: of weights, and of the last norm's module. */
export interface ModelNames {
  embedding: string;
  positions?: string;
  norm: string;
  head: string;
}

/** Names of a layer's modules: `NAME.weight` and, where there are biases, `NAME.bias`. */
export type LayerNames =
  & ({ q: string; k: string; v: string } | { qkv: string })
  & {
    out: string;
    /** Absent where gate and up are one module, or there is no gate. */
    gate?: string;
    up: string;
    down: string;
    attnNorm: string;
    mlpNorm: string;
    postAttnNorm?: string;
    postMlpNorm?: string;
    qNorm?: string;
    kNorm?: string;
  };

/** Names outside the layers. */
export function modelNames({ family }: ModelConfig): ModelNames {
  const { prefix } = FAMILIES[family];
  switch (family) {
    case "gpt2":
      return {
        embedding: `${prefix}wte.weight`,
        positions: `${prefix}wpe.weight`,
        norm: `${prefix}ln_f`,
        head: "lm_head.weight",
      };
    case "gpt_neox":
      return {
        embedding: `${prefix}embed_in.weight`,
        norm: `${prefix}final_layer_norm`,
        head: "embed_out.weight",
      };
    default:
      return { embedding: `${prefix}embed_tokens.weight`, norm: `${prefix}norm`, head: "lm_head.weight" };
  }
}

/** Names of the modules of layer `layer`. */
export function layerNames({ family }: ModelConfig, layer: number): LayerNames {
  const { prefix, headNorms, postNorms } = FAMILIES[family];
  const at = (rest: string) => `${prefix}${family === "gpt2" ? "h" : "layers"}.${layer}.${rest}`;
  switch (family) {
    case "gpt2":
      return {
        qkv: at("attn.c_attn"),
        out: at("attn.c_proj"),
        up: at("mlp.c_fc"),
        down: at("mlp.c_proj"),
        attnNorm: at("ln_1"),
        mlpNorm: at("ln_2"),
      };
    case "gpt_neox":
      return {
        qkv: at("attention.query_key_value"),
        out: at("attention.dense"),
        up: at("mlp.dense_h_to_4h"),
        down: at("mlp.dense_4h_to_h"),
        attnNorm: at("input_layernorm"),
        mlpNorm: at("post_attention_layernorm"),
      };
    case "phi3":
      return {
        qkv: at("self_attn.qkv_proj"),
        out: at("self_attn.o_proj"),
        up: at("mlp.gate_up_proj"),
        down: at("mlp.down_proj"),
        attnNorm: at("input_layernorm"),
        mlpNorm: at("post_attention_layernorm"),
      };
    default:
      return {
        q: at("self_attn.q_proj"),
        k: at("self_attn.k_proj"),
        v: at("self_attn.v_proj"),
        out: at("self_attn.o_proj"),
        gate: at("mlp.gate_proj"),
        up: at("mlp.up_proj"),
        down: at("mlp.down_proj"),
        attnNorm: at("input_layernorm"),
        ...(postNorms
          ? {
            postAttnNorm: at("post_attention_layernorm"),
            mlpNorm: at("pre_feedforward_layernorm"),
            postMlpNorm: at("post_feedforward_layernorm"),
          }
          : { mlpNorm: at("post_attention_layernorm") }),
        ...(headNorms && { qNorm: at("self_attn.q_norm"), kNorm: at("self_attn.k_norm") }),
      };
  }
}
