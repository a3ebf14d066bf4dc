/**
 * Datasets of the single stages: read row by row, tokenised into a store, split, packed and reported.
 *
 * @module
 */
import { endsTurns } from "../data/assistant_mask.ts";
import type { Rows } from "../data/batches.ts";
import { pack } from "../data/packing.ts";
import type { DataRow } from "../data/rows.ts";
import { datasetRows, type DatasetSpec, describeSpec } from "../data/sources.ts";
import {
  type ExampleCodec,
  type ExampleStore,
  openStore,
  PAIR_CODEC,
  PROMPT_CODEC,
  PROMPT_ROW_CODEC,
  SFT_CODEC,
} from "../data/store.ts";
import {
  checkReport,
  countOutcome,
  type DataReport,
  emptyReport,
  type PairExample,
  pairTokenizer,
  type PromptExample,
  type PromptRow,
  promptRowTokenizer,
  promptTokenizer,
  type RowTokenizer,
  type SftExample,
  sftTokenizer,
} from "../data/tokenize.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import { randomStream } from "../random/stream.ts";
import type { DataOptions } from "./options/data.ts";
import type { SftOptions } from "./options/sft.ts";

/** A line on what became of a dataset's rows. */
export function describeReport(what: string, { rows, kept, dropped, truncated }: DataReport): string {
  const parts = [
    ...Object.entries(dropped).map(([reason, count]) => `${count} dropped (${reason})`),
    ...(truncated ? [`${truncated} cut to the limit`] : []),
  ];
  return `${what}: ${kept} of ${rows} rows${parts.length ? `; ${parts.join(", ")}` : ""}`;
}

/** The limit on tokens: what was asked for, within the model's positions. */
export function lengthLimit(maxLength: number | null, maxPositions: number): number {
  return Math.min(maxLength ?? maxPositions, maxPositions);
}

/** Where datasets are loaded to, and who is told. */
export interface LoadSettings {
  /** Folder for examples that do not fit into memory. */
  directory?: string;
  say: (line: string) => void;
}

/** Training examples, and held-out ones where there are any. */
export interface LoadedData<T> {
  examples: T;
  evalExamples?: T;
}

/** How rows become examples, and how these are stored. */
export interface Making<T> {
  tokenize: RowTokenizer<T>;
  codec: ExampleCodec<T>;
  /** Makes other rows of the dataset's. */
  arrange?: (rows: AsyncIterable<DataRow>) => AsyncIterable<DataRow>;
}

/** Examples that are made of rows one by one. */
export interface Collector<T> {
  /** Tokenises a row. */
  take(row: DataRow): void;
  /** All examples, after a line on what became of the rows. Throws when there are none. */
  finish(): ExampleStore<T>;
}

/** Collects the examples of `what`. */
export function collector<T>(
  what: string,
  { tokenize, codec }: Making<T>,
  settings: LoadSettings,
): Collector<T> {
  const store = openStore(codec, { directory: settings.directory });
  const report = emptyReport();
  return {
    take(row) {
      const example = countOutcome(report, tokenize(row));
      if (example !== undefined) store.add(example);
    },
    finish() {
      checkReport(report);
      settings.say(describeReport(what, report));
      return store;
    },
  };
}

/** Tokenises a dataset row by row into a store. */
export async function loadExamples<T>(
  what: string,
  spec: DatasetSpec,
  split: string,
  making: Making<T>,
  settings: LoadSettings,
): Promise<ExampleStore<T>> {
  const collected = collector(what, making, settings), { arrange = (rows) => rows } = making;
  for await (const row of arrange(datasetRows(spec, split))) collected.take(row);
  return collected.finish();
}

/** Likewise, called as the options call the dataset. */
function fill<T>(
  spec: DatasetSpec,
  split: string,
  making: Making<T>,
  settings: LoadSettings,
): Promise<ExampleStore<T>> {
  const what = split === "train" ? describeSpec(spec) : `${describeSpec(spec)} (${split})`;
  return loadExamples(what, spec, split, making, settings);
}

