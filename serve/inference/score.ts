/**
 * Log-probabilities and entropies of texts, or a reward model's scores of them.
 *
 * @module
 */
import { encodeAnswered, encodeContent } from "../../src/data/encode.ts";
import { documentScorer, score as scoreTokens } from "../../src/sample/score.ts";
import type { Workspace } from "../../src/tape/plan.ts";
import { invalid } from "../http_error.ts";
import { encoding, knownIds } from "./encode.ts";
import { MOST_TOKENS } from "./limits.ts";
import type { LoadedModel } from "./models.ts";
import type { InferenceAnswer, ScoreRequest } from "./protocol.ts";

/** Does the request; `tell` gets what there is to say. @throws {HttpError} 422 where the model cannot do it. */
export async function score(
  workspace: Workspace,
  { model, tokenizer }: LoadedModel,
  { rows, temperature, completionOnly }: ScoreRequest,
  tell: (answer: InferenceAnswer) => void,
): Promise<void> {
  const { config } = model;
  const encoded = rows.map((row, i) => {
    const path = `rows.${i}`;
    const { ids, promptLength } = encoding(path, () => {
      if ("ids" in row) return { ids: row.ids, promptLength: 0 };
      if ("text" in row) return { ids: encodeContent(tokenizer, row.text), promptLength: 0 };
      return encodeAnswered(tokenizer, row.prompt, row.completion);
    });
    const refuse = (message: string) => invalid("The body", [{ path, message }]);
    if (ids.length === 0) throw refuse("It has no tokens.");
    if (ids.length > config.maxPositions) {
      throw refuse(`It has ${ids.length} tokens; the model has ${config.maxPositions} positions.`);
    }
    return { ids: knownIds(ids, config, path), promptLength };
  });
  const documents = encoded.map(({ ids }) => ids);
  const total = documents.reduce((sum, ids) => sum + ids.length, 0);
  if (total > MOST_TOKENS) {
    throw invalid("The body", [{
      path: "rows",
      message: `They have ${total} tokens. Expected at most ${MOST_TOKENS}: ask for less at a time.`,
    }]);
  }
  tell({ kind: "begun", promptTokens: total });
  if (config.architecture === "reward") {
    const scorer = documentScorer(workspace, model);
    try {
      const scores = await scorer(documents);
      tell({ kind: "scored", rows: documents.map((ids, i) => ({ ids, score: scores[i] })) });
    } finally {
      scorer.close();
    }
    return;
  }
  const scores = await scoreTokens(workspace, model, documents, { temperature });
  tell({
    kind: "scored",
    rows: encoded.map(({ ids, promptLength }, i) => {
      const skip = completionOnly ? Math.max(0, promptLength - 1) : 0;
      return {
        ids,
        logprobs: Array.from(scores[i].logprobs.subarray(skip)),
        entropy: Array.from(scores[i].entropy.subarray(skip)),
      };
    }),
  });
}
