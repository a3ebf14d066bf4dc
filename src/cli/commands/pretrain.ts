/**
 * `keel pretrain`: a model from random weights, by default the parrot's base model.
 *
 * @module
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Rows } from "../../data/batches.ts";
import type { SftExample } from "../../data/tokenize.ts";
import { checkVocabulary, loadTokenizer } from "../../data/tokenizer.ts";
import { readConfig } from "../../model/config.ts";
import { initialWeights } from "../../model/init.ts";
import { makeModel, saveModel } from "../../model/load.ts";
import { PARROT_CONFIG, pretrainingRows } from "../../parrot/datasets.ts";
import { writeParrotTokenizer } from "../../parrot/tokenizer.ts";
import { loadSft } from "../../train/load_data.ts";
import type { PretrainOptions } from "../../train/options/pretrain.ts";
import { sftSchema } from "../../train/options/sft.ts";
import { sft } from "../../train/sft.ts";
import { fetchNamed } from "../hub_names.ts";
import type { CommandBody } from "../program.ts";
import { trainingSession } from "../session.ts";

/** Runs the command. */
export const run: CommandBody = async (given, io) => {
  const { options, recorded } = await fetchNamed<PretrainOptions>(given, io, { weights: false });
  const { modelNameOrPath: directory, datasetName, seed } = options;
  if ((directory === undefined) !== (datasetName === undefined)) {
    throw new Error(
      "Pre-training takes --model and --dataset together, or neither for the parrot's base model.",
    );
  }
  return trainingSession(
    {
      name: "pretrain",
      stages: ["pretrain"],
      async *steps({ workspace, run, say }) {
        const stage = run.stage("pretrain");
        const config = directory
          ? { ...readConfig(directory), architecture: "causal" as const }
          : PARROT_CONFIG;
        const weights = initialWeights(config, seed);
        const model = makeModel(workspace.gpu, config, (name) => weights[name]);
        const full = sftSchema.parse({
          ...options,
          modelNameOrPath: directory ?? "parrot",
          datasetName: datasetName ?? "parrot",
        });
        let examples: Rows<SftExample | SftExample[]>;
        if (directory && datasetName) {
          const tokenizer = loadTokenizer(directory);
          checkVocabulary(tokenizer, config.vocabSize, directory);
          ({ examples } = await loadSft(full, tokenizer, config.maxPositions, { directory: run.dir, say }));
        } else {
          const documents = options.maxSteps * options.perDeviceTrainBatchSize *
            options.gradientAccumulationSteps;
          if (documents <= 0) {
            throw new Error("The parrot's corpus has no end: --max_steps must be positive.");
          }
          examples = pretrainingRows(seed, documents);
        }
        yield* sft(stage, { workspace, model, examples }, {
          ...full,
          shuffleDataset: directory !== undefined,
        });
        if (stage.interrupted()) return;
        const out = join(run.dir, "model");
        mkdirSync(out, { recursive: true });
        if (!directory) writeParrotTokenizer(out);
        // Half precision keeps the parrot's base small enough to ship; its probes are the same.
        await saveModel(workspace.gpu, model, out, {
          tokenizerFrom: directory,
          storage: directory ? "F32" : "F16",
        });
        stage.finish(stage.newest()!.step);
      },
    },
    recorded,
    io,
  );
};
