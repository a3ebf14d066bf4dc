/**
 * The options of each stage of the whole job, from those of `train`.
 *
 * @module
 */
import type { PipelineOptions } from "../pipeline.ts";
import { ppoSchema } from "./ppo.ts";
import { rewardSchema } from "./reward.ts";
import { sftSchema } from "./sft.ts";
import type { TrainOptions } from "./train.ts";

/** Mini-batches of a PPO step; rollouts of a step are fresh, so one pass over them is enough. */
const MINI_BATCHES = 4;

/** Rows of an evaluation in one pass. */
const EVAL_BATCH = 64;

/** Options of the three stages. */
export function stageOptions(options: TrainOptions): PipelineOptions {
  const { seed, outputDir, saveSteps, saveTotalLimit, loggingSteps } = options;
  const common = {
    modelNameOrPath: options.modelNameOrPath ?? "parrot",
    datasetName: options.datasetName ?? "parrot",
    outputDir,
    seed,
    saveSteps,
    saveTotalLimit,
    loggingSteps,
    maxGradNorm: 1,
    perDeviceEvalBatchSize: EVAL_BATCH,
  };
  return {
    seed,
    dtype: options.dtype,
    sft: sftSchema.parse({
      ...common,
      learningRate: options.sftLearningRate,
      perDeviceTrainBatchSize: options.sftBatchSize,
      numTrainEpochs: options.sftEpochs,
      evalSteps: 0,
    }),
    reward: rewardSchema.parse({
      ...common,
      learningRate: options.rewardLearningRate,
      perDeviceTrainBatchSize: options.rewardBatchSize,
      numTrainEpochs: options.rewardEpochs,
      evalSteps: 0,
    }),
    ppo: ppoSchema.parse({
      ...common,
      rewardModelPath: ["reward/model"],
      // The parrot's prompts are fresh; those of a dataset are shuffled.
      shuffleDataset: options.datasetName !== undefined,
      perDeviceTrainBatchSize: options.ppoBatchSize,
      localRolloutForwardBatchSize: options.ppoBatchSize,
      numPpoEpochs: 1,
      numMiniBatches: MINI_BATCHES,
      maxSteps: options.ppoSteps,
      learningRate: options.ppoLearningRate,
      valueLearningRate: options.valueLearningRate,
      // The critic has an optimiser of its own.
      vfCoef: 1,
      klCoef: options.klCoef,
      klEstimator: options.klEstimator,
      temperature: options.temperature,
      responseLength: options.responseLength,
      missingEosPenalty: 1,
      scorePlacement: "eos",
      evalSteps: options.evalSteps,
    }),
  };
}
