/**
 * keel: RLHF on any GPU, on WebGPU kernels written by hand.
 *
 * Open a device, load a model, generate, score, train. A trainer is an async generator: pulling runs a step, not pulling
 * pauses.
 *
 * @example Fine-tune a model on two texts and sample from it
 * ```ts
 * import { loadModel, loadTokenizer, openGenerator, openGpu, openRun, sft, sftOptions } from "@keel/keel";
 *
 * const gpu = await openGpu();
 * const model = loadModel(gpu, "path/to/model");
 * const tokenizer = loadTokenizer("path/to/model");
 * const run = openRun("runs/example", {
 *   config: { command: "sft", seed: 1, adapter: gpu.info.name, driver: gpu.info.vendor, options: {} },
 *   overwriteOutputDir: true,
 * });
 * const examples = ["Once upon a time", "There was a dog"].map((text) => {
 *   const ids = tokenizer.encode(text);
 *   return { ids, scored: ids.map((_, i) => i > 0) };
 * });
 * const options = sftOptions({ maxSteps: 3, learningRate: 1e-4 });
 * for await (const { step, metrics } of sft(run.stage("sft"), { workspace: { gpu }, model, examples }, options)) {
 *   console.log(step, metrics.loss);
 * }
 * const [completion] = await openGenerator({ gpu }, model).generate(
 *   [{ ids: tokenizer.encode("Once"), samples: [0] }],
 *   { temperature: 0, topK: 0, topP: 1, stopIds: model.config.eosIds, maxNewTokens: 8, seed: 1, stream: 0 },
 * );
 * console.log(tokenizer.decode(completion.ids));
 * run.close();
 * gpu.close();
 * ```
 *
 * @module
 */
export {
  type Gpu,
  type GpuInfo,
  type GpuWindow,
  openGpu,
  type OpenGpuOptions,
  type Pipeline,
} from "./src/gpu/device.ts";
export type { Readback } from "./src/gpu/readback.ts";
export type { Kernel, Profile } from "./kernels/kernel.ts";
export type { Workspace } from "./src/tape/plan.ts";
export { type LlamaSizes, type ModelConfig, plainLlama, type RopeScaling } from "./src/model/config.ts";
export type { Family } from "./src/model/families.ts";
export type { Activation } from "./kernels/activation.ts";
export type { Storage } from "./kernels/storage.ts";
export type { Adapter, Target } from "./src/model/adapter.ts";
export type { LoraConfig } from "./src/model/lora.ts";
export type { Dtype, StoredRows } from "./src/model/frozen.ts";
export type { StorageName } from "./src/model/config_json.ts";
export { type AdaptedOptions, loadAdapted, makeAdapted } from "./src/model/peft.ts";
export { type Exported, exportGguf, exportHuggingFace, exportPeft } from "./src/model/export.ts";
export type { WrittenType } from "./src/model/write_gguf.ts";
export type { Model, RopeTables } from "./src/model/decoder.ts";
export type { HostTensor, HostWeights, Params } from "./src/model/params.ts";
export type { Layout, Part, Slot } from "./src/model/layout.ts";
export {
  destroyModel,
  loadFrozen,
  loadModel,
  type LoadOptions,
  makeModel,
  saveModel,
  type SaveOptions,
} from "./src/model/load.ts";
export { loadHeaded } from "./src/model/headed.ts";
export { initialWeights } from "./src/model/init.ts";
export {
  type ChatTemplateOptions,
  loadTokenizer,
  type Message,
  type Tokenizer,
} from "./src/data/tokenizer.ts";
export {
  resolveDataset,
  type ResolvedDataset,
  type ResolvedModel,
  resolveModel,
  type ResolveOptions,
} from "./src/hub/resolve.ts";
export { type HubSettings, hubSettings } from "./src/hub/settings.ts";
export type { FetchListener, FetchProgress } from "./src/hub/snapshot.ts";
export type { DatasetSelection } from "./src/hub/dataset_files.ts";
export { type DataRow, makeRows, readDataset } from "./src/data/rows.ts";
export { type DatasetEntry, datasetRows, type DatasetSpec } from "./src/data/sources.ts";
export {
  type DataReport,
  type PairExample,
  type PromptExample,
  type SftExample,
  type SftSettings,
  type Tokenized,
  tokenizePairs,
  tokenizePrompts,
  tokenizeSft,
} from "./src/data/tokenize.ts";
export type { Rows } from "./src/data/batches.ts";
export type { PackingStrategy } from "./src/data/packing.ts";
export type { DataOptions } from "./src/train/options/data.ts";
export {
  type Completion,
  type Following,
  type GenerateOptions,
  type Generator,
  type NewTokens,
  openGenerator,
  type Prompt,
} from "./src/sample/generate.ts";
export type { Sampling } from "./kernels/sample.ts";
export {
  type DocumentScorer,
  documentScorer,
  score,
  type ScoringOptions,
  type TokenScores,
} from "./src/sample/score.ts";
export { type Gae, gae } from "./src/rl/gae.ts";
export { type KlController, klEstimate, type KlEstimator, updateKlCoef } from "./src/rl/kl.ts";
export { moments, whiten, type WhitenOptions } from "./src/rl/whiten.ts";
export { openRun, type OpenRunOptions, type Run, type RunConfig, type StageRun } from "./src/run/run.ts";
export type {
  EventRow,
  KnobRow,
  LoggedStep,
  MetricRow,
  RequestKind,
  RequestRow,
  RunStore,
  Sample,
  SampleRow,
  StreamRow,
} from "./src/run/store.ts";
export type { CheckpointFiles, CheckpointOptions, SavedCheckpoint } from "./src/run/checkpoint.ts";
export type { Asked, Listening } from "./src/run/listen.ts";
export type { Report } from "./src/run/trackers.ts";
export type { TrackerName } from "./src/run/trackers/tracker.ts";
export type { TensorData } from "./src/model/safetensors.ts";
export type { JsonObject } from "./src/model/json_file.ts";
export type { StepEvent } from "./src/train/events.ts";
export { sft, type SftInputs } from "./src/train/sft.ts";
export { reward, type RewardInputs } from "./src/train/reward.ts";
export { ppo, type PpoInputs } from "./src/train/ppo.ts";
export type { Standardisation } from "./src/train/rollout.ts";
export { ppoOptions, rewardOptions, sftOptions } from "./src/train/options/defaults.ts";
export type { SftOptions } from "./src/train/options/sft.ts";
export type { RewardOptions } from "./src/train/options/reward.ts";
export type { TrainingOptions } from "./src/train/options/common.ts";
export type { LrSchedulerType } from "./src/train/schedule.ts";
export type { PpoOptions } from "./src/train/options/ppo.ts";
export type { ModelOptions } from "./src/train/options/model.ts";
