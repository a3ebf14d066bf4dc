/**
 * `keel data`: what a dataset is read as.
 *
 * @module
 */
import { join } from "node:path";
import { describeSpec } from "../../data/sources.ts";
import { surveyDataset } from "../../data/survey.ts";
import { loadTokenizer } from "../../data/tokenizer.ts";
import { readConfig } from "../../model/config.ts";
import { fileExists } from "../../model/json_file.ts";
import { lengthLimit } from "../../train/load_data.ts";
import type { DataCommandOptions } from "../../train/options/data_command.ts";
import { surveyLines } from "../data_view.ts";
import { fetchNamed } from "../hub_names.ts";
import type { CommandBody } from "../program.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options } = await fetchNamed<DataCommandOptions>(given, io, { weights: false });
  const { dataset, modelNameOrPath: directory, maxLength, rows } = options;
  const limit = directory !== undefined && fileExists(join(directory, "config.json"))
    ? lengthLimit(maxLength, readConfig(directory).maxPositions)
    : maxLength;
  const survey = await surveyDataset(dataset, {
    rows,
    tokenizer: directory === undefined ? undefined : loadTokenizer(directory),
    maxLength: limit,
    textField: options.datasetTextField,
    truncationMode: options.truncationMode,
    completionOnlyLoss: options.completionOnlyLoss ?? null,
    assistantOnlyLoss: options.assistantOnlyLoss,
  });
  if (io.json) return io.print(JSON.stringify(survey));
  const colours = Deno.stdout.isTerminal() && !Deno.noColor;
  for (const line of surveyLines(describeSpec(dataset), survey, colours)) io.print(line);
  if (directory === undefined) {
    io.note("With --model DIR, lengths are in tokens, and rows are shown as a model sees them.");
  }
};
