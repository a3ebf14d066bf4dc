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
 * @example GRPO with a reward of one's own
 * ```ts
 * import { grpo, grpoOptions, loadModel, loadTokenizer, openGpu, openRun, type RewardSource } from "@keel/keel";
 *
 * const gpu = await openGpu();
 * const policy = loadModel(gpu, "path/to/model");
 * const tokenizer = loadTokenizer("path/to/model");
 * const run = openRun("runs/example", {
 *   config: { command: "grpo", seed: 1, adapter: gpu.info.name, driver: gpu.info.vendor, options: {} },
 *   overwriteOutputDir: true,
 * });
 * const prompts = ["Once upon a time", "There was a dog"].map((text) => ({
 *   text,
 *   prompt: text,
 *   ids: tokenizer.encode(text),
 *   columns: {},
 * }));
 * const shorter: RewardSource = {
 *   name: "shorter",
 *   weight: 1,
 *   score: (batch) => Promise.resolve(batch.completionIds.map(({ length }) => -length)),
 * };
 * const options = grpoOptions({ maxSteps: 2, numGenerations: 4, perDeviceTrainBatchSize: 4, maxCompletionLength: 16 });
 * const data = {
 *   workspace: { gpu },
 *   policy,
 *   prompts,
 *   rewards: [shorter],
 *   stopIds: policy.config.eosIds,
 *   decode: (ids: number[]) => tokenizer.decode(ids),
 * };
 * for await (const { step, metrics } of grpo(run.stage("grpo"), data, options)) {
 *   console.log(step, metrics.reward, metrics["rewards/shorter/mean"]);
 * }
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
  type PromptRow,
  type SftExample,
  type SftSettings,
  type Tokenized,
  tokenizePairs,
  tokenizePrompts,
  tokenizeSft,
  type UnpairedExample,
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
export {
  type KlController,
  klEstimate,
  type KlEstimator,
  type KlPenalty,
  updateKlCoef,
} from "./src/rl/kl.ts";
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
export { dpo, type DpoInputs } from "./src/train/dpo.ts";
export { kto, type KtoInputs } from "./src/train/kto.ts";
export { orpo, type OrpoInputs } from "./src/train/orpo.ts";
export { cpo, type CpoInputs } from "./src/train/cpo.ts";
export { ppo, type PpoInputs } from "./src/train/ppo.ts";
export { grpo } from "./src/train/grpo.ts";
export { rloo } from "./src/train/rloo.ts";
export { reinforce } from "./src/train/reinforce.ts";
export { onlineDpo, type OnlineDpoInputs } from "./src/train/online_dpo.ts";
export { label, type LabelInputs, writePairs } from "./src/train/label.ts";
export {
  choosePairs,
  type ChosenPairs,
  type Compared,
  type LabelledPrompt,
  type Pair,
  type PairChoice,
} from "./src/train/label_pairs.ts";
export {
  type RewardBatch,
  rewardBatch,
  type RewardSource,
  type SampledCompletion,
  scoreBatch,
  sourceMetrics,
} from "./src/reward/source.ts";
export { openRewards, type RewardSettings } from "./src/train/rewards.ts";
export { type CompletionScorer, completionScorer } from "./src/train/completion_scores.ts";
export {
  type CompletionPair,
  judgeByComparison,
  judgeByRewards,
  type PairJudge,
  type PairVerdicts,
} from "./src/train/pair_judges.ts";
export { BUILTIN_NAMES, builtinReward, type NamedReward, type RewardFunction } from "./src/reward/builtin.ts";
export { type FileReward, loadFunctionFile } from "./src/reward/function_file.ts";
export { endpointReward, type EndpointSettings } from "./src/reward/endpoint.ts";
export {
  type Comparison,
  type Judge,
  type JudgeCache,
  judgeReward,
  type JudgeSettings,
  memoryCache,
  openJudge,
} from "./src/reward/judge.ts";
export { openJudgeOf } from "./src/train/judge.ts";
export { type JudgeAnswers, openJudgeAnswers } from "./src/run/judge_cache.ts";
export { type FinishedRows, openFinishedRows } from "./src/run/finished_rows.ts";
export { PLAIN_RUBRIC } from "./src/reward/rubric.ts";
export type { ChatSettings, Spending, SpendingLimits } from "./src/reward/chat_client.ts";
export type { PostSettings } from "./src/reward/post.ts";
export { bestOfNKl, bestOfNWeights, expectedBest, type ScoredSample } from "./src/rl/best_of_n.ts";
export type { RewardSourceOptions } from "./src/train/options/rewards.ts";
export type { JudgeOptions } from "./src/train/options/judge.ts";
export type { Content } from "./src/data/messages.ts";
export type { OnlineInputs } from "./src/train/group_rollout.ts";
export type { Standardisation, WhitenScope } from "./src/train/rollout.ts";
export {
  cpoOptions,
  dpoOptions,
  grpoOptions,
  ktoOptions,
  labelOptions,
  onlineDpoOptions,
  orpoOptions,
  ppoOptions,
  reinforceOptions,
  rewardOptions,
  rlooOptions,
  sftOptions,
} from "./src/train/options/defaults.ts";
export type { SftOptions } from "./src/train/options/sft.ts";
export type { RewardOptions } from "./src/train/options/reward.ts";
export type { TrainingOptions } from "./src/train/options/common.ts";
export type { LrSchedulerType } from "./src/train/schedule.ts";
export type { DpoOptions } from "./src/train/options/dpo.ts";
export type { KtoOptions } from "./src/train/options/kto.ts";
export type { OrpoOptions } from "./src/train/options/orpo.ts";
export type { CpoOptions } from "./src/train/options/cpo.ts";
export type { ReferenceOptions } from "./src/train/options/reference.ts";
export type { Answered, PreferenceExample, TruncationMode } from "./src/data/preference.ts";
export {
  DPO_LOSS_TYPES,
  dpoLoss,
  type DpoLossOptions,
  type DpoLossType,
  type PreferencePair,
} from "./src/rl/dpo_loss.ts";
export { KTO_LOSS_TYPES, type KtoAnswer, ktoLoss, type KtoLossOptions } from "./src/rl/kto_loss.ts";
export { orpoLoss, type OrpoPair } from "./src/rl/orpo_loss.ts";
export { type AnswerPair, CPO_LOSS_TYPES, cpoLoss, type CpoLossOptions } from "./src/rl/cpo_loss.ts";
export { F_DIVERGENCES, type FDivergence } from "./src/rl/divergence.ts";
export type { RATIO_TYPES, SCORE_TYPES, TermOptions } from "./src/rl/dpo_terms.ts";
export type { PerToken, TokenLoss } from "./src/rl/token_loss.ts";
export type { PpoOptions } from "./src/train/options/ppo.ts";
export type { OnlineDpoOptions } from "./src/train/options/online_dpo.ts";
export type { LabelOptions } from "./src/train/options/label.ts";
export type { SampledOptions } from "./src/train/options/sampled.ts";
export type { SampledInputs } from "./src/train/sampled_prompts.ts";
export type { OnlineOptions } from "./src/train/options/online.ts";
export type { GrpoOptions } from "./src/train/options/grpo.ts";
export type { RlooOptions } from "./src/train/options/rloo.ts";
export type { ReinforceOptions } from "./src/train/options/reinforce.ts";
export {
  type FunctionRewards,
  type GroupAdvantages,
  groupAdvantages,
  leaveOneOutAdvantages,
  type MultiObjectiveAggregation,
  type ScaleRewards,
  sumRewards,
} from "./src/rl/group_advantages.ts";
export {
  GRPO_DEFAULTS,
  type GrpoInputs,
  grpoLoss,
  type GrpoLossOptions,
  type LossScale,
} from "./src/rl/grpo_loss.ts";
export type { GrpoLossType, GrpoTermOptions, ImportanceSamplingLevel } from "./src/rl/grpo_terms.ts";
export type { ImportanceSamplingMode } from "./src/rl/sampling_correction.ts";
export { type RlooInputs, rlooLoss } from "./src/rl/rloo_loss.ts";
export type { ModelOptions } from "./src/train/options/model.ts";