/** Some rows of others, by their numbers. */
function pick<T>(rows: Rows<T>, numbers: Uint32Array): Rows<T> {
  return { length: numbers.length, at: (row) => row < numbers.length ? rows.at(numbers[row]) : undefined };
}

/** Holds out a share of the examples, chosen by the seed; both parts are in the order of the dataset. */
function holdOut<T>(store: ExampleStore<T>, share: number, seed: number): Required<LoadedData<Picked<T>>> {
  const held = Math.min(store.length - 1, Math.max(1, Math.round(store.length * share)));
  if (held < 1) throw new Error("The dataset has one example, of which no share can be held out.");
  const order = randomStream(seed, "held-out rows").shuffle(store.length);
  const part = (numbers: Uint32Array): Picked<T> => ({
    ...pick(store, numbers.sort()),
    words: (row) => store.words(numbers[row]),
  });
  return { examples: part(order.slice(held)), evalExamples: part(order.slice(0, held)) };
}

/** Rows of which the words are known. */
export type Picked<T> = Rows<T> & Pick<ExampleStore<T>, "words">;

/** Loads the training data of the options and, as they say, held-out ones: another dataset, another split, or a share. */
export async function loadData<T>(
  options: DataOptions & { seed: number },
  kind: (forEvaluation: boolean) => Making<T>,
  settings: LoadSettings,
): Promise<LoadedData<Picked<T>>> {
  const { datasetName, datasetTrainSplit, datasetTestSplit, evalDataset, testSplitSize } = options;
  const ways = [evalDataset, datasetTestSplit, testSplitSize].filter((way) => way !== undefined);
  if (ways.length > 1) {
    throw new Error(
      "Held-out rows come from one of eval_dataset, dataset_test_split and test_split_size. Give one of them.",
    );
  }
  const examples = await fill(datasetName, datasetTrainSplit, kind(false), settings);
  if (testSplitSize !== undefined) {
    const parts = holdOut(examples, testSplitSize, options.seed);
    settings.say(`${describeSpec(datasetName)}: ${parts.evalExamples.length} rows held out`);
    return parts;
  }
  if (evalDataset !== undefined) {
    // A directory that names no split has everything in train.
    return { examples, evalExamples: await fill(evalDataset, "train", kind(true), settings) };
  }
  if (datasetTestSplit === undefined) return { examples };
  return { examples, evalExamples: await fill(datasetName, datasetTestSplit, kind(true), settings) };
}

/** Tokens of the longest row of SFT; a packed row has up to `limit`. */
export function longestText(
  examples: Rows<unknown> & Partial<Pick<ExampleStore<unknown>, "words">>,
  limit: number,
): number {
  return examples.words ? longestOf(examples as Picked<unknown>) : limit;
}

/** Tokens of the longest prompt. */
export function longestPrompt(prompts: Rows<PromptExample>): number {
  let most = 0;
  for (let row = 0; row < prompts.length; row++) most = Math.max(most, prompts.at(row)!.ids.length);
  return most;
}

/** Tokens of the longest text, or of the longest pair, both sides together. */
export function longestOf(examples: Pick<ExampleStore<unknown>, "length" | "words">): number {
  let most = 0;
  for (let row = 0; row < examples.length; row++) most = Math.max(most, examples.words(row));
  return most;
}

/** Rows of packed documents, read when they are asked for. */
function packRows(
  examples: Picked<SftExample>,
  limit: number,
  strategy: SftOptions["packingStrategy"],
): Rows<SftExample[]> {
  const lengths = Uint32Array.from({ length: examples.length }, (_, row) => examples.words(row));
  const packing = pack(lengths, limit, strategy);
  return {
    length: packing.length,
    at: (row) =>
      row < packing.length
        ? packing.row(row).map(({ document, begin, end }) => {
          const { ids, scored } = examples.at(document)!;
          // Nothing before a piece is seen, so its first token is not predicted.
          return {
            ids: ids.slice(begin, end),
            scored: scored.slice(begin, end).map((one, t) => t > 0 && one),
          };
        })
        : undefined,
  };
}

