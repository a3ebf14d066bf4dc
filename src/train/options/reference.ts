/**
 * Options of methods that hold a policy near a reference, under TRL's names.
 *
 * @module
 */
import { z } from "zod";
import { count, GROUPS, option } from "./common.ts";

/** Options of the reference. */
export interface ReferenceOptions {
  /** The reference, where it is not the model as it begins. */
  refModel?: string;
  /** Computes the reference's log-probabilities once, before the first step. */
  precomputeRefLogProbs: boolean;
  /** Rows in one pass of that; the training batch's if not given. */
  precomputeRefBatchSize?: number;
  /** Moves the reference towards the policy (TR-DPO, arXiv 2404.09656). */
  syncRefModel: boolean;
  /** Share of the policy in the moved reference. */
  refModelMixupAlpha: number;
  /** Steps between two moves. */
  refModelSyncSteps: number;
}

/** Schema of {@linkcode ReferenceOptions}, field by field. */
export const referenceFields = {
  refModel: option(
    GROUPS.method,
    "The reference, where it is not the model as it begins: a directory, a GGUF file or a name on the Hub, with the same tokenizer.",
    z.string().min(1).optional(),
    ["ref_model_name_or_path"],
  ),
  precomputeRefLogProbs: option(
    GROUPS.method,
    "Compute the reference's log-probabilities of all rows once, before the first step, so that it need not stay in memory.",
    z.boolean().default(false),
  ),
  precomputeRefBatchSize: option(
    GROUPS.method,
    "Rows in one pass of that computation; those of a training pass if not given.",
    count(1).optional(),
  ),
  syncRefModel: option(
    GROUPS.method,
    "Move the reference towards the policy every ref_model_sync_steps (TR-DPO, arXiv 2404.09656).",
    z.boolean().default(false),
  ),
  refModelMixupAlpha: option(
    GROUPS.method,
    "Share a of the policy in a move: reference <- (1 - a) * reference + a * policy.",
    z.number().min(0).max(1).default(0.6),
  ),
  refModelSyncSteps: option(GROUPS.method, "Steps between two moves.", count(1).default(512)),
};
