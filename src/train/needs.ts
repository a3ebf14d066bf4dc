/**
 * What each training command needs, for its options and for those that would need less.
 *
 * @module
 */
import { resolve } from "node:path";
import type { Gpu } from "../gpu/device.ts";
import type { ModelConfig } from "../model/config.ts";
import { batchInputs, decoder, headOf, type Model } from "../model/decoder.ts";
import { type Dtype, frozenBytes } from "../model/frozen.ts";
import { layoutOf } from "../model/layout.ts";
import { hasUsualTargets, readAdapterConfig } from "../model/lora.ts";
import { isGguf, openModel } from "../model/open.ts";
import { baseOf, configOf, isAdapterDirectory } from "../model/peft.ts";
import { arenaBytes } from "../model/sketch.ts";
import { MOST_ROWS } from "../sample/generate.ts";
import { logits } from "../tape/ops/head.ts";
import { gather } from "../tape/ops/reduce.ts";
import type { Tape } from "../tape/tape.ts";
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
import { criticPath, type PpoOptions } from "./options/ppo.ts";
import type { RewardOptions } from "./options/reward.ts";
import type { SftOptions } from "./options/sft.ts";
import { recordUpdate } from "./ppo_update.ts";
import { recordReward } from "./reward.ts";
import { recordScoring } from "./rollout.ts";
import { recordSft } from "./sft.ts";

/** The model in a directory or file, as a command of those options holds it. */
export function memoryModel(
  path: string,
  options: ModelOptions,
  { trained, architecture }: { trained: boolean; architecture?: ModelConfig["architecture"] },
): MemoryModel {
  const own = configOf(path), config: ModelConfig = { ...own, ...(architecture && { architecture }) };
  const isAdapter = isAdapterDirectory(path), fresh = options.usePeft && trained && !isAdapter;
  if (!isAdapter && !fresh) {
    const { weights } = openModel(path);
    // A model with a fresh head is made as if it were trained.
    const whole = trained || own.architecture !== config.architecture;
    const bytes = whole
      ? arenaBytes(layoutOf(config))
      : frozenBytes(layoutOf(config), weights, dtypeOf(path, options));
    return { config, weights: bytes, trained };
  }
  const base = isAdapter ? baseOf(path) : path, dtype = dtypeOf(base, options);
  const { config: baseConfig, weights } = openModel(base);
  const lora = isAdapter ? readAdapterConfig(path).config : loraConfig(options);
  const head = architecture === "reward" && !lora.modulesToSave.includes("score") ? ["score"] : [];
  return {
    config,
    weights: frozenBytes(layoutOf(baseConfig), weights, dtype),
    base: `${dtype} ${resolve(base)}`,
    lora: { ...lora, modulesToSave: [...lora.modulesToSave, ...head] },
    trained,
  };
}

/** Form of a frozen model. */
function dtypeOf(path: string, { dtype }: ModelOptions): Dtype {
  return dtype ?? (isGguf(path) ? "as-stored" : "f32");
}

/** What a command says and decides with. */
export interface MemoryCheck {
  gpu: Gpu;
  say: (line: string) => void;
}

/** Bytes that there are: of a GPU what a person says, of a software adapter what the machine has free. */
export function availableBytes(gpu: Gpu, { gpuMemory }: ModelOptions): number | undefined {
  if (gpuMemory !== undefined) return gpuMemory * 1e9;
  return gpu.info.software ? Deno.systemMemoryInfo().available : undefined;
}

/** Options of which less memory may come. */
export type Shared = ModelOptions & {
  perDeviceTrainBatchSize: number;
  gradientAccumulationSteps: number;
  gradientCheckpointing: boolean;
  /** Of PPO. */
  localRolloutForwardBatchSize?: number;
};

/** A change of options that takes less memory, and the flags that make it. */
export interface Saving<T> {
  flags: string;
  changes: Partial<T>;
}

/** What a method allows in the way of savings. */
export interface Room<T> {
  /** Its smallest batch; 1 if not given. */
  leastBatch?: number;
  /** Savings that only it has. */
  further?: Saving<T>[];
}

/** Checks the needs of options and offers savings. */
export function checkNeeds<T extends Shared>(
  { gpu, say }: MemoryCheck,
  options: T,
  path: string,
  needsOf: (options: T) => Needs,
  room: Room<T> = {},
): void {
  checkMemory(needsOf(options), availableBytes(gpu, options), savings(options, path, needsOf, room), say);
}

