/**
 * `keel sample`: completions of prompts.
 *
 * @module
 */
import { join } from "node:path";
import { loadTokenizer, type Tokenizer } from "../../data/tokenizer.ts";
import { openGpu } from "../../gpu/device.ts";
import { fileExists } from "../../model/json_file.ts";
import { loadFrozen } from "../../model/load.ts";
import { isGguf } from "../../model/open.ts";
import { tokenizerSource } from "../../model/peft.ts";
import { openGenerator } from "../../sample/generate.ts";
import type { SampleOptions } from "../../train/options/generate.ts";
import { fetchNamed } from "../hub_names.ts";
import { checkInputRows, readPromptRows, writeRows } from "../jsonl.ts";
import type { CommandBody } from "../program.ts";
import { withRun } from "../run_models.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options } = await fetchNamed<SampleOptions>(withRun(given), io);
  const directory = options.modelNameOrPath, tokenizerFrom = tokenizerSource(directory);
  const gpu = await openGpu();
  try {
    const model = loadFrozen(gpu, directory, options.dtype);
    if (model.config.architecture === "reward") {
      throw new Error(
        `Cannot sample from ${directory}: it is a reward model. Use a language model; keel score works on this one.`,
      );
    }
    let tokenizer: Tokenizer | undefined;
    const tokens = () => tokenizer ??= loadTokenizer(tokenizerFrom);
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
    const hasText = isGguf(tokenizerFrom) || fileExists(join(tokenizerFrom, "tokenizer.json"));
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
