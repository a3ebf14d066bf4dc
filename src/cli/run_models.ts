/**
 * The language model of a run's directory: the result of its last stage that has one, or a checkpoint.
 *
 * @module
 */
import { basename, dirname, join } from "node:path";
import { readConfig } from "../model/config.ts";
import { fileExists, readJsonObject } from "../model/json_file.ts";
import { isAdapterDirectory } from "../model/peft.ts";
import { checkpointSteps } from "../run/checkpoint.ts";

/**
 * The model's directory for `RUN`, `RUN/STAGE` and either with `@STEP`; any other text comes back as it is.
 *
 * @throws {Error} when the run has no such model.
 */
function runModel(text: string, accepts: (directory: string) => boolean, kind: string): string {
  const [, path, step] = /^(.+?)(?:@(\d{1,15}))?$/s.exec(text.replace(/(?<=.)\/+$/, "")) ?? [];
  const stages = path === undefined ? undefined : stageFolders(path);
  if (!stages) return text;
  for (const folder of stages) {
    const model = modelOf(folder, accepts, step === undefined ? undefined : Number(step));
    if (model) return model;
  }
  throw new Error(
    step === undefined
      ? `The run in ${path} has no ${kind} yet: neither a result nor a checkpoint.`
      : `The run in ${path} has no checkpoint of step ${step} with a ${kind}. It has ${
        stages.flatMap((folder) =>
          checkpointSteps(join(folder, "checkpoints")).map((one) => `${basename(folder)}@${one}`)
        ).join(", ") || "none"
      }.`,
  );
}

/** Options whose model may be a run: then it is the run's language model or, where one will do, its last model of any kind. */
export function withRun(
  options: Record<string, unknown>,
  { anyKind = false }: { anyKind?: boolean } = {},
): Record<string, unknown> {
  const text = options.modelNameOrPath as string;
  const modelNameOrPath = anyKind
    ? runModel(text, isModel, "model")
    : runModel(text, isLanguageModel, "language model");
  return { ...options, modelNameOrPath };
}

/** Folders of a run's stages, the last first; undefined where the path is no run and no stage of one. */
function stageFolders(path: string): string[] | undefined {
  const own = stagesOf(path);
  if (own) return own.length === 1 ? [path] : own.toReversed().map((stage) => join(path, stage));
  return stagesOf(dirname(path))?.includes(basename(path)) ? [path] : undefined;
}

/** Stages of the run in a directory; a model's directory has a config.json, too, but no stages. */
function stagesOf(directory: string): string[] | undefined {
  const path = join(directory, "config.json");
  if (!fileExists(path)) return undefined;
  const { keel, stages } = readJsonObject(path);
  return keel !== undefined && Array.isArray(stages) ? stages.map(String) : undefined;
}

/** The result of a stage or its newest checkpoint, or that of a step. */
function modelOf(
  folder: string,
  accepts: (directory: string) => boolean,
  step?: number,
): string | undefined {
  const checkpoints = join(folder, "checkpoints");
  const places = step === undefined
    ? [join(folder, "model"), ...checkpointSteps(checkpoints).map((one) => join(checkpoints, `step-${one}`))]
    : [join(checkpoints, `step-${step}`)];
  return places.find(accepts);
}

/** Whether a directory holds a model, or an adapter of one. */
function isModel(directory: string): boolean {
  const has = (name: string) => fileExists(join(directory, name));
  return has("adapter_model.safetensors") && isAdapterDirectory(directory) ||
    has("model.safetensors") && has("config.json");
}

/** Whether that is a language model. */
function isLanguageModel(directory: string): boolean {
  if (!isModel(directory)) return false;
  if (isAdapterDirectory(directory)) {
    return readJsonObject(join(directory, "adapter_config.json")).task_type !== "SEQ_CLS";
  }
  return readConfig(directory).architecture === "causal";
}
