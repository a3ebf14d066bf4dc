/**
 * Fresh weights.
 *
 * @module
 */
import { randomStream } from "../random/stream.ts";
import type { ModelConfig } from "./config.ts";
import { layoutOf } from "./layout.ts";
import type { HostTensor, HostWeights } from "./params.ts";

/**
 * Weights of an untrained model: norms 1, the embedding normal with deviation 0.02, every matrix normal with deviation
 * 1/√(3·inputs), a head of one output with 1/√(inputs + 1) (as in arXiv 2009.01325).
 */
export function initialWeights(config: ModelConfig, seed: number): HostWeights {
  const weights: HostWeights = {};
  for (const slot of layoutOf(config).slots.values()) {
    for (const { name, shape } of slot.parts) weights[name] = initialTensor(name, shape, seed);
  }
  return weights;
}

/** A fresh head of one output, `score.weight` [1, width]. */
export function initialScore(width: number, seed: number): HostTensor {
  return initialTensor("score.weight", [1, width], seed);
}

function initialTensor(name: string, shape: number[], seed: number): HostTensor {
  const size = shape.reduce((a, b) => a * b);
  if (shape.length === 1) return { shape, data: new Float32Array(size).fill(1) };
  const deviation = name === "model.embed_tokens.weight"
    ? 0.02
    : name === "score.weight"
    ? 1 / Math.sqrt(shape[1] + 1)
    : 1 / Math.sqrt(3 * shape[1]);
  const stream = randomStream(seed, "initial weights", name);
  return { shape, data: Float32Array.from({ length: size }, () => stream.normal() * deviation) };
}
