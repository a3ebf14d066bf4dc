/**
 * The weights of a model directory as one set of tensors, whether they are in one file or in shards.
 *
 * @module
 */

import { basename, join } from "node:path";
import { fileExists, isJsonObject, readJsonObject, shortJson } from "./json_file.ts";
import { findTensor, readSafetensors, type TensorInfo, type Weights } from "./safetensors.ts";

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";

/** Opens `model.safetensors`, or all shards that `model.safetensors.index.json` names. */
export function openWeights(directory: string): Weights {
  if (fileExists(join(directory, SINGLE))) return readSafetensors(join(directory, SINGLE));
  const index = join(directory, INDEX);
  if (!fileExists(index)) {
    throw new Error(`Cannot read the weights of ${directory}: expected ${SINGLE} or ${INDEX} there.`);
  }
  return openShards(directory, index);
}

function openShards(directory: string, index: string): Weights {
  const { weight_map: map } = readJsonObject(index, 100e6);
  if (!isJsonObject(map) || Object.keys(map).length === 0) {
    throw new Error(`Cannot read ${index}: "weight_map" is missing or empty.`);
  }
  const shards = new Map<string, Weights>();
  for (const shard of new Set(Object.values(map))) {
    // Only a plain name: an index must not reach outside its directory.
    if (
      typeof shard !== "string" || shard !== basename(shard) || !shard.endsWith(".safetensors") ||
      shard.includes("\\")
    ) {
      throw new Error(
        `Cannot read ${index}: ${shortJson(shard)} is not the name of a safetensors file beside it.`,
      );
    }
    shards.set(shard, readSafetensors(join(directory, shard)));
  }
  const tensors = new Map<string, TensorInfo>();
  const shardOf = new Map<string, Weights>();
  for (const [shard, weights] of shards) {
    for (const [name, info] of weights.tensors) {
      if (map[name] !== shard) {
        const says = map[name] === undefined ? "does not list it" : `says ${shortJson(map[name])}`;
        throw new Error(
          `Cannot read ${join(directory, shard)}: it holds tensor "${name}", but ${INDEX} ${says}.`,
        );
      }
      tensors.set(name, info);
      shardOf.set(name, weights);
    }
  }
  for (const [name, shard] of Object.entries(map)) {
    if (!tensors.has(name)) {
      throw new Error(`Cannot read ${join(directory, String(shard))}: tensor "${name}" is missing.`);
    }
  }
  const find = (name: string): Weights => {
    findTensor(directory, tensors, name);
    return shardOf.get(name)!;
  };
  return {
    source: directory,
    metadata: shards.values().next().value!.metadata,
    tensors,
    read: (name) => find(name).read(name),
    readIntegers: (name) => find(name).readIntegers(name),
  };
}
