/**
 * `keel sample`: completions of prompts.
 *
 * @module
 */
import { join } from "node:path";
import { loadTokenizer, type Tokenizer } from "../../data/tokenizer.ts";
import { openGpu } from "../../gpu/device.ts";
import { fileExists } from "../../model/json_file.ts";
import { loadModel } from "../../model/load.ts";
import { openGenerator } from "../../sample/generate.ts";
import type { SampleOptions } from "../../train/options/generate.ts";
import { checkInputRows, readPromptRows, writeRows } from "../jsonl.ts";
import type { CommandBody } from "../program.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const options = given as unknown as SampleOptions;
  const directory = options.modelNameOrPath;
  const gpu = await openGpu();
  try {
    const model = loadModel(gpu, directory);
    if (model.config.architecture === "reward") {
      throw new Error(
        `Cannot sample from ${directory}: it is a reward model. Use a language model; keel score works on this one.`,
      );
    }
    let tokenizer: Tokenizer | undefined;
    const tokens = () => tokenizer ??= loadTokenizer(directory);
    const rows = await readPromptRows(options.input, tokens);
    checkInputRows(rows, model.config, options.maxNewTokens);
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
    const hasText = fileExists(join(directory, "tokenizer.json"));
    const out = completions.map((completion, i) => ({
      prompt_ids: rows[Math.floor(i / each)].ids,
      completion_ids: completion.ids,
      completion: hasText ? tokens().decode(completion.ids) : null,
      logprobs: completion.logprobs,
      finish_reason: completion.finishReason,
    }));
    await writeRows(options.output, out, io);
  } finally {
    gpu.close();
  }
};
