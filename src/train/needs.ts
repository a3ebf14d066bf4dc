/**
 * What each training command needs, for its options and for those that would need less.
 *
 * @module
 */
import type { Gpu } from "../gpu/device.ts";
import type { ModelConfig } from "../model/config.ts";
import { type LoraConfig, readAdapterConfig } from "../model/lora.ts";
import { configOf, isAdapterDirectory } from "../model/peft.ts";
import { openMerged } from "../model/merge.ts";
import { isGguf } from "../model/open.ts";
import {
  type Alternative,
  batchTokens,
  cacheBytes,
  checkMemory,
  type MemoryModel,
  modelNeeds,
  type Needs,
  sketchOf,
  stepBytes,
} from "./memory.ts";
import { loraConfig, type ModelOptions } from "./options/model.ts";
import type { PpoOptions } from "./options/ppo.ts";
import type { RewardOptions } from "./options/reward.ts";
import type { SftOptions } from "./options/sft.ts";
import { recordUpdate } from "./ppo_update.ts";
import { recordReward } from "./reward.ts";
import { recordSft } from "./sft.ts";

/** The model in a directory or file, as a command of those options holds it. */
function memoryModel(
  path: string,
  options: ModelOptions,
  { trained, architecture }: { trained: boolean; architecture?: ModelConfig["architecture"] },
): MemoryModel {
  const config: ModelConfig = { ...configOf(path), ...(architecture && { architecture }) };
  const tensors = [...openMerged(path).weights.tensors.values()];
  const bytes = tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
  const elements = tensors.reduce((sum, tensor) => sum + tensor.elements, 0);
  let lora: LoraConfig | undefined;
  if (isAdapterDirectory(path)) lora = readAdapterConfig(path).config;
  else if (options.usePeft && trained) lora = loraConfig(options);
  const head = architecture === "reward" && lora && !lora.modulesToSave.includes("score") ? ["score"] : [];
  return {
    config,
    dtype: options.dtype ?? (isGguf(path) ? "as-stored" : "f32"),
    storedBits: bytes * 8 / elements,
    trained,
    ...(lora && { lora: { ...lora, modulesToSave: [...lora.modulesToSave, ...head] } }),
  };
}

/** What a command says and decides with. */
export interface MemoryCheck {
  gpu: Gpu;
  say: (line: string) => void;
}

/** Bytes that there are: of a GPU what a person says, of a software adapter what the machine has free. */
function availableBytes(gpu: Gpu, { gpuMemory }: ModelOptions): number | undefined {
  if (gpuMemory !== undefined) return gpuMemory * 1e9;
  return gpu.info.software ? Deno.systemMemoryInfo().available : undefined;
}

/** Checks the needs of options and offers savings. */
function check<T extends Shared>(
  { gpu, say }: MemoryCheck,
  options: T,
  needsOf: (options: T) => Needs,
): void {
  checkMemory(needsOf(options), availableBytes(gpu, options), savings(options, needsOf), say);
}

type Shared = ModelOptions & {
  perDeviceTrainBatchSize: number;
  gradientAccumulationSteps: number;
  gradientCheckpointing: boolean;
};

/** The same command with less: what each of the usual savings, and all together, would need. */
function savings<T extends Shared>(options: T, needsOf: (options: T) => Needs): Alternative[] {
  const alternatives: Alternative[] = [];
  const add = (flags: string, changes: Partial<Shared>) =>
    alternatives.push({ flags, needs: () => needsOf({ ...options, ...changes }) });
  const { perDeviceTrainBatchSize: batch, gradientAccumulationSteps: accumulated } = options;
  const checkpointing = options.gradientCheckpointing ? "" : "--gradient_checkpointing true";
  const smaller = batch > 1
    ? `--per_device_train_batch_size 1 --gradient_accumulation_steps ${batch * accumulated}`
    : "";
  const adapters = options.usePeft ? "" : "--use_peft true";
  const small = { perDeviceTrainBatchSize: 1, gradientAccumulationSteps: batch * accumulated };
  if (checkpointing) add(checkpointing, { gradientCheckpointing: true });
  if (smaller) add(smaller, small);
  if (adapters) add(adapters, { usePeft: true });
  const all = [checkpointing, smaller, adapters].filter(Boolean);
  if (all.length > 1) add(all.join(" "), { gradientCheckpointing: true, ...small, usePeft: true });
  add([...all, "--dtype q8_0"].join(" "), {
    gradientCheckpointing: true,
    ...small,
    usePeft: true,
    dtype: "q8_0",
  });
  return alternatives;
}

/** Checks the memory of SFT; `longest` is the tokens of the longest row. */
export function checkSftMemory(to: MemoryCheck, options: SftOptions, path: string, longest: number): void {
  const needsOf = (o: SftOptions): Needs => {
    const model = memoryModel(path, o, { trained: true });
    const tokens = batchTokens(o.perDeviceTrainBatchSize, longest);
    const activations = stepBytes(to.gpu, (tape) => recordSft(tape, sketchOf(model), tokens, o));
    return { ...modelNeeds([model]), activations };
  };
  check(to, options, needsOf);
}

/** Checks the memory of a reward model's training; `longest` is the tokens of the longest pair, both sides together. */
export function checkRewardMemory(
  to: MemoryCheck,
  options: RewardOptions,
  path: string,
  longest: number,
): void {
  const needsOf = (o: RewardOptions): Needs => {
    const model = memoryModel(path, o, { trained: true, architecture: "reward" });
    const pairs = o.perDeviceTrainBatchSize, tokens = batchTokens(pairs, longest + 8);
    const record = (tape: Parameters<typeof recordReward>[0]) =>
      recordReward(tape, sketchOf(model), tokens, pairs, o);
    return { ...modelNeeds([model]), activations: stepBytes(to.gpu, record) };
  };
  check(to, options, needsOf);
}

/** Checks the memory of PPO; `longest` is the tokens of the longest prompt. */
export function checkPpoMemory(to: MemoryCheck, options: PpoOptions, path: string, longest: number): void {
  const needsOf = (o: PpoOptions): Needs => {
    const critic = o.criticInit === "reward" ? o.rewardModelPath : path;
    const policy = memoryModel(path, o, { trained: true });
    const value = memoryModel(critic, o, { trained: true, architecture: "reward" });
    const reference = memoryModel(path, { ...o, usePeft: false }, { trained: false });
    const reward = memoryModel(o.rewardModelPath, { ...o, usePeft: false }, {
      trained: false,
      architecture: "reward",
    });
    const models = o.usePeft ? [policy, value, reward] : [policy, value, reference, reward];
    const rollouts = o.perDeviceTrainBatchSize * o.gradientAccumulationSteps;
    const whole = longest + o.responseLength;
    const tokens = batchTokens(Math.min(o.perDeviceTrainBatchSize, rollouts / o.numMiniBatches), whole);
    const activations = stepBytes(to.gpu, (tape) =>
      recordUpdate(tape, sketchOf(policy), sketchOf(value), {
        tokens,
        temperature: 1,
        bonus: true,
        checkpointing: o.gradientCheckpointing,
      }));
    return {
      ...modelNeeds(models),
      activations,
      "KV cache": cacheBytes(policy.config, Math.min(256, rollouts), whole),
    };
  };
  check(to, options, needsOf);
}
