/**
 * Options of supervised fine-tuning: TRL 1.16's `SFTConfig`.
 *
 * @module
 */
import { z } from "zod";
import type { PackingStrategy } from "../../data/packing.ts";
import {
  type Agree,
  GROUPS,
  heldOutFields,
  maxLengthField,
  option,
  trainingFields,
  type TrainingOptions,
} from "./common.ts";
import { modelFields, type ModelOptions } from "./model.ts";
import type { DataOptions } from "./data.ts";

/** Options of `sft`. */
export interface SftOptions extends TrainingOptions, DataOptions, ModelOptions {
  /** Longest sequence in tokens, longer ones are cut; `null` for no limit. */
  maxLength: number | null;
  /** Column of texts. */
  datasetTextField: string;
  /** Which end of a longer sequence is kept. */
  truncationMode: "keep_start" | "keep_end";
  /** Loss on completions only; if not given, on completions for prompt-completion data and on everything for text. */
  completionOnlyLoss?: boolean;
  /** Loss on the assistant's turns only, as the chat template marks them. */
  assistantOnlyLoss: boolean;
  /** Packs several documents into one row of `maxLength` tokens; attention never crosses documents. */
  packing: boolean;
  /** How documents are packed: `bfd` is best fit, longest first; `bfd_split` keeps the rest of longer ones; `wrapped` cuts anywhere. */
  packingStrategy: PackingStrategy;
  /** Packs held-out rows; as `packing` if not given. */
  evalPacking?: boolean;
  /** `nll`: −log p. `dft`: −sg(p) log p (arXiv 2508.05629). */
  lossType: "nll" | "dft";
}

/** Schema of {@linkcode SftOptions}. */
export const sftSchema = z.strictObject({
  ...trainingFields,
  ...modelFields,
  ...heldOutFields,
  datasetTextField: option(GROUPS.data, "Column of texts.", z.string().min(1).default("text")),
  maxLength: maxLengthField("longer ones are cut"),
  truncationMode: option(
    GROUPS.method,
    "Which end of a longer sequence is kept; packing always keeps the start.",
    z.enum(["keep_start", "keep_end"]).default("keep_start"),
  ),
  completionOnlyLoss: option(
    GROUPS.method,
    "Loss on completions only. If not given: on completions for prompt-completion data, on everything for text.",
    z.boolean().optional(),
  ),
  assistantOnlyLoss: option(
    GROUPS.method,
    "Loss on the assistant's turns of conversations only, as {% generation %} marks them in the chat template; without marks, what the template adds after the generation prompt.",
    z.boolean().default(false),
  ),
  packing: option(
    GROUPS.method,
    "Pack several documents into one row of max_length tokens; attention never crosses documents.",
    z.boolean().default(false),
  ),
  packingStrategy: option(
    GROUPS.method,
    "How documents are packed: bfd is best fit, longest first, longer ones cut; bfd_split packs their rest, too; wrapped puts them one after the other and cuts wherever a row is full.",
    z.enum(["bfd", "bfd_split", "wrapped"]).default("bfd"),
  ),
  evalPacking: option(GROUPS.method, "Pack held-out rows; as packing if not given.", z.boolean().optional()),
  lossType: option(
    GROUPS.method,
    "nll: -log p. dft: -sg(p) log p, which trusts the model's own probabilities (arXiv 2508.05629).",
    z.enum(["nll", "dft"]).default("nll"),
  ),
});

true satisfies Agree<z.output<typeof sftSchema>, SftOptions>;
