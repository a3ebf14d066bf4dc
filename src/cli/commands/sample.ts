/**
 * `keel sample`: completions of prompts.
 *
 * @module
 */
import { loadTokenizer, type Tokenizer } from "../../data/tokenizer.ts";
import { openGpu } from "../../gpu/device.ts";
import { loadModel } from "../../model/load.ts";
import { openGenerator } from "../../sample/generate.ts";
import type { SampleOptions } from "../../train/options/generate.ts";
import { checkInputRows, PROMPT_COLUMNS, readInputRows, writeRows } from "../jsonl.ts";
import type { CommandBody } from "../program.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const options = given as unknown as SampleOptions;
  const directory = options.modelNameOrPath;
  const gpu = await openGpu();
  try {
    const model = loadModel(gpu, directory);
    let tokenizer: Tokenizer | undefined;
    const tokens = () => tokenizer ??= loadTokenizer(directory);
    const rows = await readInputRows(options.input, tokens, PROMPT_COLUMNS);
    checkInputRows(rows, model.config);
    const each = options.numReturnSequences;
    const completions = await openGenerator({ gpu }, model).generate(
      rows.map(({ ids }, i) => ({ ids, samples: Array.from({ length: each }, (_, k) => i * each + k) })),
      {
        temperature: options.temperature,
        topK: options.topK,
        topP: options.topP,
        stopIds: options.ignoreEos ? [] : model.config.eosIds,
        maxNewTokens: options.maxNewTokens,
        seed: options.seed,
        stream: 0,
      },
    );
    // Rows of ids need no tokenizer, so the text is left out where the directory has none.
    const decode = (ids: number[]): string | null => {
      try {
        return tokens().decode(ids);
      } catch {
        return null;
      }
    };
    const out = completions.map((completion, i) => ({
      prompt_ids: rows[Math.floor(i / each)].ids,
      completion_ids: completion.ids,
      completion: decode(completion.ids),
      logprobs: completion.logprobs,
      finish_reason: completion.finishReason,
    }));
    await writeRows(options.output, out, io);
  } finally {
    gpu.close();
  }
};
