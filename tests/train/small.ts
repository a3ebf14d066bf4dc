/** Runs of the trainers on `tiny-llama`, small enough for a test. */
import { createHash } from "node:crypto";
import { openGpu } from "../../src/gpu/device.ts";
import { loadHeaded } from "../../src/model/headed.ts";
import { loadModel, makeModel } from "../../src/model/load.ts";
import type { Model } from "../../src/model/decoder.ts";
import { type HostTensor, readParams } from "../../src/model/params.ts";
import type { CheckpointFiles } from "../../src/run/checkpoint.ts";
import { openRun, type OpenRunOptions } from "../../src/run/run.ts";
import type { EventRow, RequestRow, RunStore, SampleRow } from "../../src/run/store.ts";
import type { StepEvent } from "../../src/train/events.ts";
import type { CompletionScorer } from "../../src/train/completion_scores.ts";
import { ppoOptions, rewardOptions, sftOptions } from "../../src/train/options/defaults.ts";
import type { PpoOptions } from "../../src/train/options/ppo.ts";
import type { RewardOptions } from "../../src/train/options/reward.ts";
import type { SftOptions } from "../../src/train/options/sft.ts";
import { ppo } from "../../src/train/ppo.ts";
import { reward } from "../../src/train/reward.ts";
import { sft } from "../../src/train/sft.ts";
import type { PairExample, PromptExample } from "../../src/data/tokenize.ts";
import { golden } from "../assets.ts";
import { random } from "../kernels/helpers.ts";
import { type PreferenceMethod, preferenceTrainer } from "./small_preferences.ts";

const TINY = golden("models/tiny-llama"), VOCAB = 331;

/** A trainer with options that differ from the small run's. */
export type Method =
  | { method: "sft"; options?: Partial<SftOptions> }
  | { method: "reward"; options?: Partial<RewardOptions>; examples?: PairExample[] }
  | { method: "ppo"; options?: Partial<PpoOptions>; reward?: CompletionScorer<PromptExample> }
  | PreferenceMethod;

/** What a run is given besides. */
export interface SmallSettings extends Partial<OpenRunOptions> {
  /** Changes a weight of one of the models before the run. */
  poison?: { model: "trained" | "reward"; name: string; value: number };
  /** Asks for a stop after this step, as Ctrl-C does. */
  stopAfter?: number;
  /** Called before the first step, with 0, and after every step. */
  afterStep?: (step: number, store: RunStore) => void;
}

/** What a run left. */
export interface SmallResult {
  events: StepEvent[];
  /** Of the newest checkpoint. */
  files?: CheckpointFiles;
  /** Hashes of these files' tensors: a difference of whole tensors would take minutes to print. */
  hashes: Record<string, string>;
  state?: Record<string, unknown>;
  happened: EventRow[];
  requests: RequestRow[];
  samples: SampleRow[];
  /** What the run ended with, if it failed. */
  error?: Error;
}

/** Documents of `lengths` tokens. */
export function documents(seed: number, lengths: number[]): number[][] {
  const { below } = random(seed);
  return lengths.map((length) => Array.from({ length }, () => 3 + below(VOCAB - 3)));
}

/** Pairs of different lengths. */
export function pairs(seed: number, count: number): PairExample[] {
  const { below } = random(seed);
  const side = (i: number) => documents(seed + i, [2 + below(12)])[0];
  return Array.from({ length: count }, (_, i) => ({ chosen: side(2 * i), rejected: side(2 * i + 1) }));
}

function hashesOf(files: CheckpointFiles): Record<string, string> {
  return Object.fromEntries(
    Object.entries(files).flatMap(([file, tensors]) =>
      Object.entries(tensors).map(([name, { data }]) => {
        const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
        return [`${file}: ${name}`, createHash("sha256").update(bytes).digest("hex")];
      })
    ),
  );
}

