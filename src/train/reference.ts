/**
 * The reference of methods on preferences: which model it is, and what may be done with it.
 *
 * @module
 */
import type { Gpu } from "../gpu/device.ts";
import { frozenCopy } from "../model/blend.ts";
import type { Model } from "../model/decoder.ts";
import { loadFrozen, loadModel } from "../model/load.ts";
import { loadReference } from "./open_model.ts";
import type { ModelOptions } from "./options/model.ts";
import type { ReferenceOptions } from "./options/reference.ts";

/** Throws where a reference that moves cannot be had. */
export function checkMoving(model: { adapter?: unknown }, options: ReferenceOptions): void {
  if (!options.syncRefModel) return;
  if (model.adapter) {
    throw new Error(
      "sync_ref_model moves a reference of the policy's shape, but the reference of an adapter is its base. Leave sync_ref_model out, or train the whole model.",
    );
  }
  if (options.precomputeRefLogProbs) {
    throw new Error(
      "precompute_ref_log_probs is for a reference that stays as it is, but sync_ref_model moves it. Leave one of the two out.",
    );
  }
}

/**
 * The reference of a policy that `path` was loaded as; nothing where the policy itself, before its first step, will do.
 */
export function preferenceReference(
  gpu: Gpu,
  path: string,
  policy: Model,
  options: ModelOptions & ReferenceOptions,
): Model | undefined {
  const { refModel, syncRefModel, precomputeRefLogProbs, dtype } = options;
  if (refModel !== undefined) {
    if (!syncRefModel) return loadFrozen(gpu, refModel, dtype);
    const reference = loadModel(gpu, refModel), weights = (model: Model) => model.params.layout.count;
    if (weights(reference) !== weights(policy)) {
      throw new Error(
        `The reference in ${refModel} has ${weights(reference)} weights, the policy in ${path} has ${
          weights(policy)
        }. A reference that moves towards the policy must have its shape.`,
      );
    }
    return reference;
  }
  if (precomputeRefLogProbs) return undefined;
  return syncRefModel ? frozenCopy(gpu, policy) : loadReference(gpu, path, policy, options);
}
