/**
 * Options of models that are trained through an adapter, or held in other forms than float32: TRL 1.16's `ModelConfig`.
 *
 * @module
 */
import { z } from "zod";
import type { Dtype } from "../../model/frozen.ts";
import type { LoraConfig } from "../../model/lora.ts";
import { type Agree, count, GROUPS, option } from "./common.ts";

/** Options of adapters and of frozen weights. */
export interface ModelOptions {
  /** Form in which frozen weights are held; float32, or for a GGUF file as it is, if not given. */
  dtype?: Dtype;
  /** Gigabytes that the GPU has, where WebGPU does not say. */
  gpuMemory?: number;
  /** Trains a low-rank adapter beside the frozen model, not the model. */
  usePeft: boolean;
  /** Rank of the adapters. */
  loraR: number;
  /** Adapters are scaled with this by their rank. */
  loraAlpha: number;
  /** Dropout of what adapters read, in SFT. */
  loraDropout: number;
  /** Ends of the names of adapted modules; PEFT's choice for the family if not given. */
  loraTargetModules?: string[];
  /** Modules that are trained whole beside the adapters. */
  loraModulesToSave?: string[];
  /** Scales adapters with alpha by the root of the rank (arXiv 2312.03732). */
  useRslora: boolean;
  /** Weight-decomposed adapters (arXiv 2402.09353). */
  useDora: boolean;
}

const FORMS: Record<string, Dtype> = {
  f32: "f32",
  float32: "f32",
  f16: "f16",
  float16: "f16",
  bf16: "bf16",
  bfloat16: "bf16",
  q8_0: "q8_0",
  "as-stored": "as-stored",
  auto: "as-stored",
};

/** Form of frozen weights, for commands that only read a model, too. */
export const dtypeField = option(
  GROUPS.data,
  "Form in which frozen weights are held in memory: f32, f16, bf16, q8_0 or as-stored (TRL's names float32, float16, bfloat16 and auto, too); arithmetic is f32 always. If not given, f32, and a GGUF file's as it is.",
  z.enum(Object.keys(FORMS)).transform((name) => FORMS[name]).optional(),
  ["torch_dtype"],
);

const list = z.union([z.array(z.string().min(1)), z.string().min(1)]).transform((names) => [names].flat());

/** Schema of {@linkcode ModelOptions}, field by field. */
export const modelFields = {
  dtype: dtypeField,
  gpuMemory: option(
    GROUPS.data,
    "Gigabytes that the GPU has, which WebGPU does not say; a run that needs more is refused before it begins. For a software adapter it is what the machine has free.",
    z.number().gt(0).optional(),
  ),
  usePeft: option(
    GROUPS.lora,
    "Train a low-rank adapter (LoRA) beside the frozen model. The result is a PEFT directory; keel export merges it.",
    z.boolean().default(false),
  ),
  loraR: option(GROUPS.lora, "Rank of the adapters.", count(1).default(16)),
  loraAlpha: option(
    GROUPS.lora,
    "Adapters are scaled with lora_alpha / lora_r.",
    z.number().gt(0).default(32),
  ),
  loraDropout: option(
    GROUPS.lora,
    "Dropout of what adapters read, in SFT; as in TRL, reward models and policies are trained without.",
    z.number().min(0).lt(1).default(0.05),
  ),
  loraTargetModules: option(
    GROUPS.lora,
    "Modules that get an adapter, by the end of their names, e.g. q_proj,v_proj, or all-linear. If not given, PEFT's choice for the family: q_proj,v_proj, c_attn for gpt2, query_key_value for gpt_neox.",
    list.optional(),
  ),
  loraModulesToSave: option(
    GROUPS.lora,
    "Modules that are trained whole beside the adapters, e.g. embed_tokens,lm_head. A reward model's fresh head always is.",
    list.optional(),
  ),
  useRslora: option(
    GROUPS.lora,
    "Scale with lora_alpha / sqrt(lora_r) (arXiv 2312.03732).",
    z.boolean().default(false),
  ),
  useDora: option(
    GROUPS.lora,
    "Weight-decomposed adapters, DoRA (arXiv 2402.09353).",
    z.boolean().default(false),
  ),
};

const schema = z.strictObject(modelFields);
true satisfies Agree<z.output<typeof schema>, ModelOptions>;

/** The adapter that the options ask for. */
export function loraConfig(options: ModelOptions): LoraConfig {
  const { loraTargetModules: targets } = options;
  return {
    r: options.loraR,
    loraAlpha: options.loraAlpha,
    loraDropout: options.loraDropout,
    ...(targets && { targetModules: targets.includes("all-linear") ? "all-linear" : targets }),
    useRslora: options.useRslora,
    useDora: options.useDora,
    modulesToSave: options.loraModulesToSave ?? [],
  };
}
