/**
 * Models with a head of one output: reward models and critics.
 *
 * @module
 */
import type { Gpu } from "../gpu/device.ts";
import type { Model } from "./decoder.ts";
import { type Dtype, hostTensor } from "./frozen.ts";
import { initialScore } from "./init.ts";
import { loadModel, makeModel } from "./load.ts";
import { openModel } from "./open.ts";
import { isAdapterDirectory, loadAdapted } from "./peft.ts";

/** A reward model from its directory, or the body of a language model with a fresh head. */
export function loadHeaded(gpu: Gpu, path: string, seed: number, { dtype }: { dtype?: Dtype } = {}): Model {
  if (isAdapterDirectory(path)) return loadAdapted(gpu, path, { dtype, scoreSeed: seed });
  const { config, weights } = openModel(path);
  if (config.architecture === "reward") return loadModel(gpu, path, { dtype });
  return makeModel(
    gpu,
    { ...config, architecture: "reward" },
    (name) => name === "score.weight" ? initialScore(config.hiddenSize, seed) : hostTensor(weights, name),
  );
}