/** What {@linkcode loadSft} looks at. */
export type SftDataOptions =
  & DataOptions
  & Pick<
    SftOptions,
    | "seed"
    | "datasetTextField"
    | "maxLength"
    | "truncationMode"
    | "completionOnlyLoss"
    | "assistantOnlyLoss"
    | "packing"
    | "packingStrategy"
    | "evalPacking"
  >;

/** Rows of SFT, packed where the options say so. */
export async function loadSft(
  options: SftDataOptions,
  tokenizer: Tokenizer,
  maxPositions: number,
  settings: LoadSettings,
): Promise<LoadedData<Rows<SftExample | SftExample[]>>> {
  const limit = lengthLimit(options.maxLength, maxPositions);
  const evalPacking = options.evalPacking ?? options.packing;
  if (options.testSplitSize !== undefined && evalPacking !== options.packing) {
    throw new Error(
      "test_split_size holds out rows of the training data, which are packed alike. Leave eval_packing out, or use eval_dataset.",
    );
  }
  if (options.assistantOnlyLoss && !endsTurns(tokenizer)) {
    settings.say(
      "The chat template does not count the end of the assistant's turn as the assistant's, so the model may not learn to stop. Put that token between {% generation %} and {% endgeneration %}.",
    );
  }
  const { examples, evalExamples } = await loadData(options, (forEvaluation) => {
    const packed = forEvaluation ? evalPacking : options.packing;
    return {
      codec: SFT_CODEC,
      tokenize: sftTokenizer(tokenizer, {
        textField: options.datasetTextField,
        maxLength: packed && options.packingStrategy !== "bfd" ? null : limit,
        truncationMode: packed ? "keep_start" : options.truncationMode,
        completionOnlyLoss: options.completionOnlyLoss ?? null,
        assistantOnlyLoss: options.assistantOnlyLoss,
      }),
    };
  }, settings);
  const arrange = (what: string, rows: Picked<SftExample>, packed: boolean) => {
    if (!packed) return rows;
    const packedRows = packRows(rows, limit, options.packingStrategy);
    settings.say(`${what}: packed into ${packedRows.length} rows of up to ${limit} tokens`);
    return packedRows;
  };
  const name = describeSpec(options.datasetName);
  return {
    examples: arrange(name, examples, options.packing),
    evalExamples: evalExamples && arrange(`${name}, held out`, evalExamples, evalPacking),
  };
}

/** Pairs of a reward model. */
export function loadPairs(
  options: DataOptions & { seed: number },
  tokenizer: Tokenizer,
  maxLength: number,
  settings: LoadSettings,
): Promise<LoadedData<Picked<PairExample>>> {
  return loadData(
    options,
    () => ({ codec: PAIR_CODEC, tokenize: pairTokenizer(tokenizer, { maxLength }) }),
    settings,
  );
}

/** Prompts of PPO. */
export async function loadPrompts(
  options: Pick<DataOptions, "datasetName" | "datasetTrainSplit">,
  tokenizer: Tokenizer,
  maxPromptLength: number,
  settings: LoadSettings,
): Promise<Rows<PromptExample>> {
  return await fill(
    options.datasetName,
    options.datasetTrainSplit,
    { codec: PROMPT_CODEC, tokenize: promptTokenizer(tokenizer, { maxPromptLength }) },
    settings,
  );
}

/** Prompts of methods whose rewards may look at the prompt as in the dataset and at its further columns. */
export async function loadPromptRows(
  options: Pick<DataOptions, "datasetName" | "datasetTrainSplit">,
  tokenizer: Tokenizer,
  maxPromptLength: number | null,
  settings: LoadSettings,
): Promise<Rows<PromptRow>> {
  return await fill(
    options.datasetName,
    options.datasetTrainSplit,
    { codec: PROMPT_ROW_CODEC, tokenize: promptRowTokenizer(tokenizer, { maxPromptLength }) },
    settings,
  );
}

/** All prompts but the last `count`, which are held out. */
export function allBut<T>(rows: Rows<T>, count: number): Rows<T> {
  const length = rows.length - count;
  if (length < 1) {
    throw new Error(`Of ${rows.length} prompts ${count} cannot be held out. Expected fewer --eval_prompts.`);
  }
  return { length, at: (row) => row < length ? rows.at(row) : undefined };
}
