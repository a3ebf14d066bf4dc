/**
 * What the commands share that learn from pairs of answers without a reference.
 *
 * @module
 */
import { join } from "node:path";
import type { Rows } from "../data/batches.ts";
import type { PreferenceExample } from "../data/preference.ts";
import { checkVocabulary, loadTokenizer } from "../data/tokenizer.ts";
import type { Model } from "../model/decoder.ts";
import { describeModel, saveModel } from "../model/load.ts";
import { configOf, tokenizerSource } from "../model/peft.ts";
import type { StageRun } from "../run/run.ts";
import type { Workspace } from "../tape/plan.ts";
import type { StepEvent } from "../train/events.ts";
import { lengthLimit, longestOf } from "../train/load_data.ts";
import { loadPreferences } from "../train/load_preferences.ts";
import type { MemoryCheck } from "../train/needs.ts";
import { checkLanguageModel, loadTrained } from "../train/open_model.ts";
import type { CpoOptions } from "../train/options/cpo.ts";
import type { OrpoOptions } from "../train/options/orpo.ts";
import { fetchNamed } from "./hub_names.ts";
import type { CommandBody } from "./program.ts";
import { trainingSession } from "./session.ts";

/** What a method is given. */
interface Inputs {
  workspace: Workspace;
  model: Model;
  examples: Rows<PreferenceExample>;
  evalExamples?: Rows<PreferenceExample>;
}

/** The body of a command. */
export function referenceFreeCommand<O extends CpoOptions | OrpoOptions>(
  name: string,
  train: (run: StageRun, data: Inputs, options: O) => AsyncGenerator<StepEvent>,
  checkMemory: (to: MemoryCheck, options: O, path: string, longest: number) => void,
): CommandBody {
  return async (given, io) => {
    const { options, recorded } = await fetchNamed<O>(given, io);
    const directory = options.modelNameOrPath;
    const tokenizerFrom = tokenizerSource(directory);
    return trainingSession(
      {
        name,
        stages: [name],
        async *steps({ workspace, run, say }) {
          const stage = run.stage(name);
          const { gpu } = workspace, { vocabSize, maxPositions } = configOf(directory);
          const tokenizer = loadTokenizer(tokenizerFrom);
          checkLanguageModel(directory);
          checkVocabulary(tokenizer, vocabSize, directory);
          const limit = lengthLimit(options.maxLength, maxPositions);
          const { examples, evalExamples } = await loadPreferences(options, tokenizer, limit, {
            directory: run.dir,
            say,
          });
          checkMemory({ gpu, say }, options, directory, longestOf(examples));
          const model = loadTrained(gpu, directory, options, say);
          stage.accompany((to) => describeModel(model, to, { tokenizerFrom }));
          yield* train(stage, { workspace, model, examples, evalExamples }, options);
          if (stage.interrupted()) return;
          await saveModel(gpu, model, join(run.dir, "model"), { tokenizerFrom });
          stage.finish(stage.newest()!.step);
        },
      },
      recorded,
      io,
    );
  };
}
