/**
 * `keel score`: log-probabilities and entropies of given texts, or the scores of a reward model.
 *
 * @module
 */
import { loadTokenizer, type Tokenizer } from "../../data/tokenizer.ts";
import { openGpu } from "../../gpu/device.ts";
import { loadFrozen } from "../../model/load.ts";
import { tokenizerSource } from "../../model/peft.ts";
import { documentScorer, score } from "../../sample/score.ts";
import type { ScoreOptions } from "../../train/options/generate.ts";
import { fetchNamed } from "../hub_names.ts";
import { checkInputRows, readScoreRows, writeRows } from "../jsonl.ts";
import type { CommandBody } from "../program.ts";
import { withRun } from "../run_models.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options } = await fetchNamed<ScoreOptions>(withRun(given, { anyKind: true }), io);
  const directory = options.modelNameOrPath;
  const gpu = await openGpu();
  try {
    const workspace = { gpu };
    const model = loadFrozen(gpu, directory, options.dtype);
    let tokenizer: Tokenizer | undefined;
    const tokens = () => tokenizer ??= loadTokenizer(tokenizerSource(directory));
    const rows = await readScoreRows(options.input, tokens);
    checkInputRows(rows, model.config);
    const documents = rows.map((row) => row.ids);
    if (model.config.architecture === "reward") {
      const scores = await documentScorer(workspace, model)(documents);
      await writeRows(options.output, documents.map((ids, i) => ({ input_ids: ids, score: scores[i] })), io);
      return;
    }
    const scores = await score(workspace, model, documents, options);
    const out = rows.map(({ ids, promptLength }, i) => {
      const skip = options.completionOnly ? Math.max(0, promptLength - 1) : 0;
      return {
        input_ids: ids,
        logprobs: Array.from(scores[i].logprobs.subarray(skip)),
        entropy: Array.from(scores[i].entropy.subarray(skip)),
      };
    });
    await writeRows(options.output, out, io);
  } finally {
    gpu.close();
  }
};