/** The same command with less: what each of the usual savings, and all together, would need. */
function savings<T extends Shared>(
  options: T,
  path: string,
  needsOf: (options: T) => Needs,
  { leastBatch: least = 1, further = [] }: Room<T>,
): Alternative[] {
  const { perDeviceTrainBatchSize: batch, gradientAccumulationSteps: accumulated } = options;
  const ways: Saving<Shared>[] = [...further as Saving<Shared>[]];
  if (!options.gradientCheckpointing) {
    ways.push({ flags: "--gradient_checkpointing true", changes: { gradientCheckpointing: true } });
  }
  if (batch > least) {
    const passes = Math.ceil(batch * accumulated / least);
    ways.push({
      flags: `--per_device_train_batch_size ${least} --gradient_accumulation_steps ${passes}`,
      changes: { perDeviceTrainBatchSize: least, gradientAccumulationSteps: passes },
    });
  }
  if ((options.localRolloutForwardBatchSize ?? 1) > 1) {
    ways.push({
      flags: "--local_rollout_forward_batch_size 1",
      changes: { localRolloutForwardBatchSize: 1 },
    });
  }
  const adapted = options.usePeft || isAdapterDirectory(path);
  if (!adapted) {
    const named = options.loraTargetModules !== undefined || hasUsualTargets(configOf(path).family);
    ways.push({
      flags: `--use_peft true${named ? "" : " --lora_target_modules all-linear"}`,
      changes: { usePeft: true, ...(!named && { loraTargetModules: ["all-linear"] }) },
    });
  }
  const all = {
    flags: ways.map(({ flags }) => flags).join(" "),
    changes: Object.assign({}, ...ways.map(({ changes }) => changes)) as Partial<Shared>,
  };
  const smallest = {
    flags: `${all.flags} --dtype q8_0`.trim(),
    changes: { ...all.changes, dtype: "q8_0" as const },
  };
  return [...ways, ...(ways.length > 1 ? [all] : []), ...(options.dtype === "q8_0" ? [] : [smallest])]
    .map(({ flags, changes }) => ({ flags, needs: () => needsOf({ ...options, ...changes }) }));
}

/** What SFT needs; `longest` is the tokens of the longest row. */
export function sftNeeds(gpu: Gpu, options: SftOptions, path: string, longest: number): Needs {
  const model = memoryModel(path, options, { trained: true });
  const tokens = batchTokens(options.perDeviceTrainBatchSize, longest);
  const activations = stepBytes(gpu, (tape) => recordSft(tape, sketchOf(model), tokens, options));
  return { ...modelNeeds([model]), activations };
}

/** Checks the memory of SFT. */
export function checkSftMemory(to: MemoryCheck, options: SftOptions, path: string, longest: number): void {
  checkNeeds(to, options, path, (options) => sftNeeds(to.gpu, options, path, longest));
}

/** What a reward model's training needs; `longest` is the tokens of the longest pair, both sides together. */
export function rewardNeeds(gpu: Gpu, options: RewardOptions, path: string, longest: number): Needs {
  const model = memoryModel(path, options, { trained: true, architecture: "reward" });
  const pairs = options.perDeviceTrainBatchSize, tokens = batchTokens(pairs, longest + 8);
  const record = (tape: Tape) => recordReward(tape, sketchOf(model), tokens, pairs, options);
  return { ...modelNeeds([model]), activations: stepBytes(gpu, record) };
}

/** Checks the memory of a reward model's training. */
export function checkRewardMemory(
  to: MemoryCheck,
  options: RewardOptions,
  path: string,
  longest: number,
): void {
  checkNeeds(to, options, path, (options) => rewardNeeds(to.gpu, options, path, longest));
}

/** What PPO needs; `longest` is the tokens of the longest prompt. */
export function ppoNeeds(gpu: Gpu, options: PpoOptions, path: string, longest: number): Needs {
  const frozen = { ...options, usePeft: false };
  const policy = memoryModel(path, options, { trained: true });
  const value = memoryModel(criticPath(options, path), options, { trained: true, architecture: "reward" });
  const rewards = (options.rewardModelPath ?? []).map((judge) =>
    memoryModel(judge, frozen, { trained: false, architecture: "reward" })
  );
  const models = [policy, value, ...rewards];
  const reference = options.usePeft ? policy : memoryModel(path, frozen, { trained: false });
  // The policy without its fresh adapter is its own reference.
  if (!options.usePeft) models.push(reference);
  const rollouts = options.perDeviceTrainBatchSize * options.gradientAccumulationSteps;
  const whole = longest + options.responseLength;
  const sampled = Math.min(MOST_ROWS, rollouts),
    scored = Math.min(options.localRolloutForwardBatchSize, rollouts);
  const learned = Math.min(options.perDeviceTrainBatchSize, rollouts / options.numMiniBatches);
  // Sampling, scoring and learning take turns in the same memory.
  const activations = Math.max(
    prefillBytes(gpu, sketchOf(policy), sampled, longest),
    stepBytes(gpu, (tape) =>
      recordScoring(tape, {
        policy: sketchOf(policy),
        reference: sketchOf(reference),
        reward: rewards[0] && sketchOf(rewards[0]),
        value: sketchOf(value),
      }, { tokens: batchTokens(scored, whole), rows: scored, temperature: 1 })),
    stepBytes(gpu, (tape) =>
      recordUpdate(tape, sketchOf(policy), sketchOf(value), {
        tokens: batchTokens(learned, whole),
        temperature: 1,
        bonus: true,
        dualClip: true,
        checkpointing: options.gradientCheckpointing,
      })),
  );
  return { ...modelNeeds(models), activations, "KV cache": cacheBytes(policy.config, sampled, whole) };
}

/** Bytes of activations while `prompts` prompts of `rows` rows in all are read, to the logits of their next tokens. */
export function prefillBytes(gpu: Gpu, model: Model, rows: number, longest: number, prompts = rows): number {
  const tokens = batchTokens(prompts, longest);
  return stepBytes(gpu, (tape) => {
    const hidden = decoder(tape, model, batchInputs(tape, tokens), { frozen: true });
    const last = gather(tape, hidden, tape.input("last", [rows], "u32"));
    tape.output("logits", logits(tape, last, headOf(tape, model, true)).logits);
  });
}

/** Checks the memory of PPO. */
export function checkPpoMemory(to: MemoryCheck, options: PpoOptions, path: string, longest: number): void {
  checkNeeds(to, options, path, (options) => ppoNeeds(to.gpu, options, path, longest));
}
