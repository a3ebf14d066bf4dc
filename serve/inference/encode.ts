/**
 * Texts and ids as a model takes them, or the refusal that says why it does not.
 *
 * @module
 */
import type { ModelConfig } from "../../src/model/config.ts";
import { invalid } from "../http_error.ts";

/** Does what a tokenizer may refuse to do. @throws {HttpError} 422 */
export function encoding<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw invalid("The body", [{ path, message: (error as Error).message }]);
  }
}

/** Ids that the model has. @throws {HttpError} 422 */
export function knownIds(ids: number[], { vocabSize }: ModelConfig, path: string): number[] {
  const unknown = ids.find((id) => id >= vocabSize);
  if (unknown === undefined) return ids;
  throw invalid("The body", [{
    path,
    message: `Token ${unknown} is not in the model's vocabulary of ${vocabSize}.`,
  }]);
}
