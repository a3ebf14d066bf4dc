/**
 * The pipeline's task on a model and datasets of one's own: SFT on the chosen sides, a reward model on the pairs, PPO on the
 * prompts, or other files for SFT and PPO.
 *
 * @module
 */
import { randomStream } from "../random/stream.ts";
import { type Content, extractPrompt, parseExamples, type SplitPair } from "../data/formats.ts";
import { type DataRow, readDataset } from "../data/rows.ts";
import { type Tokenized, tokenizePairs, tokenizePrompts, tokenizeSft } from "../data/tokenize.ts";
import { checkVocabulary, loadTokenizer } from "../data/tokenizer.ts";
import type { JsonObject } from "../model/json_file.ts";
import { loadModel } from "../model/load.ts";
import type { Workspace } from "../tape/plan.ts";
import { tellReport } from "./load_data.ts";
import type { TrainOptions } from "./options/train.ts";
import type { PipelineTask } from "./pipeline.ts";

/** Builds the task; `say` gets what became of the rows of each dataset. */
export async function fileTask(
  workspace: Workspace,
  options: TrainOptions,
  say: (line: string) => void,
): Promise<PipelineTask> {
  const { modelNameOrPath: directory, datasetName, seed, maxLength } = options;
  if (!directory || !datasetName) {
    throw new Error(
      "A run on data of your own needs both --model (a Hugging Face directory) and --dataset (preference pairs). Without either, keel trains the parrot.",
    );
  }
  const base = loadModel(workspace.gpu, directory);
  const tokenizer = loadTokenizer(directory);
  checkVocabulary(tokenizer, base.config.vocabSize, directory);
  const longest = Math.min(maxLength, base.config.maxPositions);

  const pairs = await readDataset(datasetName);
  const { train, test } = split(pairs, options.testSplitSize, seed);
  const tell = <T>(what: string, tokenized: Tokenized<T>) => tellReport(what, tokenized, say);
  const demonstrations = options.sftDataset ? await readDataset(options.sftDataset) : chosenSides(train);
  const promptRows = options.prompts ? await readDataset(options.prompts) : promptsOf(train);
  const limit = { maxLength: longest };
  const trainPairs = tell(`pairs of ${datasetName}`, tokenizePairs(train, tokenizer, limit));
  const testPairs = test.length
    ? tell(`held-out pairs of ${datasetName}`, tokenizePairs(test, tokenizer, limit))
    : undefined;
  const room = base.config.maxPositions - options.responseLength;
  if (room < 1) {
    throw new Error(
      `Completions of ${options.responseLength} tokens leave no room for a prompt in the model's ${base.config.maxPositions} positions. Use a smaller --response_length.`,
    );
  }
  return {
    base,
    tokenizerFrom: directory,
    demonstrations: tell(
      `demonstrations of ${options.sftDataset ?? datasetName}`,
      tokenizeSft(demonstrations, tokenizer, limit),
    ),
    comparisons: () => Promise.resolve({ train: trainPairs, eval: testPairs }),
    prompts: tell(
      `prompts of ${options.prompts ?? datasetName}`,
      tokenizePrompts(promptRows, tokenizer, { maxPromptLength: Math.min(longest, room) }),
    ),
    stopIds: base.config.eosIds,
    decode: (ids) => tokenizer.decode(ids),
  };
}

/** Holds out a share of the rows, chosen by the seed. */
function split(rows: DataRow[], share: number, seed: number): { train: DataRow[]; test: DataRow[] } {
  const held = Math.min(rows.length - 1, Math.round(rows.length * share));
  const order = randomStream(seed, "held-out pairs").shuffle(rows.length);
  const isHeld = new Set(order.subarray(0, held));
  return {
    train: rows.filter((_, i) => !isHeld.has(i)),
    test: rows.filter((_, i) => isHeld.has(i)),
  };
}

/** Rows made of the pairs with their prompt made explicit, as hh-rlhf leaves it inside both sides. */
function derive(rows: DataRow[], columns: (pair: SplitPair<Content>) => JsonObject): DataRow[] {
  const pairs = parseExamples(rows).examples.map((example) => {
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
  });
  return pairs.map((pair, i) => ({ columns: columns(pair), where: rows[i].where }));
}

const chosenSides = (rows: DataRow[]) =>
  derive(rows, ({ prompt, chosen }) => ({ prompt, completion: chosen }));

const promptsOf = (rows: DataRow[]) => derive(rows, ({ prompt }) => ({ prompt }));
