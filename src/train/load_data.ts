/**
 * Datasets of the single stages: read, tokenised, reported.
 *
 * @module
 */
import { packBestFit } from "../data/packing.ts";
import { readDataset } from "../data/rows.ts";
import {
  type DataReport,
  type PairExample,
  type PromptExample,
  type SftExample,
  type Tokenized,
  tokenizePairs,
  tokenizePrompts,
  tokenizeSft,
} from "../data/tokenize.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import type { SftOptions } from "./options/sft.ts";

/** A line on what became of a dataset's rows. */
export function describeReport(what: string, { rows, kept, dropped, truncated }: DataReport): string {
  const parts = [
    ...Object.entries(dropped).map(([reason, count]) => `${count} dropped (${reason})`),
    ...(truncated ? [`${truncated} cut to the limit`] : []),
  ];
  return `${what}: ${kept} of ${rows} rows${parts.length ? `; ${parts.join(", ")}` : ""}`;
}

/** The examples, after a line on what became of the others. Throws when none is left. */
export function tellReport<T>(
  what: string,
  { examples, report }: Tokenized<T>,
  say: (line: string) => void,
): T[] {
  say(describeReport(what, report));
  if (examples.length === 0) {
    throw new Error(
      `No row of ${what} is left: ${describeReport(what, report)}. Raise the length limit or use other data.`,
    );
  }
  return examples;
}

/** The limit on tokens: what was asked for, within the model's positions. */
export function lengthLimit(maxLength: number | null, maxPositions: number): number {
  return Math.min(maxLength ?? maxPositions, maxPositions);
}

/** Rows of SFT, packed where the options say so. */
export async function loadSftRows(
  path: string,
  tokenizer: Tokenizer,
  maxPositions: number,
  options: Pick<SftOptions, "maxLength" | "completionOnlyLoss" | "packing">,
  say: (line: string) => void,
): Promise<(SftExample | SftExample[])[]> {
  const limit = lengthLimit(options.maxLength, maxPositions);
  const examples = tellReport(
    path,
    tokenizeSft(await readDataset(path), tokenizer, {
      maxLength: limit,
      completionOnlyLoss: options.completionOnlyLoss ?? null,
    }),
    say,
  );
  if (!options.packing) return examples;
  const rows = packBestFit(examples.map((example) => example.ids.length), limit);
  say(`${path}: packed into ${rows.length} rows of up to ${limit} tokens`);
  return rows.map((row) => row.map((i) => examples[i]));
}

/** Pairs of a reward model. */
export async function loadPairs(
  path: string,
  tokenizer: Tokenizer,
  maxLength: number,
  say: (line: string) => void,
): Promise<PairExample[]> {
  return tellReport(path, tokenizePairs(await readDataset(path), tokenizer, { maxLength }), say);
}

/** Prompts of PPO. */
export async function loadPrompts(
  path: string,
  tokenizer: Tokenizer,
  maxPromptLength: number,
  say: (line: string) => void,
): Promise<PromptExample[]> {
  return tellReport(path, tokenizePrompts(await readDataset(path), tokenizer, { maxPromptLength }), say);
}
