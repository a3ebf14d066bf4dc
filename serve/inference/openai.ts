/**
 * Completions as OpenAI's API tells of them: at once, or in server-sent events as the tokens are drawn.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { HttpError } from "../http_error.ts";
import { plainJson, plainNumber } from "../json.ts";
import type { Inference } from "./process.ts";
import type { DrawnRow, InferenceAnswer, InferenceRequest } from "./protocol.ts";

/** The answers to a request that was not refused. */
export interface Answers {
  promptTokens: number;
  reader: ReadableStreamDefaultReader<InferenceAnswer>;
}

/** A completion, whole. */
export interface WholeRow extends Omit<DrawnRow, "finish"> {
  finish: "stop" | "length";
}

/** What is told beside the completions. */
export interface Telling {
  /** The name of the model. */
  model: string;
  logprobs: boolean;
  /** Streams end with a chunk of it. */
  includeUsage: boolean;
}

const encoder = new TextEncoder();

const now = () => Math.floor(Date.now() / 1000);

const newId = (prefix: string) => `${prefix}-${randomBytes(12).toString("hex")}`;

function usageOf(promptTokens: number, completionTokens: number) {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
  };
}

/**
 * Asks the process and waits until it has begun. A client that goes away, of which `signal` tells, cancels the request.
 *
 * @throws {HttpError} where it is refused.
 */
export async function begin(
  inference: Inference,
  request: InferenceRequest,
  signal: AbortSignal,
): Promise<Answers> {
  const reader = inference.ask(request).getReader();
  const cancel = () => void reader.cancel().catch(() => {});
  if (signal.aborted) cancel();
  else signal.addEventListener("abort", cancel);
  const { value } = await reader.read();
  if (value?.kind !== "begun") throw new HttpError(503, "cancelled", "The client went away.");
  return { promptTokens: value.promptTokens, reader };
}

/** All completions, when they have ended. */
export async function collect({ reader }: Answers): Promise<WholeRow[]> {
  const rows: WholeRow[] = [];
  for (let { value, done } = await reader.read(); !done; { value, done } = await reader.read()) {
    if (value?.kind !== "drawn") continue;
    for (const { row, text, tokens, finish } of value.rows) {
      rows[row] ??= { row, text: "", tokens: [], finish: "length" };
      rows[row].text += text;
      rows[row].tokens.push(...tokens);
      if (finish) rows[row].finish = finish;
    }
  }
  return rows;
}

const tokensOf = (rows: { tokens: unknown[] }[]) => rows.reduce((sum, { tokens }) => sum + tokens.length, 0);

function textLogprobs(tokens: DrawnRow["tokens"]) {
  return {
    tokens: tokens.map(({ text }) => text),
    token_logprobs: tokens.map(({ logprob }) => plainNumber(logprob)),
  };
}

function chatLogprobs(tokens: DrawnRow["tokens"]) {
  return {
    content: tokens.map(({ text, logprob }) => ({
      token: text,
      logprob: plainNumber(logprob),
      // A part of a character, which never became whole, has none to be told.
      bytes: text.includes("\ufffd") ? null : Array.from(encoder.encode(text)),
      top_logprobs: [],
    })),
    refusal: null,
  };
}

/** Completions of prompts, whole. */
export function textCompletion({ promptTokens }: Answers, rows: WholeRow[], { model, logprobs }: Telling) {
  return {
    id: newId("cmpl"),
    object: "text_completion" as const,
    created: now(),
    model,
    choices: rows.map(({ row, text, tokens, finish }) => ({
      index: row,
      text,
      logprobs: logprobs ? textLogprobs(tokens) : null,
      finish_reason: finish,
    })),
    usage: usageOf(promptTokens, tokensOf(rows)),
  };
}

/** Answers in a conversation, whole. */
export function chatCompletion({ promptTokens }: Answers, rows: WholeRow[], { model, logprobs }: Telling) {
  return {
    id: newId("chatcmpl"),
    object: "chat.completion" as const,
    created: now(),
    model,
    choices: rows.map(({ row, text, tokens, finish }) => ({
      index: row,
      message: { role: "assistant" as const, content: text, refusal: null },
      logprobs: logprobs ? chatLogprobs(tokens) : null,
      finish_reason: finish,
    })),
    usage: usageOf(promptTokens, tokensOf(rows)),
  };
}

/** The stream of {@linkcode textCompletion}. */
export function textStream(answers: Answers, telling: Telling): ReadableStream<Uint8Array> {
  return eventStream(
    answers,
    telling,
    { prefix: "cmpl", object: "text_completion" },
    (rows) =>
      rows.map(({ row, text, tokens, finish }) => ({
        index: row,
        text,
        logprobs: telling.logprobs ? textLogprobs(tokens) : null,
        finish_reason: finish,
      })),
  );
}

/** The stream of {@linkcode chatCompletion}: who speaks, what is said, why it ended. */
export function chatStream(answers: Answers, telling: Telling): ReadableStream<Uint8Array> {
  const begun = new Set<number>();
  return eventStream(
    answers,
    telling,
    { prefix: "chatcmpl", object: "chat.completion.chunk" },
    (rows) =>
      rows.map(({ row, text, tokens, finish }) => {
        const first = !begun.has(row);
        begun.add(row);
        return {
          index: row,
          delta: { ...first ? { role: "assistant" } : {}, content: text },
          logprobs: telling.logprobs ? chatLogprobs(tokens) : null,
          finish_reason: finish,
        };
      }),
  );
}

/** Server-sent events, one per row that has something new; `choices` makes its choice. */
function eventStream(
  { promptTokens, reader }: Answers,
  { model, logprobs, includeUsage }: Telling,
  { prefix, object }: { prefix: string; object: string },
  choices: (rows: DrawnRow[]) => unknown[],
): ReadableStream<Uint8Array> {
  const head = { id: newId(prefix), object, created: now(), model };
  const event = (data: unknown) => encoder.encode(`data: ${plainJson(data)}\n\n`);
  let completionTokens = 0;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        for (let { value, done } = await reader.read(); !done; { value, done } = await reader.read()) {
          if (value?.kind !== "drawn") continue;
          completionTokens += tokensOf(value.rows);
          const told = choices(value.rows.filter(({ text, finish }) => text || finish || logprobs));
          for (const choice of told) {
            controller.enqueue(event({ ...head, choices: [choice], ...includeUsage ? { usage: null } : {} }));
          }
          if (told.length) return;
        }
        if (includeUsage) {
          controller.enqueue(event({ ...head, choices: [], usage: usageOf(promptTokens, completionTokens) }));
        }
        controller.enqueue(encoder.encode("data: [DONE]\n\n"));
      } catch (error) {
        const { code, message } = error as HttpError;
        controller.enqueue(event({ error: { code, message } }));
      }
      controller.close();
    },
    cancel: () => reader.cancel(),
  }, { highWaterMark: 0 });
}
