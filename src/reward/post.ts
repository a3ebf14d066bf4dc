/**
 * Requests to servers of rewards and verdicts: attempts with growing pauses, a limit on time and on what is read.
 *
 * @module
 */
import { randomStream } from "../random/stream.ts";

/** Passing difficulties: the same request may well succeed a little later. */
const PASSING = [408, 425, 429, 500, 502, 503, 504, 529];

/** First pause and longest pause of our own, in milliseconds. */
const FIRST_PAUSE = 1000, LONGEST_PAUSE = 60_000;

/** Longest pause that a server may ask for. */
const LONGEST_ASKED = 600_000;

/** Characters of a server's own words in an error. */
const MOST_WORDS = 300;

/** How requests are made. */
export interface PostSettings {
  /** Further headers. */
  headers?: Record<string, string>;
  /** Milliseconds in which an answer must be there, each time. */
  timeout: number;
  /** Attempts after the first. */
  retries: number;
  /** Most bytes of an answer. */
  maxBytes: number;
  /** Keys the jitter of pauses. */
  seed: number;
  /** Number of the request, which keys them, too. */
  number: number;
  /** Called before every attempt; may throw, which ends it. */
  before?: () => void;
  /** Waits so many milliseconds; by the clock if not given. */
  wait?: (milliseconds: number) => Promise<void>;
}

/** A request failed. */
class PostError extends Error {
  constructor(
    message: string,
    readonly passing: boolean,
    /** Milliseconds that the server asks to wait. */
    readonly retryAfter = 0,
    cause?: unknown,
  ) {
    super(message, { cause });
  }
}

const byClock = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

/** The address without what may be secret in it. */
export function shownAddress(url: string): string {
  const { origin, pathname } = new URL(url);
  return origin + pathname;
}

/**
 * The pause after the `failures`-th failure: 1 s doubled each time up to a minute, of which a random half is taken off, and never
 * shorter than what the server asked for.
 */
export function pauseAfter(
  failures: number,
  retryAfter: number,
  { seed, number }: Pick<PostSettings, "seed" | "number">,
): number {
  const full = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (failures - 1));
  const share = randomStream(seed, "pause", number, failures).uniform();
  return Math.max(retryAfter, full * (1 - share / 2));
}

/** Why a request failed, in the last words of its first cause, which name neither the address nor a key in it. */
function reasonOf({ message, cause }: Error): string {
  return (cause instanceof Error ? cause.message : message).split(": ").at(-1)!;
}

/**
 * Posts `body` as JSON and returns the text of the answer.
 *
 * @throws {Error} that names the address, when the last attempt has failed or a failure will not pass.
 */
export async function post(url: string, body: unknown, settings: PostSettings): Promise<string> {
  const { retries, wait = byClock, before } = settings;
  const json = JSON.stringify(body);
  for (let failures = 1;; failures++) {
    before?.();
    try {
      return await attempt(url, json, settings);
    } catch (error) {
      if (!(error instanceof PostError)) throw error;
      const tooLong = error.retryAfter > LONGEST_ASKED;
      if (!error.passing || failures > retries || tooLong) {
        const asked = tooLong ? ` and asks to wait ${Math.ceil(error.retryAfter / 1000)} s` : "";
        const attempts = failures > 1 ? `, after ${failures} attempts` : "";
        throw new Error(`${shownAddress(url)} ${error.message}${asked}${attempts}.`, { cause: error });
      }
      await wait(pauseAfter(failures, error.retryAfter, settings));
    }
  }
}

async function attempt(
  url: string,
  body: string,
  { headers, timeout, maxBytes }: PostSettings,
): Promise<string> {
  const controller = new AbortController();
  const timer = setTimeout(() => controller.abort(), timeout);
  try {
    const response = await fetch(url, {
      method: "POST",
      body,
      redirect: "manual",
      signal: controller.signal,
      headers: { "Content-Type": "application/json", "User-Agent": "keel", ...headers },
    });
    const text = await textOf(response, maxBytes);
    if (response.status === 200) return text;
    throw statusError(response, text);
  } catch (error) {
    if (error instanceof PostError || error instanceof Deno.errors.NotCapable) throw error;
    const problem = controller.signal.aborted
      ? `gives no answer within ${timeout / 1000} s`
      : `cannot be reached (${reasonOf(error as Error)})`;
    throw new PostError(problem, true, 0, error);
  } finally {
    clearTimeout(timer);
  }
}

/** The body, if it is not too long. */
async function textOf(response: Response, maxBytes: number): Promise<string> {
  const decoder = new TextDecoder(), parts: string[] = [];
  let bytes = 0;
  for await (const piece of response.body ?? []) {
    bytes += piece.length;
    if (bytes > maxBytes) {
      throw new PostError(`answers with more than ${maxBytes} bytes. Expected a short answer`, false);
    }
    parts.push(decoder.decode(piece, { stream: true }));
  }
  return parts.join("") + decoder.decode();
}

function statusError({ status, headers }: Response, text: string): PostError {
  const words = text.trim().slice(0, MOST_WORDS).replace(/\s+/g, " ");
  const where = status >= 300 && status < 400
    ? ` and redirects to ${headers.get("Location") ?? "nowhere"}; give the address that answers`
    : words && `: ${words}`;
  return new PostError(
    `answers with status ${status}${where}`,
    PASSING.includes(status),
    retryAfter(headers.get("Retry-After")),
  );
}

/** Seconds or a date, as milliseconds from now. */
function retryAfter(text: string | null): number {
  if (text === null) return 0;
  const seconds = Number(text);
  const milliseconds = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(text) - Date.now();
  return milliseconds > 0 ? milliseconds : 0;
}
