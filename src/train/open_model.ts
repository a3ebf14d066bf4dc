/**
 * The models of a training command: what is trained, whole or through an adapter, and what stays as it is.
 *
 * @module
 */
import type { Gpu } from "../gpu/device.ts";
import type { Model } from "../model/decoder.ts";
import { loadHeaded } from "../model/headed.ts";
import { destroyModel, loadFrozen, loadModel } from "../model/load.ts";
import { configOf, isAdapterDirectory, makeAdapted } from "../model/peft.ts";
import { loraConfig, type ModelOptions } from "./options/model.ts";

/** Options of adapters, and the seed of their first weights. */
export type TrainedOptions = ModelOptions & { seed: number };

/** Modules that predict tokens. */
const HEADS = ["lm_head", "embed_out"];

/** Tells a person something. */
type Say = (line: string) => void;

/** The language model at `path`, to be trained: with a fresh adapter, or with the adapter that it is, or whole. */
export function loadTrained(gpu: Gpu, path: string, options: TrainedOptions, say: Say): Model {
  checkOptions(path, options, say);
  const { usePeft, seed, dtype } = options;
  if (!usePeft) return loadModel(gpu, path, isAdapterDirectory(path) ? { dtype } : {});
  return makeAdapted(gpu, path, loraConfig(options), { seed, dtype });
}

/** The same with a head of one output, trained whole and fresh where there is none. */
export function loadTrainedHeaded(gpu: Gpu, path: string, options: TrainedOptions, say: Say): Model {
  checkOptions(path, options, say);
  const { usePeft, seed, dtype } = options;
  if (!usePeft) return loadHeaded(gpu, path, seed, isAdapterDirectory(path) ? { dtype } : {});
  const config = loraConfig(options);
  // Options for a policy and its critic are the same, but only the policy predicts tokens.
  const heads = config.modulesToSave.filter((name) => HEADS.includes(name));
  if (heads.length) say(`A model with a score has no ${heads.join(", ")}, so that is not trained there.`);
  const modulesToSave = [...new Set([...config.modulesToSave, "score"])].filter((name) =>
    !HEADS.includes(name)
  );
  return makeAdapted(gpu, path, { ...config, modulesToSave }, { seed, dtype, scoreSeed: seed });
}

/** What a policy began as and stays near: an adapted model without its fresh adapter, or the model as it is in its files. */
export function loadReference(
  gpu: Gpu,
  path: string,
  policy: Model,
  { usePeft, dtype }: ModelOptions,
): Model {
  if (usePeft) return { ...policy, adapter: undefined };
  return loadFrozen(gpu, path, dtype);
}

/** Frees the models of a stage; `others` may be the policy without its adapter. */
export function destroyModels(gpu: Gpu, policy: Model, ...others: (Model | undefined)[]): void {
  destroyModel(gpu, policy);
  for (const other of others) {
    if (other && (other.adapter || other.params !== policy.params)) destroyModel(gpu, other);
  }
}

/** Refuses a model that predicts no tokens. */
export function checkLanguageModel(path: string): void {
  if (configOf(path).architecture !== "reward") return;
  throw new Error(`${path} is a reward model, which gives scores. Expected a language model.`);
}

function checkOptions(path: string, { usePeft, dtype }: ModelOptions, say: Say): void {
  const { dropout } = configOf(path);
  if (dropout !== undefined) {
    say(`${path}: its config asks for dropout of ${dropout} in training. keel trains without it.`);
  }
  if (usePeft && isAdapterDirectory(path)) {
    throw new Error(
      `The model in ${path} is an adapter already. Leave out --use_peft to go on training it, or merge it first with keel export.`,
    );
  }
  if (!usePeft && !isAdapterDirectory(path) && dtype !== undefined && dtype !== "f32") {
    say(
      `The weights of ${path} are trained and therefore held as f32; --dtype ${dtype} is for frozen weights.`,
    );
  }
}
