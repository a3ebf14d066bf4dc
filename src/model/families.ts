/**
 * The families of decoders, by the `model_type` of Hugging Face's `config.json`, and what is fixed in each. What a family's
 * configs may vary is in `ModelConfig`; how each names its weights is in `layout.ts`.
 *
 * @module
 */

/** A family, as `config.json` names it. SmolLM is "llama", Pythia "gpt_neox". */
export type Family =
  | "llama"
  | "mistral"
  | "qwen2"
  | "qwen3"
  | "phi3"
  | "gemma"
  | "gemma2"
  | "gpt2"
  | "gpt_neox";

/** What all models of a family have in common. */
export interface FamilyTraits {
  /** Prefix of transformers' classes: `LlamaForCausalLM`. */
  className: string;
  /** The language model's class where it is not `…ForCausalLM`. */
  causalClass?: string;
  /** Name before all weights but the head's; files of the bare model leave it out. */
  prefix: string;
  /** RMSNorm, or LayerNorm with biases. */
  norm: "rms" | "layer";
  /** Norms multiply with 1 + weight. */
  normPlusOne?: boolean;
  /** The embedding is multiplied with √hiddenSize. */
  scaledEmbedding?: boolean;
  /** Attention and feed-forward block are normed after, too, before they are added. */
  postNorms?: boolean;
  /** Query and key heads are normed before they are rotated. */
  headNorms?: boolean;
  /** Positions are an embedding of their own, not rotations. */
  learnedPositions?: boolean;
  /** Whether the head is the embedding where the config says nothing. */
  tied: boolean;
}

/** By family. */
export const FAMILIES: Record<Family, FamilyTraits> = {
  llama: { className: "Llama", prefix: "model.", norm: "rms", tied: false },
  mistral: { className: "Mistral", prefix: "model.", norm: "rms", tied: false },
  qwen2: { className: "Qwen2", prefix: "model.", norm: "rms", tied: false },
  qwen3: { className: "Qwen3", prefix: "model.", norm: "rms", headNorms: true, tied: false },
  phi3: { className: "Phi3", prefix: "model.", norm: "rms", tied: false },
  gemma: {
    className: "Gemma",
    prefix: "model.",
    norm: "rms",
    normPlusOne: true,
    scaledEmbedding: true,
    tied: true,
  },
  gemma2: {
    className: "Gemma2",
    prefix: "model.",
    norm: "rms",
    normPlusOne: true,
    scaledEmbedding: true,
    postNorms: true,
    tied: true,
  },
  gpt2: {
    className: "GPT2",
    causalClass: "GPT2LMHeadModel",
    prefix: "transformer.",
    norm: "layer",
    learnedPositions: true,
    tied: true,
  },
  gpt_neox: { className: "GPTNeoX", prefix: "gpt_neox.", norm: "layer", tied: false },
};

/** transformers' class of a family's models. */
export function architectureName(family: Family, architecture: "causal" | "reward"): string {
  const { className, causalClass } = FAMILIES[family];
  if (architecture === "reward") return `${className}ForSequenceClassification`;
  return causalClass ?? `${className}ForCausalLM`;
}
