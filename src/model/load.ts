/**
 * Models from and to Hugging Face directories.
 *
 * @module
 */
import { copyFileSync, existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Gpu } from "../gpu/device.ts";
import { type ModelConfig, readConfig, writeConfig } from "./config.ts";
import { type Model, ropeTables } from "./decoder.ts";
import { layoutOf } from "./layout.ts";
import { destroyParams, type HostTensor, type HostWeights, readParams, uploadParams } from "./params.ts";
import { findTensor, type Weights, writeSafetensors } from "./safetensors.ts";
import { openWeights } from "./weights.ts";

/** Files of a model directory that belong to its tokenizer. */
const TOKENIZER_FILES = [
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
];

/**
 * Loads a model from a Hugging Face directory: `config.json` and `model.safetensors` or its shards.
 *
 * @throws {Error} when a file is missing, lies about its contents, or describes something keel does not compute.
 */
export function loadModel(gpu: Gpu, directory: string): Model {
  const config = readConfig(directory);
  const weights = openWeights(directory);
  const params = uploadParams(gpu, layoutOf(config), (name) => readTensor(weights, name));
  return { config, params, rope: ropeTables(gpu, config) };
}

/** Frees the buffers of a model that nothing uses any more. */
export function destroyModel({ params, rope }: Model): void {
  destroyParams(params);
  rope.cos.buffer.destroy();
  rope.sin.buffer.destroy();
}

/** A tensor of a model's files. */
export function readTensor({ source, tensors, read }: Weights, name: string): HostTensor {
  return { shape: findTensor(source, tensors, name).shape, data: read(name), source };
}

/** A model with given weights, e.g. a copy with another head. `weight` returns a tensor by its Hugging Face name. */
export function makeModel(gpu: Gpu, config: ModelConfig, weight: (name: string) => HostTensor): Model {
  return { config, params: uploadParams(gpu, layoutOf(config), weight), rope: ropeTables(gpu, config) };
}

/** Writes `config.json`, `model.safetensors` and the tokenizer files of `tokenizerFrom`: a directory that transformers loads. */
export async function saveModel(
  gpu: Gpu,
  model: Model,
  directory: string,
  { tokenizerFrom, storage = "F32" }: { tokenizerFrom?: string; storage?: "F32" | "F16" } = {},
): Promise<void> {
  saveWeights(model.config, await readParams(gpu, model.params), directory, { tokenizerFrom, storage });
}

/** {@linkcode saveModel} for weights on the host. */
export function saveWeights(
  config: ModelConfig,
  weights: HostWeights,
  directory: string,
  { tokenizerFrom, storage = "F32" }: { tokenizerFrom?: string; storage?: "F32" | "F16" } = {},
): void {
  mkdirSync(directory, { recursive: true });
  writeSafetensors(join(directory, "model.safetensors"), Object.entries(weights), {}, storage);
  describeModel(config, directory, { tokenizerFrom, storage });
}

/** Writes everything of a model's directory but its weights. */
export function describeModel(
  config: ModelConfig,
  directory: string,
  { tokenizerFrom, storage = "F32" }: { tokenizerFrom?: string; storage?: "F32" | "F16" } = {},
): void {
  writeConfig(directory, config, storage);
  if (!tokenizerFrom || tokenizerFrom === directory) return;
  for (const file of TOKENIZER_FILES) {
    const from = join(tokenizerFrom, file);
    if (existsSync(from)) copyFileSync(from, join(directory, file));
  }
}
