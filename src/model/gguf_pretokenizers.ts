/**
 * How texts are cut into words before byte-level BPE: what GGUF files call by name and Hugging Face's `tokenizer.json` spells out.
 *
 * @module
 */

import { isJsonObject, type JsonObject } from "./json_file.ts";

/** One way of cutting. */
export interface PreTokenizer {
  /** Names that GGUF files have for it; the first is written. */
  names: string[];
  /** Patterns that cut one after the other; none for GPT-2's own, which is built into "ByteLevel". */
  patterns: string[];
  /** Whether GPT-2's pattern comes last. */
  gpt2: boolean;
  /** Whether a word that is a token is not cut further, whatever the merges say. */
  ignoreMerges?: boolean;
  /** Whether texts begin with the beginning token where a file does not say. */
  addsBos?: boolean;
  /** Whether texts are brought to Unicode's form C first. */
  composes?: boolean;
}

/** The pattern of Llama 3, and of Qwen 2 with digits one by one. */
const words = (digits: string) =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

/** GPT-2's pattern where others come after it. */
const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)";

/** All that are understood, by llama.cpp's names. */
export const PRE_TOKENIZERS: PreTokenizer[] = [
  { names: ["gpt-2", "phi-2", "olmo", "mpt"], patterns: [], gpt2: true },
  { names: ["smollm", "starcoder", "refact", "command-r", "codeshell"], patterns: ["\\p{N}"], gpt2: true },
  {
    names: ["llama-bpe", "llama3", "llama-v3"],
    patterns: [words("\\p{N}{1,3}")],
    gpt2: false,
    ignoreMerges: true,
    addsBos: true,
  },
  {
    names: ["qwen2", "deepseek-r1-qwen", "megrez"],
    patterns: [words("\\p{N}")],
    gpt2: false,
    composes: true,
  },
  {
    names: ["default"],
    patterns: ["[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"],
    gpt2: false,
  },
];

/** The pre-tokenizer of a name in a GGUF file, or undefined. */
export function preTokenizerNamed(name: string): PreTokenizer | undefined {
  return PRE_TOKENIZERS.find(({ names }) => names.includes(name));
}

/** As in a `tokenizer.json`. */
export function preTokenizerJson({ patterns, gpt2 }: PreTokenizer): JsonObject {
  const steps: JsonObject[] = patterns.map((pattern) => ({
    type: "Split",
    pattern: { Regex: pattern },
    behavior: "Isolated",
    invert: false,
  }));
  steps.push({ type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: gpt2 });
  return steps.length === 1 ? steps[0] : { type: "Sequence", pretokenizers: steps };
}

/** The pre-tokenizer that a `tokenizer.json` spells out, or undefined where it has no name. */
export function preTokenizerOf(json: unknown): PreTokenizer | undefined {
  if (!isJsonObject(json)) return undefined;
  const steps: unknown[] = json.type === "Sequence" && Array.isArray(json.pretokenizers)
    ? json.pretokenizers
    : [json];
  const last = steps[steps.length - 1];
  if (!isJsonObject(last) || last.type !== "ByteLevel" || last.add_prefix_space === true) return undefined;
  const patterns: unknown[] = [];
  for (const step of steps.slice(0, -1)) {
    if (!isJsonObject(step)) return undefined;
    if (step.type === "Digits") patterns.push(step.individual_digits === true ? "\\p{N}" : "\\p{N}+");
    else if (step.type === "Split" && step.behavior === "Isolated" && step.invert !== true) {
      patterns.push(isJsonObject(step.pattern) ? step.pattern.Regex : undefined);
    } else return undefined;
  }
  return PRE_TOKENIZERS.find((one) =>
    one.gpt2 === (last.use_regex !== false) && JSON.stringify(one.patterns) === JSON.stringify(patterns)
  );
}
