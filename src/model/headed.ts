/**
 * Models with a head of one output: reward models and critics.
 *
 * @module
 */
import type { Gpu } from "../gpu/device.ts";
import { readConfig } from "./config.ts";
import type { Model } from "./decoder.ts";
import { initialScore } from "./init.ts";
import { loadModel, makeModel, readTensor } from "./load.ts";
import { openWeights } from "./weights.ts";

/** A reward model from its directory, or the body of a language model with a fresh head. */
export function loadHeaded(gpu: Gpu, directory: string, seed: number): Model {
  const config = readConfig(directory);
  if (config.architecture === "reward") return loadModel(gpu, directory);
  const weights = openWeights(directory);
  return makeModel(
    gpu,
    { ...config, architecture: "reward" },
    (name) => name === "score.weight" ? initialScore(config.hiddenSize, seed) : readTensor(weights, name),
  );
}
