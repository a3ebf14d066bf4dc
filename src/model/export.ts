/**
 * A model in another form: a Hugging Face directory, a GGUF file, a PEFT directory.
 *
 * @module
 */
import { copyFileSync, existsSync, mkdirSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import type { ModelConfig } from "./config.ts";
import { configJson, type StorageName } from "./config_json.ts";
import { layoutOf } from "./layout.ts";
import { copyTokenizer, describeModel } from "./load.ts";
import { writeAdapterBase } from "./lora.ts";
import { openMerged } from "./merge.ts";
import { baseOf, isAdapterDirectory, tokenizerSource } from "./peft.ts";
import { findTensor, readSafetensors, writeSafetensors } from "./safetensors.ts";
import { writeGguf, type WrittenType } from "./write_gguf.ts";

/** What was written. */
export interface Exported {
  /** Numbers in the tensors. */
  parameters: number;
  /** What a reader of the files should know. */
  notes: string[];
}

/** Writes a directory that transformers loads; an adapter is merged into its base. */
export function exportHuggingFace(from: string, directory: string, storage: StorageName): Exported {
  const { config, weights } = openMerged(from);
  mkdirSync(directory, { recursive: true });
  const tensors = tensorNames(config).map((name) => {
    const { shape } = findTensor(from, weights.tensors, name);
    return [name, { shape, data: () => weights.read(name) }] as const;
  });
  writeSafetensors(join(directory, "model.safetensors"), tensors, {}, storage);
  describeModel({ config }, directory, { tokenizerFrom: tokenizerSource(from), storage });
  return { parameters: layoutOf(config).parameters, notes: [] };
}

/** Writes a GGUF file; an adapter is merged into its base. */
export function exportGguf(from: string, path: string, type: WrittenType): Exported {
  const { config, weights } = openMerged(from);
  mkdirSync(dirname(resolve(path)), { recursive: true });
  const tensors = tensorNames(config).map((name): [string, { shape: number[] }] => {
    const { shape } = findTensor(from, weights.tensors, name);
    return [name, { shape }];
  });
  const tokenizer = tokenizerSource(from), files = Deno.makeTempDirSync({ prefix: "keel-export-" });
  try {
    copyTokenizer(tokenizer, files);
    const { storedAsHalf, notes } = writeGguf(path, {
      config: configJson(config),
      weights: { tensors, read: (name) => weights.read(name) },
      ...(existsSync(join(files, "tokenizer.json")) && { tokenizerFrom: files }),
      type,
    });
    const half = storedAsHalf
      ? [`${storedAsHalf} matrices whose rows are no multiple of 32 are stored as F16.`]
      : [];
    return { parameters: layoutOf(config).parameters, notes: [...half, ...notes] };
  } finally {
    Deno.removeSync(files, { recursive: true });
  }
}

/** Copies an adapter's PEFT directory, from a run or a checkpoint, with another name for its base where one is given. */
export function exportPeft(from: string, directory: string, base?: string): Exported {
  if (!isAdapterDirectory(from)) {
    throw new Error(
      `Cannot export ${from} as an adapter: it is a whole model. Expected the result of a run with --use_peft.`,
    );
  }
  mkdirSync(directory, { recursive: true });
  copyFileSync(join(from, "adapter_model.safetensors"), join(directory, "adapter_model.safetensors"));
  writeAdapterBase(from, directory, base ?? baseOf(from));
  copyTokenizer(tokenizerSource(from), directory);
  const { tensors } = readSafetensors(join(from, "adapter_model.safetensors"));
  const parameters = [...tensors.values()].reduce((sum, { elements }) => sum + elements, 0);
  return { parameters, notes: [] };
}

/** The tensors that the model has by its config: files may hold others that nothing reads. */
function tensorNames(config: ModelConfig): string[] {
  return [...layoutOf(config).slots.values()].flatMap((slot) => slot.parts.map((part) => part.name));
}
