/**
 * Models from and to Hugging Face directories.
 *
 * @module
 */
import { copyFileSync, existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Gpu } from "../gpu/device.ts";
import { writeTextAtomically } from "./atomic_file.ts";
import { type ModelConfig, writeConfig } from "./config.ts";
import type { StorageName } from "./config_json.ts";
import { type Model, ropeTables } from "./decoder.ts";
import { type Dtype, hostTensor, uploadFrozen } from "./frozen.ts";
import { readGguf } from "./gguf.ts";
import { ggufTokenizer } from "./gguf_tokenizer.ts";
import { layoutOf } from "./layout.ts";
import { isGguf, openModel } from "./open.ts";
import { destroyParams, type HostTensor, type HostWeights, readParams, uploadParams } from "./params.ts";
import { describeAdapter, isAdapterDirectory, loadAdapted, releaseBase } from "./peft.ts";
import { writeSafetensors } from "./safetensors.ts";

/** Files of a model directory that belong to its tokenizer. */
const TOKENIZER_FILES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
];

/** How a model is loaded. */
export interface LoadOptions {
  /** Form of weights that are not trained; without one they are float32 in one arena, and can be. */
  dtype?: Dtype;
}

/**
 * Loads a model from a Hugging Face directory (`config.json` and `model.safetensors` or its shards), a GGUF file, or a PEFT
 * directory (`adapter_config.json`, `adapter_model.safetensors`), whose base is frozen and shared.
 *
 * @throws {Error} when a file is missing, lies about its contents, or describes something keel does not compute.
 */
export function loadModel(gpu: Gpu, path: string, { dtype }: LoadOptions = {}): Model {
  if (isAdapterDirectory(path)) return loadAdapted(gpu, path, { dtype });
  const { config, weights } = openModel(path);
  const layout = layoutOf(config);
  const params = dtype === undefined
    ? uploadParams(gpu, layout, (name) => hostTensor(weights, name))
    : uploadFrozen(gpu, layout, weights, dtype);
  return { config, params, rope: ropeTables(gpu, config) };
}

/** A model that is only read: a GGUF file's weights stay as they are stored where no form is asked for. */
export function loadFrozen(gpu: Gpu, path: string, dtype?: Dtype): Model {
  return loadModel(gpu, path, { dtype: dtype ?? (isGguf(path) ? "as-stored" : undefined) });
}

/** Frees the buffers of a model that nothing uses any more; those of a shared base with its last user. */
export function destroyModel(gpu: Gpu, model: Model): void {
  const { params, rope, adapter } = model;
  if (adapter) {
    destroyParams(adapter.params);
    if (!releaseBase(gpu, model)) return;
  }
  destroyParams(params);
  rope.cos.buffer.destroy();
  rope.sin.buffer.destroy();
}

/** A model with given weights, e.g. a copy with another head; `weight` returns a tensor by its Hugging Face name. */
export function makeModel(gpu: Gpu, config: ModelConfig, weight: (name: string) => HostTensor): Model {
  return { config, params: uploadParams(gpu, layoutOf(config), weight), rope: ropeTables(gpu, config) };
}

/** Where a saved model's tokenizer comes from, and how its floats are stored. */
export interface SaveOptions {
  /** A model's directory or GGUF file. */
  tokenizerFrom?: string;
  /** Float32 if not given. */
  storage?: StorageName;
}

/**
 * Writes a model's directory: `config.json` and `model.safetensors`, which transformers loads, or of an adapted model
 * `adapter_config.json` and `adapter_model.safetensors`, which PEFT loads; and the tokenizer files of `tokenizerFrom`.
 */
export async function saveModel(
  gpu: Gpu,
  model: Model,
  directory: string,
  options: SaveOptions = {},
): Promise<void> {
  mkdirSync(directory, { recursive: true });
  const { adapter, config, params } = model;
  if (adapter) {
    const weights = await readParams(gpu, adapter.params);
    writeSafetensors(join(directory, "adapter_model.safetensors"), Object.entries(weights));
    describeModel(model, directory, options);
  } else saveWeights(config, await readParams(gpu, params), directory, options);
}

/** {@linkcode saveModel} for the weights of a whole model on the host. */
export function saveWeights(
  config: ModelConfig,
  weights: HostWeights,
  directory: string,
  options: SaveOptions = {},
): void {
  mkdirSync(directory, { recursive: true });
  writeSafetensors(join(directory, "model.safetensors"), Object.entries(weights), {}, options.storage);
  describeModel({ config }, directory, options);
}

/** Writes everything of a model's directory but its weights. */
export function describeModel(
  { config, adapter }: Pick<Model, "config" | "adapter">,
  directory: string,
  { tokenizerFrom, storage = "F32" }: SaveOptions = {},
): void {
  if (adapter) describeAdapter(config, adapter, directory);
  else writeConfig(directory, config, storage);
  if (tokenizerFrom && tokenizerFrom !== directory) copyTokenizer(tokenizerFrom, directory);
}

/** Copies the tokenizer files of a model's directory, or writes what a GGUF file holds of them. */
export function copyTokenizer(from: string, directory: string): void {
  if (isGguf(from)) {
    const { tokenizer, config } = ggufTokenizer(readGguf(from));
    writeTextAtomically(join(directory, "tokenizer.json"), JSON.stringify(tokenizer));
    writeTextAtomically(join(directory, "tokenizer_config.json"), JSON.stringify(config, null, 2) + "\n");
    return;
  }
  for (const file of TOKENIZER_FILES) {
    const path = join(from, file);
    if (existsSync(path)) copyFileSync(path, join(directory, file));
  }
}
