/**
 * What one client may take: requests in a time, and bytes and seconds of a body.
 *
 * @module
 */
import { HttpError } from "./http_error.ts";

/** Largest body in bytes. */
const MOST_BYTES = 1 << 20;

/** Milliseconds in which a body must have come. */
const LONGEST_BODY = 5000;

/** Addresses that are remembered at a time. */
const MOST_ADDRESSES = 10_000;

/** Limits the requests of an address; refuses one that is too many. */
export type RateLimit = (address: string) => void;

/** A bucket for each address that holds `burst` requests and is refilled with `perSecond`. */
export function openRateLimit(perSecond: number, burst: number, now: () => number = Date.now): RateLimit {
  const buckets = new Map<string, { left: number; time: number }>();
  return (address) => {
    const time = now(), bucket = buckets.get(address) ?? { left: burst, time };
    bucket.left = Math.min(burst, bucket.left + (time - bucket.time) / 1000 * perSecond);
    bucket.time = time;
    buckets.delete(address);
    buckets.set(address, bucket);
    // A map keeps its order: the first is the one that was silent for longest.
    if (buckets.size > MOST_ADDRESSES) buckets.delete(buckets.keys().next().value!);
    if (bucket.left >= 1) {
      bucket.left -= 1;
      return;
    }
    const seconds = Math.max(1, Math.ceil((1 - bucket.left) / perSecond));
    throw new HttpError(
      429,
      "too_many_requests",
      `${address} makes too many requests. Expected at most ${perSecond} in a second; try again in ${seconds} s.`,
      { headers: { "retry-after": String(seconds) } },
    );
  };
}

/**
 * The request with its body read, which must be JSON in UTF-8, not large and not slow; other requests as they are.
 *
 * The body is read here, before anything else looks at it, so that no route can forget the limits.
 */
export async function withBody(request: Request): Promise<Request> {
  if (!request.body || !["POST", "PUT", "PATCH", "DELETE"].includes(request.method)) return request;
  const bytes = await readBody(request.body, Number(request.headers.get("content-length") ?? 0));
  if (bytes.length) {
    const type = request.headers.get("content-type") ?? "";
    if (!/^application\/json\s*(;|$)/i.test(type)) {
      throw new HttpError(
        415,
        "wrong_type",
        `The body is ${type || "of no named type"}. Expected Content-Type: application/json.`,
      );
    }
    try {
      JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    } catch (error) {
      throw new HttpError(400, "not_json", `The body is not JSON in UTF-8: ${(error as Error).message}.`);
    }
  }
  const headers = new Headers(request.headers);
  if (!bytes.length) headers.delete("content-type");
  return new Request(request.url, {
    method: request.method,
    headers,
    body: bytes.length ? bytes : undefined,
    signal: request.signal,
  });
}

async function readBody(
  body: ReadableStream<Uint8Array>,
  announced: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const reader = body.getReader();
  const refuse = (error: HttpError): never => {
    // Not awaited: a body that does not come cannot be waited for.
    reader.cancel().catch(() => {});
    throw error;
  };
  const tooLarge = () =>
    refuse(
      new HttpError(413, "too_large", `The body is too large. Expected at most ${MOST_BYTES} bytes.`, {
        headers: { connection: "close" },
      }),
    );
  if (announced > MOST_BYTES) tooLarge();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<"late">((resolve) => timer = setTimeout(() => resolve("late"), LONGEST_BODY));
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for (;;) {
      const part = await Promise.race([reader.read(), late]);
      if (part === "late") {
        return refuse(
          new HttpError(
            408,
            "too_slow",
            `The body did not come within ${LONGEST_BODY / 1000} s. Send it at once.`,
            { headers: { connection: "close" } },
          ),
        );
      }
      if (part.done) break;
      length += part.value.length;
      if (length > MOST_BYTES) tooLarge();
      chunks.push(part.value);
    }
  } catch (error) {
    if (error instanceof HttpError) throw error;
    throw new HttpError(400, "cut_off", `The body was cut off: ${(error as Error).message}.`);
  } finally {
    clearTimeout(timer);
  }
  const bytes = new Uint8Array(length);
  chunks.reduce((at, chunk) => (bytes.set(chunk, at), at + chunk.length), 0);
  return bytes;
}
