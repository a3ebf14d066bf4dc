/**
 * `keel eval`: a model on held-out rows.
 *
 * @module
 */
import { detectType } from "../../data/formats.ts";
import type { DataRow } from "../../data/rows.ts";
import { countRows, datasetRows, describeSpec } from "../../data/sources.ts";
import {
  checkReport,
  countOutcome,
  type DataReport,
  emptyReport,
  pairTokenizer,
  type RowTokenizer,
  sftTokenizer,
  withText,
} from "../../data/tokenize.ts";
import { checkVocabulary, loadTokenizer, type Tokenizer } from "../../data/tokenizer.ts";
import { openGpu } from "../../gpu/device.ts";
import type { Model } from "../../model/decoder.ts";
import { loadFrozen } from "../../model/load.ts";
import { tokenizerSource } from "../../model/peft.ts";
import {
  addTexts,
  bySize,
  NO_TEXT,
  pairLogprobs,
  pairScores,
  type Placed,
  scoredBytes,
  sidesOf,
  sumText,
  type TextReport,
  textReport,
} from "../../sample/evaluate.ts";
import {
  type CalibrationReport,
  calibrationReport,
  type PreferenceReport,
  preferenceReport,
} from "../../sample/preferences.ts";
import { documentScorer, tokenScorer } from "../../sample/score.ts";
import type { Workspace } from "../../tape/plan.ts";
import { describeReport, lengthLimit } from "../../train/load_data.ts";
import type { EvalOptions } from "../../train/options/eval.ts";
import { calibrationLines, preferenceLine, textLines } from "../eval_view.ts";
import { fetchNamed } from "../hub_names.ts";
import type { Io } from "../io.ts";
import { openProgress } from "../progress.ts";
import type { CommandBody } from "../program.ts";
import { openRowFile } from "../row_file.ts";
import { withRun } from "../run_models.ts";

/** Milliseconds between two lines of progress where there is no terminal. */
const TOLD_AFTER = 10_000;

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options } = await fetchNamed<EvalOptions>(withRun(given, { anyKind: true }), io);
  const { modelNameOrPath: directory, dataset, datasetSplit, maxLength } = options;
  const tokenizer = loadTokenizer(tokenizerSource(directory));
  const rows = await countRows(dataset, datasetSplit);
  const gpu = await openGpu();
  const progress = openProgress(io, { loggingSteps: 1 }), file = openRowFile(options.output);
  try {
    const model = loadFrozen(gpu, directory, options.dtype);
    checkVocabulary(tokenizer, model.config.vocabSize, directory);
    const limit = lengthLimit(maxLength, model.config.maxPositions);
    let last = performance.now();
    const job: Job = {
      ...{ workspace: { gpu }, model, tokenizer, options: { ...options, maxLength: limit } },
      report: emptyReport(),
      write: file.write,
      tell(metrics) {
        const { rows: step } = job.report, now = performance.now();
        if (!io.terminal && step < rows && now - last < TOLD_AFTER) return;
        last = now;
        progress.step({ stage: "eval", step, total: rows, metrics });
      },
    };
    const result = await evaluate(job, await firstRow(options));
    progress.done();
    file.close();
    io.note(describeReport(describeSpec(dataset), job.report));
    print(io, { model: directory, dataset: describeSpec(dataset), ...job.report, ...result });
  } catch (error) {
    progress.done();
    file.discard();
    throw error;
  } finally {
    gpu.close();
  }
};

/** What is evaluated and who is told. */
interface Job {
  workspace: Workspace;
  model: Model;
  tokenizer: Tokenizer;
  options: EvalOptions;
  /** What became of the rows so far. */
  report: DataReport;
  /** Keeps the numbers of a row. */
  write(row: object): void;
  /** Shows where it stands. */
  tell(metrics: Record<string, number>): void;
}

/** Results, by what kind of model and rows they are of. */
type Result =
  | { task: "texts" } & TextReport
  | { task: "reward" } & PreferenceReport & CalibrationReport
  | { task: "pairs"; total: PreferenceReport; per_token: PreferenceReport };

async function firstRow({ dataset, datasetSplit, datasetTextField }: EvalOptions): Promise<DataRow> {
  for await (const row of datasetRows(dataset, datasetSplit)) return withText(row, datasetTextField);
  throw new Error("The dataset has no rows.");
}

async function evaluate(job: Job, first: DataRow): Promise<Result> {
  if (job.model.config.architecture === "reward") return await evaluateReward(job);
  const type = detectType(first);
  switch (type) {
    case "language modelling":
    case "prompt-completion":
      return await evaluateTexts(job);
    case "preference":
    case "preference with implicit prompt":
      return await evaluatePairs(job);
    default:
      throw new Error(
        `keel eval cannot use a dataset of type ${type}. Expected language modelling (text or messages), prompt-completion (prompt, completion), or preference pairs (chosen, rejected).`,
      );
  }
}

