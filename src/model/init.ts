/**
 * Fresh weights.
 *
 * @module
 */
import { randomStream } from "../random/stream.ts";
import type { ModelConfig } from "./config.ts";
import { FAMILIES } from "./families.ts";
import { layoutOf, type Part } from "./layout.ts";
import type { HostTensor, HostWeights } from "./params.ts";

/**
 * Weights of an untrained model: gains 1, biases 0, the embeddings normal with deviation 0.02, every matrix normal with deviation
 * 1/√(3·inputs), a head of one output with 1/√(inputs + 1) (as in arXiv 2009.01325).
 */
export function initialWeights(config: ModelConfig, seed: number): HostWeights {
  const weights: HostWeights = {};
  for (const slot of layoutOf(config).slots.values()) {
    for (const part of slot.parts) weights[part.name] = initialTensor(config, slot.label, part, seed);
  }
  return weights;
}

/** A fresh head of one output, `score.weight` [1, width]. */
export function initialScore(width: number, seed: number): HostTensor {
  return initialMatrix("score.weight", [1, width], 1 / Math.sqrt(width + 1), seed);
}

function initialTensor(config: ModelConfig, label: string, part: Part, seed: number): HostTensor {
  const { name, shape, transposed } = part;
  if (shape.length === 1) {
    const value = name.endsWith(".bias") || FAMILIES[config.family].normPlusOne ? 0 : 1;
    return { shape, data: new Float32Array(shape[0]).fill(value) };
  }
  if (label === "score") return initialScore(shape[1], seed);
  const inputs = transposed ? shape[0] : shape[1];
  const isTable = label === "embed" || label === "positions";
  return initialMatrix(name, shape, isTable ? 0.02 : 1 / Math.sqrt(3 * inputs), seed);
}

function initialMatrix(name: string, shape: number[], deviation: number, seed: number): HostTensor {
  const stream = randomStream(seed, "initial weights", name);
  const length = shape[0] * shape[1];
  return { shape, data: Float32Array.from({ length }, () => stream.normal() * deviation) };
}
