/**
 * Memory before minutes: what a training command will need on the GPU, counted before anything is allocated, against what there is.
 *
 * Weights, gradients and moments are known from the config; activations by recording the very step that will be run, with the
 * largest batch there is, and packing its tensors as the plan will.
 *
 * @module
 */
import { padded } from "../../kernels/kernel.ts";
import { bucket } from "../data/batches.ts";
import type { Gpu } from "../gpu/device.ts";
import type { ModelConfig } from "../model/config.ts";
import type { LoraConfig } from "../model/lora.ts";
import { arenaBytes, ropeBytes, sketchModel } from "../model/sketch.ts";
import type { Model } from "../model/decoder.ts";
import { activationBytes } from "../tape/plan.ts";
import { Tape } from "../tape/tape.ts";

/** What a step needs, in bytes, by what for. */
export type Needs = Record<string, number>;

/** A model of a command. */
export interface MemoryModel {
  config: ModelConfig;
  /** Bytes of its weights, of an adapted one those of its base. */
  weights: number;
  /** What is held once for all adapters on it: the path and the form of their base. */
  base?: string;
  /** Its adapter. */
  lora?: LoraConfig;
  /** Whether it, or its adapter, is trained. */
  trained: boolean;
}

/** Bytes of models' weights and of what training adds; those of a base that is in memory already do not count again. */
export function modelNeeds(models: MemoryModel[]): Needs {
  const needs: Needs = { weights: 0, adapters: 0, "gradients and optimiser": 0 };
  const bases = new Set<string>();
  for (const { config, weights, base, lora, trained } of models) {
    const sketch = sketchModel(config, { trained, lora });
    const own = arenaBytes((sketch.adapter?.params ?? sketch.params).layout);
    if (trained) needs["gradients and optimiser"] += 3 * own;
    if (lora) needs.adapters += own;
    if (base !== undefined && bases.has(base)) continue;
    needs.weights += weights + ropeBytes(config);
    if (base !== undefined) bases.add(base);
  }
  return needs;
}

/** Bytes of the activations of a step that `record` records on a model of that shape. */
export function stepBytes(gpu: Gpu, record: (tape: Tape) => void): number {
  const tape = new Tape(gpu.profile);
  record(tape);
  return activationBytes(tape, gpu.alignment);
}

/** The model that a step is recorded with. */
export function sketchOf({ config, trained, lora }: MemoryModel): Model {
  return sketchModel(config, { trained, lora });
}

/** Bytes of keys and values of `rows` texts of up to `tokens` tokens. */
export function cacheBytes(config: ModelConfig, rows: number, tokens: number): number {
  const capacity = Math.ceil(tokens / 32) * 32;
  return 2 * config.layers * Math.ceil(rows / 8) * 8 * capacity * config.kvHeads * padded(config.headDim) * 4;
}

/** Tokens of a packed batch of `rows` texts of up to `longest` tokens. */
export function batchTokens(rows: number, longest: number): number {
  return bucket(rows * Math.ceil(longest / 8) * 8);
}

/** Another choice of options, and what would be needed then. */
export interface Alternative {
  /** As it is given on the command line. */
  flags: string;
  needs: () => Needs;
}

/** Bytes in all. */
export const totalOf = (needs: Needs): number => Object.values(needs).reduce((a, b) => a + b, 0);

/** `1.5 GB`, in the units of GPUs' data sheets. */
export function size(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.max(1, Math.round(bytes / 1e6))} MB`;
}

/**
 * Says what is needed. Where it is known what there is and it is less, throws with the alternatives that would fit.
 *
 * @param available bytes, or undefined where nobody knows
 */
export function checkMemory(
  needs: Needs,
  available: number | undefined,
  alternatives: Alternative[],
  say: (line: string) => void,
): void {
  const parts = Object.entries(needs).filter(([, bytes]) => bytes > 0).map(([what, bytes]) =>
    `${what} ${size(bytes)}`
  );
  const has = available === undefined
    ? "what the GPU has, WebGPU does not say (--gpu_memory GB)"
    : `${size(available)} free`;
  say(`memory: ${size(totalOf(needs))} needed (${parts.join(", ")}); ${has}`);
  if (available === undefined || totalOf(needs) <= available) return;
  const others = alternatives.map(({ flags, needs }) => ({ flags, bytes: totalOf(needs()) }))
    .filter(({ bytes }) => bytes < totalOf(needs));
  const short = `This needs ${size(totalOf(needs))} of memory (${parts.join(", ")}), but there are ${
    size(available)
  }.`;
  if (others.length === 0) throw new Error(`${short} Use a smaller model or shorter rows.`);
  const fitting = others.filter(({ bytes }) => bytes <= available);
  const list = (fitting.length ? fitting : others).map(({ flags, bytes }) => `  ${flags}: ${size(bytes)}`)
    .join("\n");
  throw new Error(
    `${short} ${fitting.length ? "What would fit" : "Less, but still too much, would be"}:\n${list}`,
  );
}
