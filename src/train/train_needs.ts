/**
 * What the whole job needs: that of its stage that needs most.
 *
 * @module
 */
import type { Gpu } from "../gpu/device.ts";
import { isAdapterDirectory } from "../model/peft.ts";
import { checkMemory, type Needs, totalOf } from "./memory.ts";
import { availableBytes, type MemoryCheck, ppoNeeds, rewardNeeds, sftNeeds } from "./needs.ts";
import { modelFields, type ModelOptions } from "./options/model.ts";
import { stageOptions } from "./options/stages.ts";
import type { TrainOptions } from "./options/train.ts";

/** Tokens of the longest demonstration, pair (both sides together) and prompt. */
export interface Longest {
  text: number;
  pair: number;
  prompt: number;
}

/** What the stage that needs most needs. */
export function trainNeeds(gpu: Gpu, options: TrainOptions, path: string, longest: Longest): Needs {
  const stages = stageOptions(options);
  const model = Object.fromEntries(
    Object.keys(modelFields).map((name) => [name, options[name as keyof ModelOptions]]),
  ) as unknown as ModelOptions;
  const all = [
    sftNeeds(gpu, { ...stages.sft, ...model }, path, longest.text),
    rewardNeeds(gpu, { ...stages.reward, ...model }, path, longest.pair),
    ppoNeeds(gpu, { ...stages.ppo, ...model, rewardModelPath: [path] }, path, longest.prompt),
  ];
  return all.reduce((most, needs) => totalOf(needs) > totalOf(most) ? needs : most);
}

/** Checks the memory of the whole job. */
export function checkTrainMemory(
  { gpu, say }: MemoryCheck,
  options: TrainOptions,
  path: string,
  longest: Longest,
): void {
  const small = { sftBatchSize: 1, rewardBatchSize: 1, ppoBatchSize: 4 };
  const ways: { flags: string; changes: Partial<TrainOptions> }[] = [
    { flags: "--sft_batch_size 1 --reward_batch_size 1 --ppo_batch_size 4", changes: small },
  ];
  if (!options.usePeft && !isAdapterDirectory(path)) {
    const adapters = { usePeft: true, loraTargetModules: options.loraTargetModules ?? ["all-linear"] };
    ways.push({ flags: "--use_peft true --lora_target_modules all-linear", changes: adapters });
    ways.push({
      flags: `${ways[0].flags} --use_peft true --lora_target_modules all-linear --dtype q8_0`,
      changes: { ...small, ...adapters, dtype: "q8_0" },
    });
  }
  const alternatives = ways.map(({ flags, changes }) => ({
    flags,
    needs: () => trainNeeds(gpu, { ...options, ...changes }, path, longest),
  }));
  checkMemory(trainNeeds(gpu, options, path, longest), availableBytes(gpu, options), alternatives, say);
}
