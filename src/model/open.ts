/**
 * Opening the files of a model, whatever they are: a Hugging Face directory or a GGUF file.
 *
 * @module
 */
import { type ModelConfig, parseConfig, readConfig } from "./config.ts";
import { FAMILIES } from "./families.ts";
import { type GgufWeights, openGguf } from "./open_gguf.ts";
import type { TensorInfo, Weights } from "./safetensors.ts";
import { openWeights } from "./weights.ts";

/** A model whose weights are still in its files. */
export interface ModelFiles {
  config: ModelConfig;
  weights: Weights | GgufWeights;
}

/** Whether a path names a GGUF file. */
export function isGguf(path: string): boolean {
  return path.endsWith(".gguf");
}

/**
 * Opens `config.json` and `model.safetensors`, or its shards, of a directory, or a GGUF file.
 *
 * @throws {Error} when a file is missing, lies about its contents, or describes something keel does not compute.
 */
export function openModel(path: string): ModelFiles {
  if (isGguf(path)) {
    const { config, generation, weights } = openGguf(path);
    return { config: parseConfig(config, path, generation), weights };
  }
  const config = readConfig(path);
  return { config, weights: withPrefix(openWeights(path), FAMILIES[config.family].prefix) };
}

/** Files of the bare model leave out the prefix of its names, GPT-2's first among them; here they have it. */
function withPrefix(weights: Weights, prefix: string): Weights {
  if ([...weights.tensors.keys()].some((name) => name.startsWith(prefix))) return weights;
  const inFile = (name: string) => name.startsWith(prefix) ? name.slice(prefix.length) : name;
  const tensors = new Map<string, TensorInfo>();
  for (const [name, info] of weights.tensors) {
    const isHead = /^(lm_head|embed_out|score)\./.test(name);
    tensors.set(isHead ? name : prefix + name, info);
  }
  return {
    ...weights,
    tensors,
    read: (name) => weights.read(inFile(name)),
    readIntegers: (name) => weights.readIntegers(inFile(name)),
  };
}
