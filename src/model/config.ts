/**
 * What a model is, read from and written to Hugging Face's `config.json`: the type, and the files. How the fields are
 * understood is in `config_parse.ts`, how they are written in `config_json.ts`.
 *
 * @module
 */

import { join } from "node:path";
import type { Activation } from "../../kernels/activation.ts";
import { writeTextAtomically } from "./atomic_file.ts";
import { configJson, type StorageName } from "./config_json.ts";
import { parseConfig } from "./config_parse.ts";
import type { Family } from "./families.ts";
import { fileExists, type JsonObject, readJsonObject } from "./json_file.ts";
import { openGguf } from "./open_gguf.ts";

export { configJson, parseConfig };

/** A decoder with a language-model head (`causal`) or a scalar head (`reward`). */
export interface ModelConfig {
  /** The family, which fixes much of what follows (`families.ts`). */
  family: Family;
  /** A language model or a reward model. */
  architecture: "causal" | "reward";
  /** Tokens of the vocabulary. */
  vocabSize: number;
  /** Width of the residual stream. */
  hiddenSize: number;
  /** Width of the feed-forward block. */
  intermediateSize: number;
  /** Transformer blocks. */
  layers: number;
  /** Query heads. */
  heads: number;
  /** Key and value heads; divides `heads`. */
  kvHeads: number;
  /** Width of one head; `heads * headDim` need not be `hiddenSize`. */
  headDim: number;
  /** The norms' epsilon. */
  normEps: number;
  /** Of the feed-forward block. */
  activation: Activation;
  /** Biases of the projections to queries, keys and values, of the one back, and of the feed-forward block. */
  biases: { qkv: boolean; out: boolean; mlp: boolean };
  /** Columns of each head that are rotated, even; 0 where positions are learned. */
  rotaryDims: number;
  /** Columns that the rotary frequencies are spread over where that is an odd number, one less than `rotaryDims`. */
  rotarySpan?: number;
  /** Base of the rotary frequencies. */
  ropeTheta: number;
  /** Change of the rotary frequencies; absent for plain rotary embedding. */
  ropeScaling?: RopeScaling;
  /** Tokens that a query sees, itself included, in the layers where `sliding` is true. */
  window?: { size: number; sliding: boolean[] };
  /** Factor of the attention scores. */
  scoreScale: number;
  /** Soft cap of the attention scores. */
  scoreCap?: number;
  /** Soft cap of the logits. */
  logitCap?: number;
  /** Attention and feed-forward block both read the block's input. */
  parallelResidual?: boolean;
  /** Dropout that the config asks for in training, above 0; keel trains without it. */
  dropout?: number;
  /** Longest sequence. */
  maxPositions: number;
  /** Whether the language-model head is the embedding; a reward model has no such head. */
  tied: boolean;
  /** Token that texts begin with. */
  bosId?: number;
  /** Tokens that end a generation. Data are ended with the tokenizer's own end token. */
  eosIds: number[];
  /** Padding token. */
  padId?: number;
}

/** Sizes of a {@linkcode plainLlama}. */
export type LlamaSizes = Omit<
  ModelConfig,
  "family" | "activation" | "biases" | "rotaryDims" | "scoreScale" | "window" | "scoreCap" | "logitCap"
>;

/** A Llama of the given sizes, without biases. */
export function plainLlama(sizes: LlamaSizes): ModelConfig {
  return {
    family: "llama",
    activation: "swiglu",
    biases: { qkv: false, out: false, mlp: false },
    rotaryDims: sizes.headDim,
    scoreScale: 1 / Math.sqrt(sizes.headDim),
    ...sizes,
  };
}

/** How rotary frequencies are changed for longer contexts than those of the first training. */
export type RopeScaling =
  | {
    /** All are divided by the factor (arXiv 2306.15595). */
    type: "linear";
    factor: number;
  }
  | {
    /** The base grows for sequences beyond `maxPositions`, which keel refuses; up to there nothing is changed. */
    type: "dynamic";
    factor: number;
  }
  | {
    /** Llama 3: the low ones are divided, the high ones kept. */
    type: "llama3";
    /** How much the low frequencies are stretched. */
    factor: number;
    /** Turns over the original context below which a frequency is stretched in full. */
    lowFreqFactor: number;
    /** Turns above which it is left alone. */
    highFreqFactor: number;
    /** Context length before stretching, in tokens. */
    originalMaxPositions: number;
  };

/** Reads `config.json`, and `generation_config.json` where there is one, of a model directory, or what a GGUF file says. */
export function readConfig(directory: string): ModelConfig {
  if (directory.endsWith(".gguf")) {
    const { config, generation } = openGguf(directory);
    return parseConfig(config, directory, generation);
  }
  const generation = join(directory, "generation_config.json");
  const source = join(directory, "config.json");
  return parseConfig(
    readJsonObject(source),
    source,
    fileExists(generation) ? readJsonObject(generation) : undefined,
  );
}

/** Writes `config.json`, and `generation_config.json` for a causal model, into a directory that exists. */
export function writeConfig(directory: string, config: ModelConfig, storage: StorageName = "F32"): void {
  // transformers 5 refuses these where they are whole numbers without a point.
  const withPoints = (text: string) =>
    text.replace(/("(?:attn|final)_logit_softcapping": \d+)(?=[,\n])/g, "$1.0");
  const write = (name: string, json: JsonObject) =>
    writeTextAtomically(join(directory, name), withPoints(JSON.stringify(json, null, 2)) + "\n");
  const json = configJson(config, storage);
  write("config.json", json);
  if (config.architecture === "causal") {
    const { bos_token_id, eos_token_id, pad_token_id } = json;
    write("generation_config.json", {
      ...(bos_token_id !== null && { bos_token_id }),
      ...(eos_token_id !== null && { eos_token_id }),
      ...(pad_token_id !== null && { pad_token_id }),
    });
  }
}