/** Runs a trainer in `directory` to its end, or until it fails. */
export async function smallRun(
  directory: string,
  run: Method,
  { poison, stopAfter, afterStep, ...open }: SmallSettings = {},
): Promise<SmallResult> {
  const gpu = await openGpu(), workspace = { gpu };
  const common = { seed: 5, saveSteps: 1000 };
  const poisoned = async (model: Model, which: "trained" | "reward"): Promise<Model> => {
    if (poison?.model !== which) return model;
    const weights = await readParams(gpu, model.params);
    const changed = ({ shape, data }: HostTensor) => ({
      shape,
      data: data.map((x, i) => i ? x : poison.value),
    });
    return makeModel(
      gpu,
      model.config,
      (name) => name === poison.name ? changed(weights[name]) : weights[name],
    );
  };
  const lastStep = () => opened.store.metrics(run.method).at(-1)?.step;
  const opened = openRun(directory, {
    config: { command: run.method, seed: common.seed, adapter: "", driver: "", options: {} },
    interrupted: () => stopAfter !== undefined && lastStep() === stopAfter,
    ...open,
  });
  const stage = opened.stage(run.method);

  const trainer = async (): Promise<AsyncGenerator<StepEvent>> => {
    switch (run.method) {
      case "sft": {
        const examples = documents(1, [9, 4, 17, 12, 3, 8, 14, 6, 11]).map((ids) => ({
          ids,
          scored: ids.map((_, t) => t > 0),
        }));
        const model = await poisoned(loadModel(gpu, TINY), "trained");
        const options = {
          learningRate: 1e-3,
          maxSteps: 4,
          perDeviceTrainBatchSize: 2,
          ...common,
          ...run.options,
        };
        return sft(stage, { workspace, model, examples }, sftOptions(options));
      }
      case "reward": {
        const model = await poisoned(loadHeaded(gpu, TINY, 1), "trained");
        const options = { maxSteps: 4, perDeviceTrainBatchSize: 2, ...common, ...run.options };
        const examples = run.examples ?? pairs(2, 7);
        return reward(stage, { workspace, model, examples }, rewardOptions(options));
      }
      case "ppo": {
        const data = {
          workspace,
          policy: await poisoned(loadModel(gpu, TINY), "trained"),
          reference: loadModel(gpu, TINY),
          reward: run.reward ?? await poisoned(loadHeaded(gpu, TINY, 1), "reward"),
          value: loadHeaded(gpu, TINY, 1),
          scoreScale: { mean: 0, std: 1 },
          valueScale: { mean: 0, std: 1 },
          prompts: documents(3, [3, 7, 5, 2, 9]).map((ids) => ({ ids, text: ids.join(" ") })),
          // Tokens that the model likes, so that lengths differ.
          stopIds: [122, 204, 52, 196],
          decode: (ids: number[]) => ids.join(" "),
        };
        const options = {
          learningRate: 1e-3,
          maxSteps: 3,
          perDeviceTrainBatchSize: 8,
          numMiniBatches: 2,
          numPpoEpochs: 2,
          responseLength: 9,
          ...common,
          ...run.options,
        };
        return ppo(stage, data, ppoOptions(options));
      }
      default:
        return preferenceTrainer(gpu, stage, run, common, await poisoned(loadModel(gpu, TINY), "trained"));
    }
  };

  const events: StepEvent[] = [];
  let error: Error | undefined;
  try {
    afterStep?.(0, opened.store);
    for await (const event of await trainer()) {
      events.push(event);
      afterStep?.(event.step, opened.store);
    }
  } catch (failure) {
    error = failure as Error;
  }
  const saved = stage.newest(), { store } = opened;
  const result = {
    events,
    files: saved?.files,
    hashes: hashesOf(saved?.files ?? {}),
    state: saved?.state,
    happened: store.events(),
    requests: store.requests(),
    samples: store.samples(),
    error,
  };
  opened.close();
  gpu.close();
  return result;
}
