/**
 * What the server and the process that computes say to each other: JSON lines, one request at a time.
 *
 * @module
 */
import type { Content } from "../../src/data/messages.ts";
import type { Message } from "../../src/data/tokenizer.ts";
import type { FieldProblem } from "../http_error.ts";

/** What is to be continued. */
export type Prompt = { text: string } | { ids: number[] } | { messages: Message[] };

/** Completions are wanted. */
export interface GenerateRequest {
  kind: "generate";
  /** The model's directory. */
  directory: string;
  prompts: Prompt[];
  /** Completions of each prompt. */
  samples: number;
  /** Most tokens of a completion; as many as there is room for if null. */
  maxTokens: number | null;
  temperature: number;
  topP: number;
  /** 0 for all. */
  topK: number;
  /** Determines the completions of a prompt whatever stands beside it; null for others every time. */
  seed: number | null;
  stop: string[];
  ignoreEos: boolean;
}

/** What is to be scored. */
export type ScoreRow = { text: Content } | { prompt: Content; completion: Content } | { ids: number[] };

/** Scores are wanted. */
export interface ScoreRequest {
  kind: "score";
  directory: string;
  rows: ScoreRow[];
  temperature: number;
  completionOnly: boolean;
}

/** What the process is asked for. */
export type InferenceRequest = GenerateRequest | ScoreRequest;

/** A line to the process. A request that has ended may be cancelled in vain. */
export type ToProcess = { id: number; request: InferenceRequest } | { cancel: number };

/** What a row has drawn since it was last told of. */
export interface DrawnRow {
  row: number;
  /** Text that is certain by now. */
  text: string;
  /** Tokens drawn, with the text that became whole with each. */
  tokens: { text: string; logprob: number }[];
  /** Why it ended, once it has. */
  finish: "stop" | "length" | null;
}

/** Numbers of a scored row: one per token after the first, or a reward model's score. */
export interface ScoredRow {
  ids: number[];
  logprobs?: number[];
  entropy?: number[];
  score?: number;
}

/** What the process has to tell of a request. */
export type InferenceAnswer =
  | { kind: "begun"; promptTokens: number }
  | { kind: "drawn"; rows: DrawnRow[] }
  | { kind: "scored"; rows: ScoredRow[] };

/** A line from the process. `end` is the last of every request. */
export type FromProcess =
  | InferenceAnswer
  | { kind: "refused"; status: 404 | 422; code: string; message: string; fields?: FieldProblem[] }
  | { kind: "end" };

/** The lines of a stream of bytes. */
export async function* readLines(bytes: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of bytes.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
  if (rest) yield rest;
}
