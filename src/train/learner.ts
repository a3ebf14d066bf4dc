/**
 * A model that is being trained: its optimiser, its state on disk, and what happens when a gradient is not finite.
 *
 * @module
 */
import type { Gpu } from "../gpu/device.ts";
import { readFloats, write } from "../gpu/buffers.ts";
import type { Model } from "../model/decoder.ts";
import { type HostWeights, makeTrainable, packWeights, unpackWeights } from "../model/params.ts";
import { type AdamwSettings, openOptimizer, type StepResult } from "./optimizer.ts";

/** Tensors of a checkpoint by file name (without extension). */
export type CheckpointFiles = Record<string, HostWeights>;

/** A model under training. */
export interface Learner {
  model: Model;
  /** Optimiser steps taken. */
  readonly steps: number;
  /** Applies the gradients accumulated since the last call, or drops them where they, or the loss if it is given, are not finite. */
  step(settings: AdamwSettings, loss?: number): Promise<StepResult>;
  /** Drops the gradients accumulated since the last call. */
  discard(): void;
  /** Weights and optimiser state, as files `<prefix>model`, or `<prefix>adapter_model`, and `<prefix>optimizer`. */
  files(prefix?: string): Promise<CheckpointFiles>;
  /** Restores what {@linkcode files} returned after `steps` optimiser steps. */
  restore(files: CheckpointFiles, steps: number, prefix?: string): void;
  /** Frees gradients and moments; the weights stay with the model. */
  close(): void;
}

/** Makes `model` trainable: all its weights, or of an adapted model the adapter's. */
export function openLearner(gpu: Gpu, model: Model): Learner {
  const { adapter } = model;
  const params = makeTrainable(gpu, adapter ? adapter.params : model.params);
  const trained: Model = adapter ? { ...model, adapter: { ...adapter, params } } : { ...model, params };
  const weightsFile = adapter ? "adapter_model" : "model";
  const optimizer = openOptimizer(gpu, params);
  const { moment1, moment2 } = params.training;
  const { layout } = params;

  return {
    model: trained,
    get steps() {
      return optimizer.steps;
    },
    async step(settings, loss) {
      if (loss === undefined || Number.isFinite(loss)) return await optimizer.step(settings);
      optimizer.discard();
      return { gradNorm: NaN, skipped: true };
    },
    discard: () => optimizer.discard(),
    async files(prefix = "") {
      const [values, first, second] = [
        await readFloats(gpu, params.values),
        await readFloats(gpu, moment1),
        await readFloats(gpu, moment2),
      ].map((arena) => unpackWeights(layout, arena));
      const moments: HostWeights = {};
      for (const name of Object.keys(values)) {
        moments[`exp_avg.${name}`] = first[name];
        moments[`exp_avg_sq.${name}`] = second[name];
      }
      return { [prefix + weightsFile]: values, [`${prefix}optimizer`]: moments };
    },
    restore(files, steps, prefix = "") {
      const moments = files[`${prefix}optimizer`], weights = files[prefix + weightsFile];
      write(gpu, params.values, packWeights(layout, (name) => weights[name]));
      write(gpu, moment1, packWeights(layout, (name) => moments[`exp_avg.${name}`]));
      write(gpu, moment2, packWeights(layout, (name) => moments[`exp_avg_sq.${name}`]));
      optimizer.steps = steps;
    },
    close() {
      for (const { buffer } of Object.values(params.training)) buffer.destroy();
    },
  };
}
