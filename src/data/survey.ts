/**
 * What a dataset is read as: its type, its rows by file, their lengths, what a stage would drop, and some rows with the tokens
 * that count in the loss.
 *
 * @module
 */
import { type DatasetType, detectType, type Example, parseExample } from "./formats.ts";
import type { Content } from "./messages.ts";
import { type DataRow, readRows } from "./rows.ts";
import { datasetEntries, type DatasetSpec, filesOf, mixtureCounts, splitsOf } from "./sources.ts";
import {
  countOutcome,
  type DataReport,
  emptyReport,
  type Outcome,
  pairTokenizer,
  promptTokenizer,
  type RowTokenizer,
  type SftExample,
  type SftSettings,
  sftTokenizer,
  unpairedTokenizer,
  withText,
} from "./tokenize.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** A piece of a rendered row: tokens that are all scored, or none of them. */
export interface Segment {
  text: string;
  scored: boolean;
}

/** A sequence that a row becomes, or a column where there is no tokenizer. */
export interface RenderedPart {
  name: string;
  segments: Segment[];
}

/** A row as it is trained on. */
export interface RenderedRow {
  where: string;
  /** Why it would not be trained on. */
  dropped?: string;
  parts: RenderedPart[];
}

/** Lengths of rows. */
export interface Lengths {
  unit: "tokens" | "characters";
  min: number;
  mean: number;
  p50: number;
  p90: number;
  p99: number;
  max: number;
  /** Rows with lengths from `from` to before `to`. */
  histogram: { from: number; to: number; rows: number }[];
}

/** What {@linkcode surveyDataset} finds. */
export interface Survey {
  type: DatasetType;
  /** `standard` is text, `conversational` lists of messages. */
  format: "standard" | "conversational";
  /** Columns of the first row. */
  columns: string[];
  /** Commands that can use it. */
  commands: string[];
  /** Rows by file; `taken` where a mixture does not take all. */
  files: { split: string; file: string; rows: number; taken?: number }[];
  lengths: Lengths;
  /** What became of the rows; only with a tokenizer. */
  report?: DataReport;
  /** Rows by label; only for unpaired preferences. */
  labels?: { true: number; false: number };
  examples: RenderedRow[];
}

/** How a dataset is looked at. */
export interface SurveySettings extends SftSettings {
  /** Rows that are rendered. */
  rows: number;
  tokenizer?: Tokenizer;
}

/** Commands that can use a type of dataset. */
function commandsFor(type: DatasetType): string[] {
  switch (type) {
    case "language modelling":
      return ["pretrain", "sft"];
    case "prompt-completion":
      return ["sft", "ppo"];
    case "preference":
    case "preference with implicit prompt":
      return ["train", "reward", "dpo", "kto", "orpo", "cpo", "ppo"];
    case "unpaired preference":
      return ["kto", "ppo"];
    case "prompt-only":
      return ["ppo"];
  }
}

/** Contents of an example by the name of their column. */
function contentsOf(example: Example): [string, Content][] {
  return ["prompt", "text", "completion", "chosen", "rejected"].flatMap((name) =>
    name in example ? [[name, example[name as keyof Example] as unknown as Content] as [string, Content]] : []
  );
}

const plainText = (content: Content) =>
  typeof content === "string"
    ? content
    : content.map(({ role, content, tool_calls }) => `${role}: ${content ?? JSON.stringify(tool_calls)}`)
      .join("\n");

/** Makes what is rendered of a row: named sequences. */
type Sequences = { name: string; example: SftExample }[];

/** Runs of tokens that are scored alike. */
function segments(tokenizer: Tokenizer, { ids, scored }: SftExample): Segment[] {
  const runs: Segment[] = [];
  const textUpTo = (end: number) =>
    tokenizer.decode(ids.slice(0, end), { skipSpecialTokens: false, cleanUpSpaces: false });
  for (let from = 0, to = 0, shown = 0; from < ids.length; from = to) {
    while (to < ids.length && scored[to] === scored[from]) to++;
    const text = textUpTo(to);
    runs.push({ text: text.slice(shown), scored: scored[from] });
    shown = text.length;
  }
  return runs;
}

/** Reads rows of a type into the sequences that its stage sees. */
function sequencesOf(
  type: DatasetType,
  tokenizer: Tokenizer,
  settings: SftSettings,
): RowTokenizer<Sequences> {
  const { maxLength = 1024 } = settings;
  const map =
    <T>(tokenize: RowTokenizer<T>, render: (example: T) => Sequences): RowTokenizer<Sequences> => (row) => {
      const outcome = tokenize(row);
      return "example" in outcome ? { ...outcome, example: render(outcome.example) } : outcome;
    };
  const unscored = (ids: number[]): SftExample => ({ ids, scored: ids.map(() => false) });
  switch (type) {
    case "language modelling":
    case "prompt-completion":
      return map(sftTokenizer(tokenizer, settings), (example) => [{ name: "sequence", example }]);
    case "preference":
    case "preference with implicit prompt":
      // A reward model's score is read at the last token.
      return map(
        pairTokenizer(tokenizer, { maxLength }),
        (pair) =>
          (["chosen", "rejected"] as const).map((name) => ({
            name,
            example: { ids: pair[name], scored: pair[name].map((_, t) => t === pair[name].length - 1) },
          })),
      );
    case "prompt-only":
      return map(
        promptTokenizer(tokenizer, { maxPromptLength: maxLength }),
        ({ ids }) => [{ name: "prompt", example: unscored(ids) }],
      );
    case "unpaired preference":
      return map(unpairedTokenizer(tokenizer, { maxLength }), ({ ids, promptLength, label }) => [{
        name: `label ${label}`,
        example: { ids, scored: ids.map((_, t) => t >= Math.max(1, promptLength)) },
      }]);
  }
}

