/**
 * The models that the process has on the GPU: the last few that were asked for.
 *
 * @module
 */
import { checkVocabulary, loadTokenizer, type Tokenizer } from "../../src/data/tokenizer.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import type { Model } from "../../src/model/decoder.ts";
import { destroyModel, loadModel } from "../../src/model/load.ts";
import { tokenizerSource } from "../../src/model/peft.ts";
import { weightsFile } from "../model_names.ts";
import { HttpError, invalid } from "../http_error.ts";

/** A model and its tokenizer. */
export interface LoadedModel {
  model: Model;
  tokenizer: Tokenizer;
}

/** Models that are kept: a policy, what it began as, and what judges it. */
const MOST_MODELS = 3;

/** A function that returns the model of a directory, as it is there now. */
export function openModels(gpu: Gpu): (directory: string) => LoadedModel {
  /** By directory; the one that was used last comes last. */
  const models = new Map<string, LoadedModel & { identity: string }>();

  function release(directory: string): void {
    const { model } = models.get(directory)!;
    models.delete(directory);
    destroyModel(gpu, model);
  }

  function load(directory: string): LoadedModel & { identity: string } {
    for (;;) {
      const identity = identityOf(directory);
      const model = loadModel(gpu, directory);
      const tokenizer = loadTokenizer(tokenizerSource(directory));
      checkVocabulary(tokenizer, model.config.vocabSize, directory);
      // A checkpoint that was replaced while it was read may be half of one and half of the other.
      if (identity === identityOf(directory)) return { model, tokenizer, identity };
      destroyModel(gpu, model);
    }
  }

  return (directory) => {
    const identity = identityOf(directory);
    let found = models.get(directory);
    if (found?.identity !== identity) {
      if (found) release(directory);
      else if (models.size === MOST_MODELS) release(models.keys().next().value!);
      try {
        found = load(directory);
      } catch (error) {
        // Where the GPU has failed, it is not the model's fault.
        gpu.check();
        if (error instanceof HttpError) throw error;
        identityOf(directory);
        throw invalid("The model", [{ path: "model", message: (error as Error).message }]);
      }
    }
    models.delete(directory);
    models.set(directory, found!);
    return found!;
  };
}

/** What changes whenever the weights do. */
function identityOf(directory: string): string {
  try {
    const { dev, ino, size, mtime } = Deno.statSync(weightsFile(directory));
    return `${dev} ${ino} ${size} ${mtime?.getTime()}`;
  } catch {
    throw new HttpError(
      404,
      "no_such_model",
      "The model was removed just now. GET /v1/models lists those that there are.",
    );
  }
}
