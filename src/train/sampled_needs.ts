/**
 * What commands need that sample several completions of each prompt and have them scored.
 *
 * @module
 */
import type { Gpu } from "../gpu/device.ts";
import { batchInputs, decoder } from "../model/decoder.ts";
import { weightOf } from "../model/block.ts";
import { MOST_ROWS } from "../sample/generate.ts";
import { scalarHead } from "../tape/ops/linear.ts";
import {
  batchTokens,
  cacheBytes,
  checkMemory,
  modelNeeds,
  type Needs,
  sketchOf,
  stepBytes,
} from "./memory.ts";
import { availableBytes, type MemoryCheck, memoryModel, prefillBytes } from "./needs.ts";
import type { ModelOptions } from "./options/model.ts";
import type { SampledOptions } from "./options/sampled.ts";

/** Documents that a reward model scores in one pass. */
export const SCORED_ROWS = 16;

/** Nothing is trained, so no adapter is made. */
const frozenOptions = ({ dtype, gpuMemory }: SampledOptions) =>
  ({ dtype, gpuMemory, usePeft: false }) as ModelOptions;

/** What sampling and scoring need; `longest` is the tokens of the longest prompt. */
export function sampledNeeds(
  gpu: Gpu,
  options: SampledOptions,
  path: string,
  rewardModels: string[],
  longest: number,
): Needs {
  const frozen = frozenOptions(options), whole = longest + options.maxCompletionLength;
  const policy = memoryModel(path, frozen, { trained: false });
  const rewards = rewardModels.map((one) =>
    memoryModel(one, frozen, { trained: false, architecture: "reward" })
  );
  const rows = Math.min(MOST_ROWS, options.batchSize * options.numGenerations);
  const scored = Math.min(SCORED_ROWS, rows);
  const prompts = Math.min(options.batchSize, Math.ceil(MOST_ROWS / options.numGenerations) + 1);
  const scoring = rewards.map((model) =>
    stepBytes(gpu, (tape) => {
      const sketch = sketchOf(model);
      const hidden = decoder(tape, sketch, batchInputs(tape, batchTokens(scored, whole)), {
        frozen: true,
      });
      tape.output("scores", scalarHead(tape, hidden, weightOf(tape, sketch, "score", true)));
    })
  );
  return {
    ...modelNeeds([policy, ...rewards]),
    activations: Math.max(prefillBytes(gpu, sketchOf(policy), rows, longest, prompts), ...scoring),
    "KV cache": cacheBytes(policy.config, rows, whole),
  };
}

/** Checks the memory of sampling and scoring. */
export function checkSampledMemory(
  { gpu, say }: MemoryCheck,
  options: SampledOptions,
  path: string,
  rewardModels: string[],
  longest: number,
): void {
  const needs = (changes: Partial<SampledOptions>) => () =>
    sampledNeeds(gpu, { ...options, ...changes }, path, rewardModels, longest);
  checkMemory(needs({})(), availableBytes(gpu, frozenOptions(options)), [
    { flags: "--batch_size 1", needs: needs({ batchSize: 1 }) },
    { flags: "--dtype q8_0", needs: needs({ dtype: "q8_0" }) },
    { flags: "--batch_size 1 --dtype q8_0", needs: needs({ batchSize: 1, dtype: "q8_0" }) },
  ], say);
}
