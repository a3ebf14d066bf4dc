/**
 * What training on preferences needs, for its options and for those that would need less.
 *
 * @module
 */
import type { Gpu } from "../gpu/device.ts";
import { batchTokens, type MemoryModel, modelNeeds, type Needs, sketchOf, stepBytes } from "./memory.ts";
import { checkNeeds, type MemoryCheck, memoryModel, type Saving, type Shared } from "./needs.ts";
import type { CpoOptions } from "./options/cpo.ts";
import type { DpoOptions } from "./options/dpo.ts";
import type { KtoOptions } from "./options/kto.ts";
import type { ModelOptions } from "./options/model.ts";
import type { OrpoOptions } from "./options/orpo.ts";
import type { ReferenceOptions } from "./options/reference.ts";
import { recordPass } from "./policy_pass.ts";

/** A reference that is a model of its own. */
function referenceModels(options: ModelOptions & ReferenceOptions, path: string): MemoryModel[] {
  const { refModel, precomputeRefLogProbs, syncRefModel, usePeft, dtype } = options;
  if (refModel === undefined && (usePeft || precomputeRefLogProbs)) return [];
  const held = { ...options, usePeft: false, dtype: syncRefModel ? "f32" as const : dtype };
  return [memoryModel(refModel ?? path, held, { trained: false })];
}

/** Needs of a policy that learns from passes of `tokens` tokens, and of other models beside it. */
function passNeeds(gpu: Gpu, options: Shared, path: string, tokens: number, others: MemoryModel[]): Needs {
  const policy = memoryModel(path, options, { trained: true });
  // The reference scores with the memory that the policy learns with.
  const activations = stepBytes(gpu, (tape) =>
    recordPass(tape, sketchOf(policy), {
      tokens,
      temperature: 1,
      checkpointing: options.gradientCheckpointing,
      withStatistics: true,
    }));
  return { ...modelNeeds([policy, ...others]), activations };
}

/** What a method on pairs needs; `longest` is the tokens of the longest pair, both sides together. */
export function pairNeeds(
  gpu: Gpu,
  options: Shared & Partial<ReferenceOptions>,
  path: string,
  longest: number,
): Needs {
  const others = options.syncRefModel === undefined
    ? []
    : referenceModels(options as Shared & ReferenceOptions, path);
  const tokens = batchTokens(options.perDeviceTrainBatchSize, longest + 8);
  return passNeeds(gpu, options, path, tokens, others);
}

/** What KTO needs; `longest` is the tokens of the longest answer with a prompt, be it its own or another. */
export function ktoNeeds(gpu: Gpu, options: KtoOptions, path: string, longest: number): Needs {
  const tokens = batchTokens(options.perDeviceTrainBatchSize, longest);
  return passNeeds(gpu, options, path, tokens, referenceModels(options, path));
}

/** Checks the memory of DPO. */
export function checkDpoMemory(to: MemoryCheck, options: DpoOptions, path: string, longest: number): void {
  const { precomputeRefLogProbs, syncRefModel, usePeft, refModel } = options;
  const further: Saving<DpoOptions>[] =
    precomputeRefLogProbs || syncRefModel || usePeft || refModel !== undefined
      ? []
      : [{ flags: "--precompute_ref_log_probs true", changes: { precomputeRefLogProbs: true } }];
  checkNeeds(to, options, path, (options) => pairNeeds(to.gpu, options, path, longest), { further });
}

/** Checks the memory of KTO. */
export function checkKtoMemory(to: MemoryCheck, options: KtoOptions, path: string, longest: number): void {
  const leastBatch = options.lossType === "kto" ? 2 : 1;
  checkNeeds(to, options, path, (options) => ktoNeeds(to.gpu, options, path, longest), { leastBatch });
}

/** Checks the memory of ORPO. */
export function checkOrpoMemory(to: MemoryCheck, options: OrpoOptions, path: string, longest: number): void {
  checkNeeds(to, options, path, (options) => pairNeeds(to.gpu, options, path, longest));
}

/** Checks the memory of CPO. */
export function checkCpoMemory(to: MemoryCheck, options: CpoOptions, path: string, longest: number): void {
  checkNeeds(to, options, path, (options) => pairNeeds(to.gpu, options, path, longest));
}
