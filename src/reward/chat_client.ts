/**
 * A client of OpenAI-compatible servers: chat completions, so many at a time, counted, and within a limit on what may be spent.
 *
 * @module
 */
import { isJsonObject } from "../model/json_file.ts";
import type { Message } from "../data/tokenizer.ts";
import { post, type PostSettings, shownAddress } from "./post.ts";

/** An answer of so many bytes is none. */
const MAX_BYTES = 8e6;

/** A count of tokens beyond this is none, and would spoil the sum. */
const MOST_TOKENS = 1e9;

/** What was asked so far. */
export interface Spending {
  /** Requests made, failed ones among them. */
  requests: number;
  /** Tokens that the model has read, by the server's count. */
  promptTokens: number;
  /** Tokens that it has written. */
  completionTokens: number;
}

/** What may be spent. */
export interface SpendingLimits {
  /** Most requests. */
  maxRequests?: number;
  /** Price of a million tokens that are read. */
  inputPrice: number;
  /** Price of a million tokens that are written. */
  outputPrice: number;
  /** Most cost, in the currency of the prices. */
  maxCost?: number;
}

/** Where and how a model is asked. */
export interface ChatSettings extends Pick<PostSettings, "timeout" | "retries" | "seed" | "wait"> {
  /** Base address, to which `/chat/completions` is added. */
  url: string;
  /** Name of the model, as the server knows it. */
  model: string;
  /** Sent as a bearer token. */
  apiKey?: string;
  /** Most tokens of an answer. */
  maxTokens: number;
  /** Sampling temperature. */
  temperature: number;
  /** Requests at the same time. */
  concurrency: number;
  /** What may be spent; more ends in an error. */
  limits: SpendingLimits;
  /** What an earlier process of the same run has spent. */
  spent?: Spending;
  /** Told after every change. */
  onSpent?: (spent: Spending) => void;
}

/** Asks a model. */
export interface ChatClient {
  /** The text of the model's answer; undefined where the server's answer holds none. */
  ask(messages: Message[]): Promise<string | undefined>;
  /** What was spent so far. */
  readonly spent: Readonly<Spending>;
}

/** Nothing spent. */
export const NOTHING_SPENT: Readonly<Spending> = { requests: 0, promptTokens: 0, completionTokens: 0 };

/** Cost of what was spent, in the currency of the prices. */
export function costOf(
  { promptTokens, completionTokens }: Spending,
  { inputPrice, outputPrice }: SpendingLimits,
): number {
  return (promptTokens * inputPrice + completionTokens * outputPrice) / 1e6;
}

/** The text of the first choice, and the tokens that were counted. */
function readAnswer(text: string): { content?: string; promptTokens: number; completionTokens: number } {
  let answer: unknown;
  try {
    answer = JSON.parse(text);
  } catch {
    answer = undefined;
  }
  const { choices, usage } = isJsonObject(answer) ? answer : {};
  const first = Array.isArray(choices) ? choices[0] : undefined;
  const message = isJsonObject(first) ? first.message : undefined;
  const content = isJsonObject(message) ? message.content : undefined;
  const counted = (name: string) => {
    const value = isJsonObject(usage) ? usage[name] : undefined;
    return typeof value === "number" && value >= 0 && value <= MOST_TOKENS ? value : 0;
  };
  return {
    content: typeof content === "string" ? content : undefined,
    promptTokens: counted("prompt_tokens"),
    completionTokens: counted("completion_tokens"),
  };
}

/** Runs at most `most` tasks at a time, in the order in which they came. */
function limiter(most: number): <T>(task: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = [];
  let running = 0;
  return async (task) => {
    if (running >= most) await new Promise<void>((resolve) => waiting.push(resolve));
    else running++;
    try {
      return await task();
    } finally {
      // The place is handed on; nobody else can take it in between.
      const next = waiting.shift();
      if (next) next();
      else running--;
    }
  };
}

/** Opens a client. */
export function openChatClient(settings: ChatSettings): ChatClient {
  const { limits, model, apiKey } = settings;
  const url = `${settings.url.replace(/\/+$/, "")}/chat/completions`;
  const spent: Spending = { ...settings.spent ?? NOTHING_SPENT };
  const limited = limiter(settings.concurrency);
  let number = 0, failure: Error | undefined;

  /** Throws where no further request may be made; counts it otherwise. */
  function beforeAttempt(): void {
    // Once one request has failed for good, the others need not find out for themselves.
    if (failure) throw failure;
    const cost = costOf(spent, limits);
    const stop = limits.maxRequests !== undefined && spent.requests >= limits.maxRequests
      ? `after ${spent.requests} requests (judge_max_requests)`
      : limits.maxCost !== undefined && cost >= limits.maxCost
      ? `after ${spent.requests} requests that cost ${cost.toFixed(4)} (judge_max_cost)`
      : undefined;
    if (stop !== undefined) {
      throw new Error(
        `The judge ${model} at ${
          shownAddress(url)
        } is not asked any more ${stop}. Raise the limit and go on with --resume; the answers so far are kept.`,
      );
    }
    spent.requests++;
    settings.onSpent?.(spent);
  }

  return {
    spent,
    ask: (messages) =>
      limited(async () => {
        const text = await post(url, {
          model,
          messages,
          max_tokens: settings.maxTokens,
          temperature: settings.temperature,
        }, {
          ...settings,
          number: number++,
          maxBytes: MAX_BYTES,
          before: beforeAttempt,
          headers: apiKey === undefined ? {} : { Authorization: `Bearer ${apiKey}` },
        }).catch((error: Error) => {
          // A server may repeat the key in its own words.
          const message = apiKey ? error.message.replaceAll(apiKey, "***") : error.message;
          throw failure = message === error.message ? error : new Error(message);
        });
        const { content, promptTokens, completionTokens } = readAnswer(text);
        spent.promptTokens += promptTokens;
        spent.completionTokens += completionTokens;
        settings.onSpent?.(spent);
        return content;
      }),
  };
}
