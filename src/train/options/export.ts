/**
 * Options of writing a model in another form.
 *
 * @module
 */
import { z } from "zod";
import { type Agree, GROUPS, option, trainingFields } from "./common.ts";

/** Options of `export`. */
export interface ExportOptions {
  /** A Hugging Face directory, a GGUF file, a PEFT directory, or a name on the Hub. */
  modelNameOrPath: string;
  /** Branch, tag or commit of a model on the Hub. */
  modelRevision: string;
  /** Directory or file that is written. */
  output: string;
  /** `hf`: a directory that transformers loads, adapters merged. `gguf`: one file, likewise. `peft`: the adapter alone. */
  format?: "hf" | "gguf" | "peft";
  /** How floats are stored. */
  dtype: "f32" | "f16" | "bf16" | "q8_0";
  /** Name of the base model that is written into a PEFT directory. */
  baseModel?: string;
  /** Replaces what is at `output`. */
  overwrite: boolean;
}

/** Schema of {@linkcode ExportOptions}. */
export const exportSchema = z.strictObject({
  modelNameOrPath: option(
    GROUPS.data,
    "What is exported: a Hugging Face directory, a GGUF file, a run's model/ or checkpoint (an adapter, too), or a name on the Hub.",
    z.string().min(1),
    ["model"],
  ),
  modelRevision: trainingFields.modelRevision,
  output: option(GROUPS.output, "Directory, or .gguf file, that is written.", z.string().min(1)),
  format: option(
    GROUPS.output,
    "hf: a directory that transformers loads; gguf: one file for llama.cpp and its kin; both with an adapter merged into its base. peft: the adapter alone. If not given, gguf for a name that ends in .gguf, else hf.",
    z.enum(["hf", "gguf", "peft"]).optional(),
  ),
  dtype: option(
    GROUPS.output,
    "How floats are stored: f32, f16, or bf16 (hf only), or q8_0 (gguf only). Vectors in a GGUF file are always f32.",
    z.enum(["f32", "f16", "bf16", "q8_0"]).default("f32"),
  ),
  baseModel: option(
    GROUPS.output,
    "With peft: the base model's name as others know it, e.g. org/name; its path on this machine if not given.",
    z.string().min(1).optional(),
  ),
  overwrite: option(GROUPS.output, "Replace what is at output.", z.boolean().default(false)),
});

true satisfies Agree<z.output<typeof exportSchema>, ExportOptions>;
