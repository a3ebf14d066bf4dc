/**
 * Names of runs' models: `RUN[/STAGE][@STEP]`.
 *
 * `mine` is what the run's last stage with a language model has come to: its result where it is done, its newest checkpoint
 * where not. `mine/reward` is that of a stage, `mine/ppo@40` the checkpoint of a step. No part of it is a path: each is looked
 * up among what the run has.
 *
 * @module
 */
import { join } from "node:path";
import type { ModelConfig } from "../src/model/config.ts";
import { configOf, isAdapterDirectory } from "../src/model/peft.ts";
import { checkpointSteps } from "../src/run/checkpoint.ts";
import { HttpError } from "./http_error.ts";
import { breathe } from "./json.ts";
import { RUN_ID, runIds, type RunView, type Sources, stageDir, stageDone, viewRun } from "./runs.ts";

/** A model that can be used. */
export interface NamedModel {
  /** The name that says exactly which. */
  id: string;
  run: string;
  stage: string;
  /** The checkpoint's step; null for the result of a stage. */
  step: number | null;
  kind: ModelConfig["architecture"];
  /** Unix time in seconds at which its weights were written. */
  created: number;
  directory: string;
}

/** A model and the name that it goes by, of which it may have several. */
export interface ListedModel {
  name: string;
  model: NamedModel;
}

const NAME = /^([^/@]+)(?:\/([^/@]+))?(?:@(\d{1,16}))?$/;

/** The model of that name. @throws {HttpError} 404 where there is none. */
export function findModel(sources: Sources, name: string): NamedModel {
  const [, id, stage, step] = NAME.exec(name) ?? [];
  const run = id !== undefined && RUN_ID.test(id) ? viewRun(sources, id) : undefined;
  const newest = run && (stage === undefined ? policyOf(run) : newestOf(run, stage));
  const found = run && newest && step !== undefined ? checkpointOf(run, newest.stage, Number(step)) : newest;
  if (found) return found;
  throw new HttpError(
    404,
    "no_such_model",
    `There is no model named ${
      JSON.stringify(name)
    }. Expected a run, as in mine, one of its stages, as in mine/ppo, or a checkpoint, as in mine/ppo@40; GET /v1/models lists them.`,
  );
}

/** Models of all runs with their names, newest first, and whether there are more than `most`. */
export async function listModels(
  sources: Sources,
  most: number,
): Promise<{ models: ListedModel[]; truncated: boolean }> {
  const models: ListedModel[] = [];
  for (const id of runIds(sources.runsDir)) {
    const run = viewRun(sources, id);
    if (run) models.push(...modelsOf(run));
    await breathe();
  }
  models.sort((a, b) => b.model.created - a.model.created || (a.name < b.name ? -1 : 1));
  return { models: models.slice(0, most), truncated: models.length > most };
}

function modelsOf(run: RunView): ListedModel[] {
  const policy = policyOf(run);
  return [
    ...policy ? [{ name: run.id, model: policy }] : [],
    ...run.stages.flatMap((stage) => {
      const newest = newestOf(run, stage);
      if (!newest) return [];
      const checkpoints = checkpointSteps(checkpointsDir(run, stage))
        .flatMap((step) => checkpointOf(run, stage, step) ?? []);
      return [
        { name: `${run.id}/${stage}`, model: newest },
        ...checkpoints.map((model) => ({ name: model.id, model })),
      ];
    }),
  ];
}

/** What the run is about: its last language model, or its last model where it has none. */
function policyOf(run: RunView): NamedModel | undefined {
  const models = run.stages.toReversed().flatMap((stage) => newestOf(run, stage) ?? []);
  return models.find(({ kind }) => kind === "causal") ?? models[0];
}

/** The result of a stage, or its newest checkpoint. */
function newestOf(run: RunView, stage: string): NamedModel | undefined {
  if (!run.stages.includes(stage)) return undefined;
  const result = stageDone(run, stage)
    ? modelAt(run, stage, null, join(stageDir(run, stage), "model"))
    : undefined;
  if (result) return result;
  for (const step of checkpointSteps(checkpointsDir(run, stage))) {
    const model = checkpointOf(run, stage, step);
    if (model) return model;
  }
}

const checkpointsDir = (run: RunView, stage: string) => join(stageDir(run, stage), "checkpoints");

function checkpointOf(run: RunView, stage: string, step: number): NamedModel | undefined {
  return modelAt(run, stage, step, join(checkpointsDir(run, stage), `step-${step}`));
}

/** The file whose time and size stand for a model's weights. */
export function weightsFile(directory: string): string {
  return join(directory, isAdapterDirectory(directory) ? "adapter_model.safetensors" : "model.safetensors");
}

/** The model in a directory; undefined where there is none that can be used. */
function modelAt(
  { id }: RunView,
  stage: string,
  step: number | null,
  directory: string,
): NamedModel | undefined {
  try {
    // No part may be a link: neither out of the run's directory nor to another run.
    if (Deno.realPathSync(directory) !== directory) return undefined;
    const { mtime, isFile } = Deno.lstatSync(weightsFile(directory));
    if (!isFile) return undefined;
    return {
      id: `${id}/${stage}${step === null ? "" : `@${step}`}`,
      run: id,
      stage,
      step,
      kind: configOf(directory).architecture,
      created: Math.floor((mtime?.getTime() ?? 0) / 1000),
      directory,
    };
  } catch {
    // Absent, not whole, or of a kind that cannot be used.
    return undefined;
  }
}
