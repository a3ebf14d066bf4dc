/**
 * A reference that follows the policy (TR-DPO, arXiv 2404.09656).
 *
 * @module
 */
import { write } from "../gpu/buffers.ts";
import type { Gpu } from "../gpu/device.ts";
import { follow } from "../model/blend.ts";
import type { Model } from "../model/decoder.ts";
import { packWeights, readParams } from "../model/params.ts";
import type { CheckpointFiles } from "./learner.ts";

/** A reference that moves; its weights are part of a checkpoint. */
export interface MovingReference {
  /** Sets the reference to α·policy + (1 − α)·reference. */
  move(alpha: number): void;
  /** Its weights, as the file `reference_model`. */
  files(): Promise<CheckpointFiles>;
  /** Restores what {@linkcode MovingReference.files} returned. */
  restore(files: CheckpointFiles): void;
}

/** Name of its file in a checkpoint. */
const FILE = "reference_model";

/** Makes a reference move. It must be whole and in float32, as the policy is. */
export function movingReference(gpu: Gpu, reference: Model | undefined, policy: Model): MovingReference {
  if (!reference) {
    throw new Error("sync_ref_model moves the reference, but without a KL penalty there is none. Give beta.");
  }
  const { params } = reference;
  if (policy.adapter || reference.adapter || params.stored?.size || params.values === policy.params.values) {
    throw new Error(
      "sync_ref_model needs policy and reference whole and in float32. Leave out --use_peft and --dtype.",
    );
  }
  return {
    move: follow(gpu, reference, policy),
    files: async () => ({ [FILE]: await readParams(gpu, params) }),
    restore(files) {
      if (!files[FILE]) {
        throw new Error("The checkpoint has no reference that moves. Leave out --sync_ref_model.");
      }
      write(gpu, params.values, packWeights(params.layout, (name) => files[FILE][name]));
    },
  };
}