/** Without a tokenizer: the columns, and their characters. */
function columnsOnly(example: Example): Outcome<RenderedPart[]> {
  const parts = contentsOf(example).map(([name, content]) => ({
    name,
    segments: [{ text: plainText(content), scored: false }],
  }));
  return { tokens: parts.reduce((n, { segments: [{ text }] }) => n + text.length, 0), example: parts };
}

/** Percentiles by the nearest rank, and rows in at most twelve bins of equal width. */
export function measureLengths(lengths: number[], unit: Lengths["unit"]): Lengths {
  const sorted = Float64Array.from(lengths).sort();
  const rank = (share: number) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)];
  const [min, max] = [sorted[0], sorted[sorted.length - 1]];
  const width = Math.max(1, Math.ceil((max - min + 1) / 12));
  const histogram = Array.from({ length: Math.floor((max - min) / width) + 1 }, (_, i) => ({
    from: min + i * width,
    to: min + (i + 1) * width,
    rows: 0,
  }));
  for (const length of sorted) histogram[Math.floor((length - min) / width)].rows++;
  const mean = sorted.reduce((a, b) => a + b, 0) / sorted.length;
  return { unit, min, mean, p50: rank(0.5), p90: rank(0.9), p99: rank(0.99), max, histogram };
}

/** The files of a dataset with their split; of a mixture also the most rows that are taken. */
async function surveyFiles(spec: DatasetSpec): Promise<{ split: string; file: string; most: number }[]> {
  const entries = datasetEntries(spec);
  const counts = await mixtureCounts(entries);
  return entries.flatMap((entry, i) => {
    const whole = entries.length === 1 && entry.split === undefined && !entry.data_files && !entry.data_dir;
    let splits: [string, string[]][] | undefined;
    if (entry.splits && whole) splits = Object.entries(entry.splits);
    else if (whole) {
      try {
        if (Deno.statSync(entry.path).isDirectory) splits = [...splitsOf(entry.path)];
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
    splits ??= [[entry.split ?? "train", filesOf(entry)]];
    return splits.flatMap(([split, files]) => files.map((file) => ({ split, file, most: counts[i] })));
  });
}

/** Reads a whole dataset and says what it is read as. */
export async function surveyDataset(spec: DatasetSpec, settings: SurveySettings): Promise<Survey> {
  const { tokenizer, rows } = settings;
  const files: Survey["files"] = [], lengths: number[] = [], examples: RenderedRow[] = [];
  const report = emptyReport(), labels = { true: 0, false: 0 };
  let first: { row: DataRow; example: Example } | undefined;
  let sequences: RowTokenizer<Sequences> | undefined;
  for (const { split, file, most } of await surveyFiles(spec)) {
    let count = 0;
    for await (const read of readRows(file)) {
      count++;
      const row = withText(read, settings.textField ?? "text");
      const type = first?.example.type ?? detectType(row);
      const example = parseExample(row, type);
      first ??= { row, example };
      if (example.type === "unpaired preference") labels[`${example.label}`]++;
      let outcome: Outcome<RenderedPart[]>;
      if (tokenizer) {
        const own = (sequences ??= sequencesOf(type, tokenizer, settings))(row);
        const wanted = examples.length < rows && "example" in own;
        outcome = "example" in own
          ? {
            ...own,
            example: wanted
              ? own.example.map(({ name, example }) => ({ name, segments: segments(tokenizer, example) }))
              : [],
          }
          : own;
      } else outcome = columnsOnly(example);
      lengths.push(outcome.tokens);
      countOutcome(report, outcome);
      if (examples.length < rows) {
        examples.push(
          "dropped" in outcome
            ? { where: row.where, dropped: outcome.dropped, parts: [] }
            : { where: row.where, parts: outcome.example },
        );
      }
    }
    files.push({ split, file, rows: count, ...(most < count ? { taken: most } : {}) });
  }
  const { row, example } = first!;
  return {
    type: example.type,
    format: typeof contentsOf(example)[0][1] === "string" ? "standard" : "conversational",
    columns: Object.keys(row.columns),
    commands: commandsFor(example.type),
    files,
    lengths: measureLengths(lengths, tokenizer ? "tokens" : "characters"),
    ...(tokenizer ? { report } : {}),
    ...(example.type === "unpaired preference" ? { labels } : {}),
    examples,
  };
}