/** Examples of the dataset's rows, each counted in the report. */
async function* examplesOf<T>(
  { options, report }: Job,
  tokenize: RowTokenizer<T>,
): AsyncGenerator<Placed<T>> {
  for await (const row of datasetRows(options.dataset, options.datasetSplit)) {
    const example = countOutcome(report, tokenize(row));
    if (example !== undefined) yield { where: row.where, example };
  }
  checkReport(report);
}

function checkFinite(where: string, value: number): void {
  if (!Number.isFinite(value)) {
    throw new Error(`Cannot evaluate ${where}: the model's numbers are not finite. Are its weights damaged?`);
  }
}

async function evaluateTexts(job: Job): Promise<Result> {
  const { options, tokenizer } = job;
  const scorer = tokenScorer(job.workspace, job.model);
  const tokenize = sftTokenizer(tokenizer, {
    textField: options.datasetTextField,
    maxLength: options.maxLength,
    truncationMode: options.truncationMode,
    completionOnlyLoss: options.completionOnlyLoss ?? null,
    assistantOnlyLoss: options.assistantOnlyLoss,
  });
  let sums = NO_TEXT, seen = 0;
  for await (const group of bySize(examplesOf(job, tokenize), ({ ids }) => [ids], options.batchTokens)) {
    const scores = await scorer(group.map(({ example }) => example.ids));
    group.forEach(({ where, example }, i) => {
      const own = sumText(example, scores[i], scoredBytes(example, tokenizer));
      sums = addTexts(sums, own);
      seen += example.ids.length;
      checkFinite(where, own.nll);
      job.write({ where, ...own });
    });
    job.tell({ num_tokens: seen, loss: sums.nll / Math.max(1, sums.tokens) });
  }
  if (sums.tokens === 0) throw new Error("None of the tokens is scored: every text has one token only.");
  return { task: "texts", ...textReport(sums) };
}

/** Examples of pairs in groups, with the tokens of all so far. */
async function* pairGroups(job: Job) {
  const { maxLength, batchTokens } = job.options;
  const examples = examplesOf(job, pairTokenizer(job.tokenizer, { maxLength }));
  let seen = 0;
  for await (const group of bySize(examples, sidesOf, batchTokens)) {
    const pairs = group.map(({ example }) => example);
    seen += pairs.flatMap(sidesOf).reduce((sum, ids) => sum + ids.length, 0);
    yield { group, pairs, seen };
  }
}

const accuracyOf = (margins: number[]) => margins.filter((margin) => margin > 0).length / margins.length;

async function evaluateReward(job: Job): Promise<Result> {
  const scorer = documentScorer(job.workspace, job.model), margins: number[] = [];
  for await (const { group, pairs, seen } of pairGroups(job)) {
    for (const [i, { chosen, rejected }] of (await pairScores(scorer, pairs)).entries()) {
      checkFinite(group[i].where, chosen - rejected);
      margins.push(chosen - rejected);
      job.write({ where: group[i].where, chosen, rejected, margin: chosen - rejected });
    }
    job.tell({ num_tokens: seen, accuracy: accuracyOf(margins) });
  }
  return { task: "reward", ...preferenceReport(margins), ...calibrationReport(margins) };
}

async function evaluatePairs(job: Job): Promise<Result> {
  const scorer = tokenScorer(job.workspace, job.model);
  const totals: number[] = [], perToken: number[] = [];
  for await (const { group, pairs, seen } of pairGroups(job)) {
    for (const [i, of] of (await pairLogprobs(scorer, pairs)).entries()) {
      checkFinite(group[i].where, of.total.chosen - of.total.rejected);
      totals.push(of.total.chosen - of.total.rejected);
      perToken.push(of.perToken.chosen - of.perToken.rejected);
      job.write({ where: group[i].where, total: of.total, per_token: of.perToken });
    }
    job.tell({ num_tokens: seen, accuracy: accuracyOf(totals) });
  }
  return { task: "pairs", total: preferenceReport(totals), per_token: preferenceReport(perToken) };
}

function print(io: Io, result: Result & Record<string, unknown>): void {
  if (io.json) return io.print(JSON.stringify(result));
  for (const line of linesOf(result)) io.print(line);
}

function linesOf(result: Result): string[] {
  switch (result.task) {
    case "texts":
      return textLines(result);
    case "reward":
      return [`accuracy     ${preferenceLine(result)}`, ...calibrationLines(result)];
    case "pairs":
      return [
        "A language model has no scores; here it prefers the answer that is more likely.",
        `as a whole  ${preferenceLine(result.total)} nats`,
        `per token   ${preferenceLine(result.per_token)} nats`,
      ];
  }
}
