/**
 * Options of a conversation with a model.
 *
 * @module
 */
import { z } from "zod";
import { type Agree, GROUPS, option, trainingFields } from "./common.ts";
import { type SampleOptions, sampleSchema } from "./generate.ts";

/** Options of `chat`. */
export interface ChatOptions extends
  Pick<
    SampleOptions,
    "modelNameOrPath" | "modelRevision" | "dtype" | "maxNewTokens" | "temperature" | "topK" | "topP" | "seed"
  > {
  /** What the model is told before everything, where its chat template has a place for it. */
  system?: string;
}

const { dtype, maxNewTokens, topK, topP, seed } = sampleSchema.shape;

/** Schema of {@linkcode ChatOptions}. */
export const chatSchema = z.strictObject({
  modelNameOrPath: option(
    GROUPS.data,
    "A run (runs/mine), a stage or a checkpoint of it (runs/mine/ppo, runs/mine@40), a Hugging Face directory, or a name on the Hub.",
    z.string().min(1),
    ["model"],
  ),
  modelRevision: trainingFields.modelRevision,
  dtype,
  system: option(
    GROUPS.data,
    "What the model is told before everything; its chat template must have a place for it.",
    z.string().min(1).optional(),
  ),
  maxNewTokens,
  temperature: option("Sampling", "Sampling temperature; 0 for greedy.", z.number().min(0).default(0.7)),
  topK,
  topP,
  seed,
});

true satisfies Agree<z.output<typeof chatSchema>, ChatOptions>;
