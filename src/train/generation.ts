/**
 * When completions are sampled and how long they last: TRL's generation batches.
 *
 * A generation batch is learnt from in micro-batches of `per_device_train_batch_size`, as many as `steps_per_generation`, and
 * that `num_iterations` times over; an optimiser step takes `gradient_accumulation_steps` of them.
 *
 * @module
 */
import type { OnlineOptions } from "./options/online.ts";

/** Options that the plan is made of. */
export type GenerationOptions = Pick<
  OnlineOptions,
  | "numGenerations"
  | "generationBatchSize"
  | "stepsPerGeneration"
  | "numIterations"
  | "perDeviceTrainBatchSize"
  | "gradientAccumulationSteps"
>;

/** Sizes of generation batches. */
export interface GenerationPlan {
  /** Completions of a batch. */
  size: number;
  /** Prompts of a batch. */
  prompts: number;
  /** Micro-batches that a batch is cut into. */
  slices: number;
  /** Micro-batches until the next batch is sampled. */
  every: number;
}

/** The plan that options ask for. */
export function generationPlan(options: GenerationOptions): GenerationPlan {
  const { numGenerations, generationBatchSize, stepsPerGeneration, perDeviceTrainBatchSize: batch } = options;
  if (generationBatchSize !== undefined && stepsPerGeneration !== undefined) {
    throw new Error("generation_batch_size and steps_per_generation say the same. Give one of them.");
  }
  const size = generationBatchSize ?? batch * (stepsPerGeneration ?? options.gradientAccumulationSteps);
  const what = generationBatchSize === undefined
    ? `per_device_train_batch_size × ${
      stepsPerGeneration === undefined ? "gradient_accumulation_steps" : "steps_per_generation"
    } = ${size} completions`
    : `generation_batch_size = ${size} completions`;
  if (size % batch) {
    throw new Error(
      `${what} cannot be cut into batches of ${batch}. Expected a multiple of per_device_train_batch_size.`,
    );
  }
  if (size % numGenerations) {
    throw new Error(
      `${what} are not whole groups of num_generations = ${numGenerations}. Expected a multiple of num_generations.`,
    );
  }
  const slices = size / batch;
  return { size, prompts: size / numGenerations, slices, every: slices * options.numIterations };
}

/** Optimiser steps of one pass over `prompts` prompts; not a whole number. */
export function stepsOfEpoch(prompts: number, options: GenerationOptions): number {
  const step = options.perDeviceTrainBatchSize * options.gradientAccumulationSteps;
  return prompts * options.numGenerations * options.numIterations / step;
}

/** Optimiser steps of a run: `maxSteps` where it is positive, else the epochs. */
export function onlineSteps(
  options: GenerationOptions & Pick<OnlineOptions, "maxSteps" | "numTrainEpochs">,
  prompts: number,
): number {
  if (options.maxSteps > 0) return options.maxSteps;
  return Math.max(1, Math.ceil(options.numTrainEpochs * stepsOfEpoch(prompts, options)));
}
