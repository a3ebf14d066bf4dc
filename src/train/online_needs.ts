/**
 * What the online methods without a critic need, for their options and for those that would need less.
 *
 * @module
 */
import type { Gpu } from "../gpu/device.ts";
import { weightOf } from "../model/block.ts";
import { batchInputs, decoder } from "../model/decoder.ts";
import type { KlEstimator } from "../rl/kl.ts";
import { MOST_ROWS } from "../sample/generate.ts";
import { scalarHead } from "../tape/ops/linear.ts";
import { type GenerationOptions, generationPlan } from "./generation.ts";
import { batchTokens, cacheBytes, modelNeeds, type Needs, sketchOf, stepBytes } from "./memory.ts";
import { checkNeeds, type MemoryCheck, memoryModel, prefillBytes } from "./needs.ts";
import type { ModelOptions } from "./options/model.ts";
import type { OnlineDpoOptions } from "./options/online_dpo.ts";
import type { OnlineOptions } from "./options/online.ts";
import { recordPass } from "./policy_pass.ts";

/** Options of any of the methods. */
export type AnyOnlineOptions = OnlineOptions & { beta: number; klEstimator: KlEstimator };

/** What their memory depends on. */
export type OnlineShape =
  & ModelOptions
  & GenerationOptions
  & Pick<
    AnyOnlineOptions,
    | "beta"
    | "gradientCheckpointing"
    | "localRolloutForwardBatchSize"
    | "maxCompletionLength"
    | "rewardModelPath"
    | "syncRefModel"
  >
  & Partial<Pick<AnyOnlineOptions, "klEstimator">>;

/** What such a method needs; `longest` is the tokens of the longest prompt. */
export function onlineNeeds(gpu: Gpu, options: OnlineShape, path: string, longest: number): Needs {
  const frozen = { ...options, usePeft: false };
  const policy = memoryModel(path, options, { trained: true });
  const rewards = (options.rewardModelPath ?? []).map((one) =>
    memoryModel(one, frozen, { trained: false, architecture: "reward" })
  );
  const penalised = options.beta !== 0, exact = penalised && options.klEstimator === "exact";
  const reference = options.usePeft
    ? policy
    : memoryModel(path, options.syncRefModel ? { ...frozen, dtype: "f32" } : frozen, { trained: false });
  // The policy without its fresh adapter is its own reference.
  const references = penalised && !options.usePeft ? [reference] : [];
  const { size } = generationPlan(options), whole = longest + options.maxCompletionLength;
  const sampled = Math.min(MOST_ROWS, size), scored = Math.min(options.localRolloutForwardBatchSize, size);
  const pass = (rows: number, frozen: boolean) =>
    stepBytes(gpu, (tape) =>
      recordPass(tape, sketchOf(policy), {
        tokens: batchTokens(rows, whole),
        temperature: 1,
        checkpointing: options.gradientCheckpointing,
        frozen,
        ...(exact && { reference: sketchOf(reference) }),
      }));
  const scoring = rewards.map((model) =>
    stepBytes(gpu, (tape) => {
      const sketch = sketchOf(model), batch = batchInputs(tape, batchTokens(scored, whole));
      const hidden = decoder(tape, sketch, batch, { frozen: true });
      tape.output("scores", scalarHead(tape, hidden, weightOf(tape, sketch, "score", true)));
    })
  );
  return {
    ...modelNeeds([policy, ...references, ...rewards]),
    // Sampling, scoring and learning take turns in the same memory.
    activations: Math.max(
      prefillBytes(gpu, sketchOf(policy), sampled, longest),
      pass(options.perDeviceTrainBatchSize, false),
      ...penalised ? [pass(scored, true)] : [],
      ...scoring,
    ),
    "KV cache": cacheBytes(policy.config, sampled, whole),
  };
}

/** Checks the memory of such a method. */
export function checkOnlineMemory(
  to: MemoryCheck,
  options: AnyOnlineOptions,
  path: string,
  longest: number,
): void {
  checkNeeds(to, options, path, (options) => onlineNeeds(to.gpu, options, path, longest));
}

/** Checks the memory of online DPO: every prompt has two completions, both of which are learnt from at once. */
export function checkOnlineDpoMemory(
  to: MemoryCheck,
  options: OnlineDpoOptions,
  path: string,
  longest: number,
): void {
  const alike = (options: OnlineDpoOptions): OnlineShape => ({
    ...options,
    numGenerations: 2,
    numIterations: 1,
    maxCompletionLength: options.maxNewTokens,
    perDeviceTrainBatchSize: 2 * options.perDeviceTrainBatchSize,
    localRolloutForwardBatchSize: 2 * options.perDeviceTrainBatchSize,
    beta: options.beta[0],
    syncRefModel: false,
  });
  checkNeeds(to, options, path, (options) => onlineNeeds(to.gpu, alike(options), path, longest));
}
