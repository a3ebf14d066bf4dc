/**
 * The pipeline's task on a model and datasets of one's own: SFT on the chosen sides, a reward model on the pairs, PPO on the
 * prompts, or other files for SFT and PPO.
 *
 * @module
 */
import { randomStream } from "../random/stream.ts";
import { detectType, extractPrompt, parseExample, type SplitPair } from "../data/formats.ts";
import type { Content } from "../data/messages.ts";
import type { DataRow } from "../data/rows.ts";
import { countRows, datasetRows, describeSpec } from "../data/sources.ts";
import { PAIR_CODEC, PROMPT_CODEC, SFT_CODEC } from "../data/store.ts";
import { pairTokenizer, promptTokenizer, sftTokenizer } from "../data/tokenize.ts";
import { checkVocabulary, loadTokenizer } from "../data/tokenizer.ts";
import type { JsonObject } from "../model/json_file.ts";
import { configOf, tokenizerSource } from "../model/peft.ts";
import type { Workspace } from "../tape/plan.ts";
import { collector, loadExamples, longestOf, longestPrompt } from "./load_data.ts";
import { loadTrained } from "./open_model.ts";
import type { TrainOptions } from "./options/train.ts";
import type { PipelineTask } from "./pipeline.ts";
import { checkTrainMemory } from "./train_needs.ts";

/** Builds the task; `runDirectory` is for what does not fit into memory, `say` gets what became of the rows of each dataset. */
export async function fileTask(
  workspace: Workspace,
  options: TrainOptions,
  runDirectory: string,
  say: (line: string) => void,
): Promise<PipelineTask> {
  const { modelNameOrPath: directory, datasetName, seed, maxLength } = options;
  if (!directory || !datasetName) {
    throw new Error(
      "A run on data of your own needs both --model (a Hugging Face directory) and --dataset (preference pairs). Without either, keel trains the parrot.",
    );
  }
  const { vocabSize, maxPositions, eosIds } = configOf(directory);
  const tokenizerFrom = tokenizerSource(directory);
  const tokenizer = loadTokenizer(tokenizerFrom);
  checkVocabulary(tokenizer, vocabSize, directory);
  const longest = Math.min(maxLength, maxPositions);

  const room = maxPositions - options.responseLength;
  if (room < 1) {
    throw new Error(
      `Completions of ${options.responseLength} tokens leave no room for a prompt in the model's ${maxPositions} positions. Use a smaller --response_length.`,
    );
  }
  // 1. Every row of pairs becomes a pair, held out or not; those that are not also a demonstration and a prompt
  const name = describeSpec(datasetName), limit = { maxLength: longest };
  const settings = { directory: runDirectory, say };
  const pairs = { codec: PAIR_CODEC, tokenize: pairTokenizer(tokenizer, limit) };
  const answers = { codec: SFT_CODEC, tokenize: sftTokenizer(tokenizer, limit) };
  const asked = {
    codec: PROMPT_CODEC,
    tokenize: promptTokenizer(tokenizer, { maxPromptLength: Math.min(longest, room) }),
  };
  const trainPairs = collector(`pairs of ${name}`, pairs, settings);
  const heldPairs = collector(`held-out pairs of ${name}`, pairs, settings);
  const demonstrations = collector(`demonstrations of ${name}`, answers, settings);
  const prompts = collector(`prompts of ${name}`, asked, settings);
  const isHeld = holdOut(await countRows(datasetName), options.testSplitSize, seed);
  let number = 0;
  for await (const row of datasetRows(datasetName)) {
    if (isHeld[number++]) heldPairs.take(row);
    else {
      trainPairs.take(row);
      const explicit = explicitPair(row);
      if (!options.sftDataset) {
        demonstrations.take(withColumns(row, { prompt: explicit.prompt, completion: explicit.chosen }));
      }
      if (!options.prompts) prompts.take(withColumns(row, { prompt: explicit.prompt }));
    }
  }

  // 2. Other files for SFT and PPO
  const train = trainPairs.finish(), test = isHeld.includes(1) ? heldPairs.finish() : undefined;
  const { sftDataset, prompts: promptDataset } = options;
  const texts = sftDataset
    ? await loadExamples(
      `demonstrations of ${describeSpec(sftDataset)}`,
      sftDataset,
      "train",
      answers,
      settings,
    )
    : demonstrations.finish();
  const questions = promptDataset
    ? await loadExamples(`prompts of ${describeSpec(promptDataset)}`, promptDataset, "train", asked, settings)
    : prompts.finish();
  checkTrainMemory({ gpu: workspace.gpu, say }, options, directory, {
    text: longestOf(texts),
    pair: longestOf(train),
    prompt: longestPrompt(questions),
  });
  return {
    base: loadTrained(workspace.gpu, directory, options, say),
    tokenizerFrom,
    demonstrations: texts,
    comparisons: () => Promise.resolve({ train, eval: test }),
    prompts: questions,
    stopIds: eosIds,
    decode: (ids) => tokenizer.decode(ids),
  };
}

/** Chooses a share of the rows by the seed: 1 for each row that is held out, 0 for the others. */
function holdOut(rows: number, share: number, seed: number): Uint8Array {
  const held = Math.min(rows - 1, Math.round(rows * share));
  const isHeld = new Uint8Array(rows);
  for (const row of randomStream(seed, "held-out pairs").shuffle(rows).subarray(0, held)) isHeld[row] = 1;
  return isHeld;
}

/** The pair of a row with its prompt made explicit, as hh-rlhf leaves it inside both sides. */
function explicitPair(row: DataRow): SplitPair<Content> {
  const example = parseExample(row, detectType(row));
  switch (example.type) {
    case "preference":
      return example;
    case "preference with implicit prompt":
      return extractPrompt(example.chosen, example.rejected);
    default:
      throw new Error(
        `The dataset holds ${example.type} rows. Expected preference pairs: chosen and rejected.`,
      );
  }
}

/** A row of other columns, with what its chat template gets. */
function withColumns(
  { columns: { tools, chat_template_kwargs }, where }: DataRow,
  columns: JsonObject,
): DataRow {
  return { columns: { ...columns, tools, chat_template_kwargs }, where };
}
