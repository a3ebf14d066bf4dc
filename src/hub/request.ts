/**
 * Requests to the Hub: attempts with growing pauses, redirects that do not take the token along, and a limit on silence.
 *
 * @module
 */
import { HubError } from "./errors.ts";
import { hostOf, type HubSettings } from "./settings.ts";

/** Passing difficulties: the same request may well succeed a little later. */
const PASSING = [408, 429, 500, 502, 503, 504];

/** Longest pause that a server may ask for, in milliseconds. */
const LONGEST_PAUSE = 300_000;

const MOST_REDIRECTS = 10;

/** A connection that was closed too early or went silent. */
export function dropped(cause?: unknown): HubError {
  const detail = cause instanceof Error ? ` (${cause.message})` : "";
  return new HubError(`cannot be reached or drops the connection${detail}`, { passing: true, cause });
}

/** Waits before the attempt after the `failures`-th failure, or throws it where there were enough. */
export async function pause(
  settings: HubSettings,
  failure: unknown,
  failures: number,
  say: (line: string) => void,
): Promise<void> {
  const wait = settings.waits[failures - 1];
  if (!(failure instanceof HubError) || !failure.passing || wait === undefined) throw failure;
  if (failure.retryAfter > LONGEST_PAUSE) throw failure;
  const milliseconds = Math.max(wait, failure.retryAfter);
  if (milliseconds >= 1000) {
    say(`${hostOf(settings)} ${failure.message}; trying again in ${Math.ceil(milliseconds / 1000)} s`);
  }
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/**
 * Gets `url`: a response with status 200, 206 or 416.
 *
 * @throws {HubError} for any other status, and where nobody answers.
 */
export async function request(
  settings: HubSettings,
  url: string,
  { headers = {}, say }: { headers?: Record<string, string>; say: (line: string) => void },
): Promise<Response> {
  for (let failures = 1;; failures++) {
    try {
      return await follow(settings, url, headers);
    } catch (error) {
      await pause(settings, error, failures, say);
    }
  }
}

/** One attempt, along its redirects. */
async function follow(
  settings: HubSettings,
  start: string,
  headers: Record<string, string>,
): Promise<Response> {
  const home = new URL(settings.endpoint).origin;
  let url = new URL(start);
  for (let hops = 0; hops <= MOST_REDIRECTS; hops++) {
    const response = await within(settings.patience, (signal) =>
      fetch(url, {
        redirect: "manual",
        signal,
        headers: {
          ...headers,
          "User-Agent": "keel",
          ...settings.token !== undefined && url.origin === home &&
            { Authorization: `Bearer ${settings.token}` },
        },
      }));
    const { status } = response;
    if ([200, 206, 416].includes(status)) return response;
    await response.body?.cancel();
    const location = response.headers.get("Location");
    if (status < 300 || status >= 400 || location === null) throw statusError(response);
    if (!URL.canParse(location, url.href)) throw new HubError("redirects to no address", { status });
    const next = new URL(location, url);
    if (!/^https?:$/.test(next.protocol) || (url.protocol === "https:" && next.protocol === "http:")) {
      throw new HubError(`redirects to ${next.protocol}//${next.host}, which is not secure`, { status });
    }
    url = next;
  }
  throw new HubError(`redirects more than ${MOST_REDIRECTS} times`, { status: 310 });
}

/** The response, if its headers come in time. */
async function within(
  patience: number,
  get: (signal: AbortSignal) => Promise<Response>,
): Promise<Response> {
  const controller = new AbortController();
  const timer = setTimeout(
    () => controller.abort(new Error(`no answer within ${patience / 1000} s`)),
    patience,
  );
  try {
    return await get(controller.signal);
  } catch (error) {
    // What is not allowed stays so.
    if (error instanceof Deno.errors.NotCapable) throw error;
    throw dropped(error);
  } finally {
    clearTimeout(timer);
  }
}

function statusError({ status, headers }: Response): HubError {
  const word = headers.get("X-Error-Message")?.slice(0, 300);
  return new HubError(`answers with status ${status}${word ? ` (${word})` : ""}`, {
    status,
    code: headers.get("X-Error-Code") ?? undefined,
    passing: PASSING.includes(status),
    retryAfter: retryAfter(headers.get("Retry-After")),
  });
}

/** Seconds or a date, as milliseconds from now. */
function retryAfter(text: string | null): number {
  if (text === null) return 0;
  const seconds = Number(text);
  const milliseconds = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(text) - Date.now();
  return milliseconds > 0 ? milliseconds : 0;
}

/** The pieces of a body; silence for longer than the settings' patience ends it with an error. */
export async function* pieces(
  { patience }: HubSettings,
  response: Response,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const reader = response.body?.getReader();
  if (!reader) return;
  try {
    for (;;) {
      let timer: ReturnType<typeof setTimeout> | undefined;
      const silence = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(dropped(new Error(`nothing for ${patience / 1000} s`))), patience);
      });
      try {
        const { done, value } = await Promise.race([reader.read(), silence]);
        if (done) return;
        yield value;
      } catch (error) {
        throw error instanceof HubError ? error : dropped(error);
      } finally {
        clearTimeout(timer);
      }
    }
  } finally {
    // A body that is not wanted to its end is not to be sent on.
    await reader.cancel().catch(() => {});
  }
}
