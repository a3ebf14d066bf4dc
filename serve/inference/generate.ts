/**
 * Completions, told of as they are drawn.
 *
 * @module
 */
import { randomInt } from "node:crypto";
import { encodeContent } from "../../src/data/encode.ts";
import type { Tokenizer } from "../../src/data/tokenizer.ts";
import type { ModelConfig } from "../../src/model/config.ts";
import { type NewTokens, openGenerator } from "../../src/sample/generate.ts";
import { stopAt, tokenText } from "../../src/sample/text_stream.ts";
import type { Workspace } from "../../src/tape/plan.ts";
import { invalid } from "../http_error.ts";
import { encoding, knownIds } from "./encode.ts";
import { MOST_TOKENS } from "./limits.ts";
import type { LoadedModel } from "./models.ts";
import type { DrawnRow, GenerateRequest, InferenceAnswer, Prompt } from "./protocol.ts";

const WORD = 2 ** 32;

/**
 * Does the request; `tell` gets what there is to say. Others are let in at every look at the stop flags.
 *
 * @throws {HttpError} 422 where the model cannot do it.
 */
export async function generate(
  workspace: Workspace,
  { model, tokenizer }: LoadedModel,
  request: GenerateRequest,
  { tell, signal }: { tell: (answer: InferenceAnswer) => void; signal: AbortSignal },
): Promise<void> {
  const { config } = model, { samples, seed, temperature, topP, topK } = request;
  if (config.architecture === "reward") {
    throw invalid("The model", [{
      path: "model",
      message:
        "It is a reward model, which has no words. Expected a language model; /v1/score takes this one.",
    }]);
  }
  const prompts = request.prompts.map((prompt, i) => encodePrompt(tokenizer, prompt, config, i));
  const maxNewTokens = roomFor(prompts, request, config);
  tell({ kind: "begun", promptTokens: prompts.reduce((sum, ids) => sum + ids.length, 0) });

  const stopIds = request.ignoreEos ? [] : config.eosIds;
  const rows = prompts.flatMap(() => Array.from({ length: samples }, () => openRow(tokenizer, request.stop)));
  let open = rows.length;
  /** Tells of new tokens; returns whether all rows have ended. */
  const onTokens = async (news: NewTokens[]): Promise<boolean> => {
    const drawn = news.flatMap(({ row, ids, logprobs }) => {
      const told = rows[row].take(ids, logprobs, { stopIds, maxNewTokens });
      if (told?.finish) open--;
      return told ? [{ row, ...told }] : [];
    });
    if (drawn.length) tell({ kind: "drawn", rows: drawn });
    await new Promise((resolve) => setTimeout(resolve, 0));
    return open === 0;
  };
  // Chosen anew, each row is to be another; given, a prompt has the same completions wherever it stands.
  const key = seed ?? randomInt(WORD);
  const generator = openGenerator(workspace, model);
  try {
    await generator.generate(
      prompts.map((ids, i) => ({
        ids,
        samples: Array.from({ length: samples }, (_, k) => seed === null ? i * samples + k : k),
      })),
      {
        temperature,
        topP,
        topK,
        stopIds,
        maxNewTokens,
        seed: key % WORD,
        stream: Math.floor(key / WORD),
      },
      { onTokens, signal },
    );
  } finally {
    generator.close();
  }
}

function encodePrompt(tokenizer: Tokenizer, prompt: Prompt, config: ModelConfig, i: number): number[] {
  if ("ids" in prompt) return knownIds(prompt.ids, config, "prompt");
  const path = "messages" in prompt ? "messages" : "prompt";
  const ids = encoding(
    path,
    () =>
      encodeContent(tokenizer, "messages" in prompt ? prompt.messages : prompt.text, {
        addGenerationPrompt: true,
      }),
  );
  if (ids.length === 0) {
    throw invalid("The body", [{ path, message: `Prompt ${i + 1} has no tokens. Expected some text.` }]);
  }
  return ids;
}

/** How many tokens a completion may have. */
function roomFor(
  prompts: number[][],
  { samples, maxTokens }: GenerateRequest,
  { maxPositions }: ModelConfig,
): number {
  const longest = Math.max(...prompts.map((ids) => ids.length));
  const given = prompts.reduce((sum, ids) => sum + ids.length, 0) * samples;
  const room = maxPositions - longest;
  const share = Math.floor((MOST_TOKENS - given) / (prompts.length * samples));
  const wanted = maxTokens ?? Math.max(1, Math.min(room, share));
  if (wanted > room) {
    throw invalid("The body", [{
      path: "max_tokens",
      message:
        `A prompt of ${longest} tokens with ${wanted} new ones is longer than the model's ${maxPositions} positions. Use a shorter prompt or fewer new tokens.`,
    }]);
  }
  if (wanted > share) {
    throw invalid("The body", [{
      path: "max_tokens",
      message: `All prompts and completions would have ${
        given + wanted * prompts.length * samples
      } tokens. Expected at most ${MOST_TOKENS}: ask for less at a time.`,
    }]);
  }
  return wanted;
}

/** A row as it grows. */
function openRow(tokenizer: Tokenizer, stops: string[]) {
  const text = tokenText(tokenizer), shown = stopAt(stops);
  let count = 0, ended = false;
  return {
    /** What is new with these tokens; undefined where the row has ended. */
    take(
      ids: number[],
      logprobs: number[],
      { stopIds, maxNewTokens }: { stopIds: number[]; maxNewTokens: number },
    ): Omit<DrawnRow, "row"> | undefined {
      if (ended) return undefined;
      const told: Omit<DrawnRow, "row"> = { text: "", tokens: [], finish: null };
      for (const [i, id] of ids.entries()) {
        count++;
        const isEnd = stopIds.includes(id);
        const last = isEnd || count === maxNewTokens;
        // The end token is drawn, but not said.
        let piece = isEnd ? "" : text.push(id);
        if (last) piece += text.end();
        told.text += shown.push(piece);
        told.tokens.push({ text: piece, logprob: logprobs[i] });
        if (!shown.stopped && !last) continue;
        told.finish = isEnd || shown.stopped ? "stop" : "length";
        told.text += shown.end();
        ended = true;
        break;
      }
      return told;
    },
  };
}
