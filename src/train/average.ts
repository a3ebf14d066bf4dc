/**
 * A moving average of a policy's weights.
 *
 * @module
 */
import type { Gpu } from "../gpu/device.ts";
import { readFloats, write } from "../gpu/buffers.ts";
import { follow, frozenCopy, trainedParams } from "../model/blend.ts";
import type { Model } from "../model/decoder.ts";
import { destroyParams, packWeights, unpackWeights } from "../model/params.ts";
import type { CheckpointFiles } from "./learner.ts";

/** An exponential moving average of a model that is trained. */
export interface Average {
  /** Its model, frozen. */
  model: Model;
  /** average ← decay · average + (1 − decay) · weights. */
  update(): void;
  /** Its part of a checkpoint. */
  files(): Promise<CheckpointFiles>;
  /** Restores what {@linkcode files} returned. */
  restore(files: CheckpointFiles): void;
  /** Frees its weights. */
  close(): void;
}

/** An average that begins at the weights of `policy`. */
export function openAverage(gpu: Gpu, policy: Model, decay: number): Average {
  const model = frozenCopy(gpu, policy), params = trainedParams(model);
  const moveTowards = follow(gpu, model, policy);
  return {
    model,
    update: () => moveTowards(1 - decay),
    files: async () => ({ ema_model: unpackWeights(params.layout, await readFloats(gpu, params.values)) }),
    restore({ ema_model: weights }) {
      if (!weights) {
        throw new Error("The checkpoint has no moving average of the policy. Leave out --ema_decay.");
      }
      write(gpu, params.values, packWeights(params.layout, (name) => weights[name]));
    },
    close: () => destroyParams(params),
  };
}
