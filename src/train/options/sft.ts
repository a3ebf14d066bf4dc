/**
 * Options of supervised fine-tuning: TRL 1.16's `SFTConfig`.
 *
 * @module
 */
import { z } from "zod";
import {
  type Agree,
  evalDatasetField,
  GROUPS,
  maxLengthField,
  option,
  trainingFields,
  type TrainingOptions,
} from "./common.ts";

/** Options of `sft`. */
export interface SftOptions extends TrainingOptions {
  /** Held-out rows. */
  evalDataset?: string;
  /** Longest sequence in tokens, longer ones are cut at the end; `null` for no limit. */
  maxLength: number | null;
  /** Loss on completions only; if not given, on completions for prompt-completion data and on everything for text. */
  completionOnlyLoss?: boolean;
  /** Packs several documents into one row of `maxLength` tokens; attention never crosses documents. */
  packing: boolean;
  /** How documents are packed: best fit, longest first. */
  packingStrategy: "bfd";
  /** `nll`: −log p. `dft`: −sg(p) log p (arXiv 2508.05629). */
  lossType: "nll" | "dft";
}

/** Schema of {@linkcode SftOptions}. */
export const sftSchema = z.strictObject({
  ...trainingFields,
  evalDataset: evalDatasetField,
  maxLength: maxLengthField("longer ones are cut at the end"),
  completionOnlyLoss: option(
    GROUPS.method,
    "Loss on completions only. If not given: on completions for prompt-completion data, on everything for text.",
    z.boolean().optional(),
  ),
  packing: option(
    GROUPS.method,
    "Pack several documents into one row of max_length tokens; attention never crosses documents.",
    z.boolean().default(false),
  ),
  packingStrategy: option(
    GROUPS.method,
    "How documents are packed: bfd is best fit, longest first.",
    z.enum(["bfd"]).default("bfd"),
  ),
  lossType: option(
    GROUPS.method,
    "nll: -log p. dft: -sg(p) log p, which trusts the model's own probabilities (arXiv 2508.05629).",
    z.enum(["nll", "dft"]).default("nll"),
  ),
});

true satisfies Agree<z.output<typeof sftSchema>, SftOptions>;
