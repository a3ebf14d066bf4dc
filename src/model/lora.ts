/**
 * What an adapter is, read from and written to PEFT's `adapter_config.json`. What keel does not compute is refused by name.
 *
 * @module
 */
import { join } from "node:path";
import { writeTextAtomically } from "./atomic_file.ts";
import type { ModelConfig } from "./config.ts";
import { Fields } from "./config_fields.ts";
import type { Family } from "./families.ts";
import { isJsonObject, type JsonObject, readJsonObject } from "./json_file.ts";

/** A low-rank adapter (LoRA, arXiv 2106.09685), under PEFT's names. */
export interface LoraConfig {
  /** Rank. */
  r: number;
  /** B·A is scaled with alpha / r, or with alpha / √r (arXiv 2312.03732) where `useRslora` is true. */
  loraAlpha: number;
  /** Dropout of what A reads, in training. */
  loraDropout: number;
  /** Ends of the names of the modules that get one, `all-linear`, or undefined for PEFT's choice for the family. */
  targetModules?: string[] | "all-linear";
  /** Scale with alpha / √r. */
  useRslora: boolean;
  /** Weight-decomposed (DoRA, arXiv 2402.09353). */
  useDora: boolean;
  /** Modules that are trained whole, e.g. `score`. */
  modulesToSave: string[];
  /** An embedding that is trained whole is still the head where the two are tied, as it always is here. */
  ensureWeightTying?: boolean;
}

/** Factor of B·A. */
export function loraScale({ r, loraAlpha, useRslora }: LoraConfig): number {
  return loraAlpha / (useRslora ? Math.sqrt(r) : r);
}

/** Modules that PEFT adapts where nothing is said; it has no choice for Phi-3. */
const DEFAULT_TARGETS: Record<Family, string[] | undefined> = {
  llama: ["q_proj", "v_proj"],
  mistral: ["q_proj", "v_proj"],
  qwen2: ["q_proj", "v_proj"],
  qwen3: ["q_proj", "v_proj"],
  phi3: undefined,
  gemma: ["q_proj", "v_proj"],
  gemma2: ["q_proj", "v_proj"],
  gpt2: ["c_attn"],
  gpt_neox: ["query_key_value"],
};

/** Whether PEFT has a choice of modules for a family. */
export function hasUsualTargets(family: Family): boolean {
  return DEFAULT_TARGETS[family] !== undefined;
}

/** Whether the module of that name gets an adapter: `model.layers.0.self_attn.q_proj`. */
export function isTarget({ targetModules }: LoraConfig, family: Family, module: string): boolean {
  const targets = targetModules ?? DEFAULT_TARGETS[family];
  if (targets === undefined) {
    throw new Error(
      `There is no usual choice of modules to adapt for ${family}. Name them, e.g. --lora_target_modules all-linear.`,
    );
  }
  return targets === "all-linear" || targets.some((name) => module === name || module.endsWith(`.${name}`));
}

/** An adapter's config and the base model that it was trained on, as its file names it. */
export interface AdapterFile {
  config: LoraConfig;
  base: string;
  /** Branch, tag or commit of the base model. */
  revision?: string;
}

/** Reads `adapter_config.json` of a PEFT directory. */
export function readAdapterConfig(directory: string): AdapterFile {
  const source = join(directory, "adapter_config.json");
  return parseAdapterConfig(readJsonObject(source), source);
}

/** Reads an adapter's config that was parsed from JSON; `source` names the file in errors. */
export function parseAdapterConfig(json: JsonObject, source: string): AdapterFile {
  const fields: Fields = new Fields(json, source);
  fields.choice("peft_type", { LORA: true });
  fields.choice("bias", { none: true }, "none");
  for (const name of REFUSED) {
    const value = fields.get(name);
    const isEmpty = value === undefined || value === false ||
      (isJsonObject(value) && Object.keys(value).length === 0) ||
      (Array.isArray(value) && value.length === 0);
    if (!isEmpty) fields.fail(name, "nothing; keel does not compute this");
  }
  const base = fields.get("base_model_name_or_path");
  if (typeof base !== "string" || base === "") fields.fail("base_model_name_or_path", "the name of a model");
  const revision = fields.get("revision");
  if (revision !== undefined && typeof revision !== "string") fields.fail("revision", "text or null");
  return {
    base,
    ...(revision !== undefined && { revision }),
    config: {
      r: fields.integer("r", 1, 65536, 8),
      loraAlpha: fields.number("lora_alpha", 0, 1e6, 8),
      loraDropout: fields.number("lora_dropout", 0, 0.999999, 0),
      targetModules: targets(fields),
      useRslora: fields.boolean("use_rslora", false),
      useDora: fields.boolean("use_dora", false),
      modulesToSave: names(fields, "modules_to_save") ?? [],
      ensureWeightTying: fields.boolean("ensure_weight_tying", false),
    },
  };
}

/** Variants of PEFT's that change what is computed. */
const REFUSED = [
  "alora_invocation_tokens",
  "alpha_pattern",
  "arrow_config",
  "exclude_modules",
  "layer_replication",
  "layers_to_transform",
  "lora_bias",
  "rank_pattern",
  "target_parameters",
  "trainable_token_indices",
  "use_bdlora",
  "use_qalora",
];

function names(fields: Fields, name: string): string[] | undefined {
  const value = fields.get(name);
  if (value === undefined) return undefined;
  if (!Array.isArray(value) || !value.every((item) => typeof item === "string" && item !== "")) {
    fields.fail(name, "a list of names");
  }
  return value;
}

function targets(fields: Fields): LoraConfig["targetModules"] {
  const value = fields.get("target_modules");
  if (value === "all-linear") return value;
  if (typeof value === "string") {
    fields.fail("target_modules", 'a list of names or "all-linear"; keel does not match regular expressions');
  }
  return names(fields, "target_modules");
}

/**
 * Writes `adapter_config.json` into a directory that exists; `targetModules` are those that were adapted, by name. `tiesHead`:
 * the embedding that is trained whole is the head, too.
 */
export function writeAdapterConfig(
  directory: string,
  config: LoraConfig,
  { base, model, targetModules, tiesHead }: {
    base: string;
    model: ModelConfig;
    targetModules: string[];
    tiesHead: boolean;
  },
): void {
  const json: JsonObject = {
    peft_type: "LORA",
    task_type: model.architecture === "reward" ? "SEQ_CLS" : "CAUSAL_LM",
    base_model_name_or_path: base,
    bias: "none",
    ensure_weight_tying: tiesHead,
    fan_in_fan_out: model.family === "gpt2",
    inference_mode: true,
    init_lora_weights: true,
    lora_alpha: config.loraAlpha,
    lora_dropout: config.loraDropout,
    modules_to_save: config.modulesToSave.length ? config.modulesToSave : null,
    r: config.r,
    revision: null,
    target_modules: targetModules,
    use_dora: config.useDora,
    use_rslora: config.useRslora,
  };
  writeTextAtomically(join(directory, "adapter_config.json"), JSON.stringify(json, null, 2) + "\n");
}

/** Copies the `adapter_config.json` of one directory to another, with the base's name replaced. */
export function writeAdapterBase(from: string, directory: string, base: string): void {
  const json = { ...readJsonObject(join(from, "adapter_config.json")), base_model_name_or_path: base };
  writeTextAtomically(join(directory, "adapter_config.json"), JSON.stringify(json, null, 2) + "\n");
}
