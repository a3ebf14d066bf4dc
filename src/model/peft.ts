/**
 * Adapted models from and to PEFT directories: `adapter_config.json` and `adapter_model.safetensors`.
 *
 * The base is frozen, so all adapted models of one base on one GPU share its weights in memory.
 *
 * @module
 */
import { isAbsolute, join, resolve } from "node:path";
import type { Gpu } from "../gpu/device.ts";
import {
  type Adapter,
  adapterLayout,
  checkModuleNames,
  initialAdapterTensor,
  readAdapterTensors,
  targetNames,
  tiesHead,
} from "./adapter.ts";
import { type ModelConfig, readConfig } from "./config.ts";
import { type Model, ropeTables } from "./decoder.ts";
import { type Dtype, hostTensor, uploadFrozen } from "./frozen.ts";
import { initialScore } from "./init.ts";
import { fileExists } from "./json_file.ts";
import { layoutOf } from "./layout.ts";
import { type LoraConfig, readAdapterConfig, writeAdapterConfig } from "./lora.ts";
import { isGguf, openModel } from "./open.ts";
import { type HostTensor, type Params, uploadParams } from "./params.ts";

/** Whether a directory holds an adapter and not a whole model. */
export function isAdapterDirectory(directory: string): boolean {
  return fileExists(join(directory, "adapter_config.json")) && !fileExists(join(directory, "config.json"));
}

/** Where models of the Hub, by their names, lie on this machine; filled by who fetches them. */
export const fetchedBases: Map<string, string> = new Map();

const placesOf = (directory: string, base: string) =>
  isAbsolute(base) ? [base] : [resolve(base), resolve(directory, base)];

const isModel = (path: string) => isGguf(path) ? fileExists(path) : fileExists(join(path, "config.json"));

/** The base model of an adapter: as its file says, from here, from the adapter's directory, or fetched. */
export function baseOf(directory: string): string {
  const { base } = readAdapterConfig(directory);
  const found = placesOf(directory, base).find(isModel) ?? fetchedBases.get(base);
  if (found !== undefined) return found;
  throw new Error(
    `Cannot load the adapter in ${directory}: its base model ${base} is not at ${
      placesOf(directory, base).join(" nor at ")
    }. Put it there, or correct "base_model_name_or_path" in adapter_config.json.`,
  );
}

/** The config of a model, of an adapted one with the head that its adapter brings. */
export function configOf(path: string): ModelConfig {
  if (!isAdapterDirectory(path)) return readConfig(path);
  const { config } = readAdapterConfig(path);
  return withScore(readConfig(baseOf(path)), config);
}

/** A score that the adapter brings makes a language model a reward model. */
function withScore(config: ModelConfig, { modulesToSave }: LoraConfig): ModelConfig {
  return modulesToSave.includes("score") ? { ...config, architecture: "reward" } : config;
}

/** Where the tokenizer of a model lies: beside its weights, or where an adapter's directory has none, beside its base's. */
export function tokenizerSource(path: string): string {
  return isAdapterDirectory(path) && !fileExists(join(path, "tokenizer.json")) ? baseOf(path) : path;
}

/** How an adapter is loaded or made. */
export interface AdaptedOptions {
  /** Form in which the base is held; float32 by default, and as stored for a GGUF file. */
  dtype?: Dtype;
  /** Makes it a reward model, with a fresh head keyed by this seed where it has none. */
  scoreSeed?: number;
}

/** Loads the adapter in `directory` on its base. Several that share a base share its memory. */
export function loadAdapted(gpu: Gpu, directory: string, options: AdaptedOptions = {}): Model {
  const { config } = readAdapterConfig(directory);
  const weights = readAdapterTensors(directory, configOf(directory), config);
  const given = (name: string) => weights.tensors.has(name) ? hostTensor(weights, name) : undefined;
  return adapt(gpu, baseOf(directory), config, options, given);
}

/** A fresh adapter on the model at `base`: at first the model is what it was. */
export function makeAdapted(
  gpu: Gpu,
  base: string,
  config: LoraConfig,
  options: AdaptedOptions & { seed: number },
): Model {
  checkModuleNames(withScore(readConfig(base), config), config);
  return adapt(gpu, base, config, options, initialAdapterTensor(openModel(base), config, options.seed));
}

/** Places an adapter beside its base; `tensor` returns those of the adapter's tensors that there are, by PEFT's keys. */
function adapt(
  gpu: Gpu,
  base: string,
  lora: LoraConfig,
  { dtype, scoreSeed }: AdaptedOptions,
  tensor: (name: string) => HostTensor | undefined,
): Model {
  const plain = readConfig(base);
  const hasScore = plain.architecture === "reward" || lora.modulesToSave.includes("score");
  const fresh = scoreSeed !== undefined && !hasScore;
  const adapterConfig = fresh ? { ...lora, modulesToSave: [...lora.modulesToSave, "score"] } : lora;
  const config = withScore(plain, adapterConfig);
  const { layout, targets } = adapterLayout(config, adapterConfig);
  const params = uploadParams(gpu, layout, (name) => {
    const known = tensor(name);
    if (known) return known;
    if (name === SCORE && scoreSeed !== undefined) return initialScore(config.hiddenSize, scoreSeed);
    throw new Error(`Cannot load the adapter on ${base}: it has no tensor "${name}".`);
  });
  const shared = sharedBase(gpu, base, dtype ?? (isGguf(base) ? "as-stored" : "f32"));
  const adapter: Adapter = { config: adapterConfig, params, targets, base };
  return { config, params: shared.params, rope: shared.rope, adapter };
}

const SCORE = "base_model.model.score.weight";

interface SharedBase {
  params: Params;
  rope: Model["rope"];
  users: number;
}

const bases = new WeakMap<Gpu, Map<string, SharedBase>>();

/** The weights of the model at `base`, loaded once in each form. */
function sharedBase(gpu: Gpu, base: string, dtype: Dtype): SharedBase {
  const loaded = bases.get(gpu) ?? new Map<string, SharedBase>();
  bases.set(gpu, loaded);
  const key = `${dtype} ${resolve(base)}`;
  let shared = loaded.get(key);
  if (!shared) {
    const { config, weights } = openModel(base);
    const params = uploadFrozen(gpu, layoutOf(config), weights, dtype);
    loaded.set(key, shared = { params, rope: ropeTables(gpu, config), users: 0 });
  }
  shared.users++;
  return shared;
}

/** Lets go of the base of an adapted model; true when nobody uses it any more and its memory can go. */
export function releaseBase(gpu: Gpu, { params }: Model): boolean {
  for (const [key, shared] of bases.get(gpu) ?? []) {
    if (shared.params !== params) continue;
    shared.users--;
    if (shared.users > 0) return false;
    bases.get(gpu)!.delete(key);
  }
  return true;
}

/** What others find a base by: its name on the Hub where it came from there, else its path. */
function nameOfBase(base: string): string {
  return [...fetchedBases].find(([, path]) => path === base)?.[0] ?? resolve(base);
}

/** Writes `adapter_config.json` into a directory that exists. */
export function describeAdapter(model: ModelConfig, adapter: Adapter, directory: string): void {
  const { targetModules } = adapter.config;
  writeAdapterConfig(directory, adapter.config, {
    base: nameOfBase(adapter.base),
    model,
    targetModules: Array.isArray(targetModules) ? targetModules : targetNames(adapter),
    tiesHead: tiesHead(model, adapter.config),
  });
}
