/** Runs of the online methods without a critic on `tiny-llama`, with rewards that a function gives. */
import { createHash } from "node:crypto";
import type { PromptRow } from "../../src/data/tokenize.ts";
import { write } from "../../src/gpu/buffers.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { frozenCopy } from "../../src/model/blend.ts";
import type { Model } from "../../src/model/decoder.ts";
import { loadModel } from "../../src/model/load.ts";
import { makeAdapted } from "../../src/model/peft.ts";
import type { RewardBatch, RewardSource } from "../../src/reward/source.ts";
import { openRun, type OpenRunOptions } from "../../src/run/run.ts";
import type { RequestRow, RunStore, SampleRow } from "../../src/run/store.ts";
import type { StepEvent } from "../../src/train/events.ts";
import type { OnlineInputs } from "../../src/train/group_rollout.ts";
import { grpo } from "../../src/train/grpo.ts";
import { grpoOptions, reinforceOptions, rlooOptions } from "../../src/train/options/defaults.ts";
import type { GrpoOptions } from "../../src/train/options/grpo.ts";
import type { ReinforceOptions } from "../../src/train/options/reinforce.ts";
import type { RlooOptions } from "../../src/train/options/rloo.ts";
import { reinforce } from "../../src/train/reinforce.ts";
import { rloo } from "../../src/train/rloo.ts";
import { golden, withDirectory } from "../assets.ts";
import { documents } from "./small.ts";

const TINY = golden("models/tiny-llama");

/** A method with options that differ from the small run's. */
export type Online =
  | { method: "grpo"; options?: Partial<GrpoOptions> }
  | { method: "rloo"; options?: Partial<RlooOptions> }
  | { method: "reinforce"; options?: Partial<ReinforceOptions> };

/** What a run is given besides. */
export interface OnlineSettings extends Partial<OpenRunOptions> {
  rewards?: RewardSource[];
  /** Trains an adapter. */
  lora?: boolean;
  /** Makes a weight of the reference NaN. */
  poison?: boolean;
  /** Leaves after this step without a word, as a process that is killed. */
  killAfter?: number;
  /** Called after every step. */
  afterStep?: (step: number, store: RunStore) => void;
}

/** What a run left. */
export interface OnlineResult {
  events: StepEvent[];
  /** Of the newest checkpoint's tensors. */
  hashes: Record<string, string>;
  state?: Record<string, unknown>;
  samples: SampleRow[];
  requests: RequestRow[];
  error?: Error;
}

/** A reward by what a completion's tokens are. */
export function tokenReward(
  name: string,
  score: (ids: number[], i: number, batch: RewardBatch) => number | null,
  weight = 1,
): RewardSource {
  return {
    name,
    weight,
    score: (batch) => Promise.resolve(batch.completionIds.map((ids, i) => score(ids, i, batch))),
  };
}

/** The share of even tokens, and how short a completion is, unknown for every fifth. */
export const REWARDS: RewardSource[] = [
  tokenReward("even", (ids) => ids.filter((id) => id % 2 === 0).length / ids.length),
  tokenReward("short", (ids, i) => i % 5 === 4 ? null : -ids.length / 9, 0.5),
];

export const PROMPTS: PromptRow[] = documents(3, [3, 7, 5, 2, 9]).map((ids) => ({
  ids,
  text: ids.join(" "),
  prompt: ids.join(" "),
  columns: { sum: ids.reduce((a, b) => a + b, 0) },
}));

/** Inputs of a run: completions of up to nine tokens, many of them ended. */
export function smallInputs(
  gpu: Gpu,
  { lora = false, rewards = REWARDS, moving = false }: {
    lora?: boolean;
    rewards?: RewardSource[];
    moving?: boolean;
  } = {},
): OnlineInputs {
  const lora_ = { r: 4, loraAlpha: 8, loraDropout: 0, useRslora: false, useDora: false, modulesToSave: [] };
  const policy: Model = lora ? makeAdapted(gpu, TINY, lora_, { seed: 1 }) : loadModel(gpu, TINY);
  return {
    workspace: { gpu },
    policy,
    reference: lora
      ? { ...policy, adapter: undefined }
      : moving
      ? frozenCopy(gpu, policy)
      : loadModel(gpu, TINY),
    prompts: PROMPTS,
    rewards,
    // Tokens that the model likes, so that lengths differ.
    stopIds: [122, 204, 52, 196],
    decode: (ids) => ids.join(" "),
  };
}

const COMMON = {
  learningRate: 1e-3,
  maxSteps: 3,
  perDeviceTrainBatchSize: 4,
  gradientAccumulationSteps: 2,
  numGenerations: 4,
  maxCompletionLength: 9,
  seed: 5,
  saveSteps: 1000,
};

/** Runs a method in `directory` to its end, or until it fails. */
export async function onlineRun(
  gpu: Gpu,
  directory: string,
  run: Online,
  { rewards, lora, poison, killAfter, afterStep, ...open }: OnlineSettings = {},
): Promise<OnlineResult> {
  const opened = openRun(directory, {
    config: { command: run.method, seed: COMMON.seed, adapter: "", driver: "", options: {} },
    ...open,
  });
  const stage = opened.stage(run.method);
  const data = smallInputs(gpu, { lora, rewards, moving: run.options?.syncRefModel });
  if (poison) write(gpu, data.reference!.params.values, Float32Array.of(NaN));
  const trainer = () => {
    switch (run.method) {
      case "grpo":
        return grpo(stage, data, grpoOptions({ ...COMMON, ...run.options }));
      case "rloo":
        return rloo(stage, data, rlooOptions({ ...COMMON, ...run.options }));
      case "reinforce":
        return reinforce(stage, data, reinforceOptions({ ...COMMON, ...run.options }));
    }
  };
  const events: StepEvent[] = [];
  let error: Error | undefined;
  try {
    for await (const event of trainer()) {
      events.push(event);
      afterStep?.(event.step, opened.store);
      if (event.step === killAfter) break;
    }
  } catch (failure) {
    error = failure as Error;
  }
  const saved = stage.newest();
  const hashes: Record<string, string> = {};
  for (const [file, tensors] of Object.entries(saved?.files ?? {})) {
    for (const [name, { data }] of Object.entries(tensors)) {
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      hashes[`${file}: ${name}`] = createHash("sha256").update(bytes).digest("hex");
    }
  }
  const { store } = opened;
  const result = {
    events,
    hashes,
    state: saved?.state,
    samples: store.samples(),
    requests: store.requests(),
    error,
  };
  opened.close();
  return result;
}

/** A run in a directory that is removed. */
export async function runOf(gpu: Gpu, run: Online, settings: OnlineSettings = {}): Promise<OnlineResult> {
  let result: OnlineResult | undefined;
  await withDirectory(async (directory) => {
    result = await onlineRun(gpu, directory, run, settings);
  });
  return result!;
}

/** The metrics of all steps of a run that went well. */
export function metricsOf({ events, error }: OnlineResult): Record<string, number>[] {
  if (error) throw error;
  return events.map(({ metrics }) => metrics);
}
