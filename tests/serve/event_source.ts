/** Server-sent events, read by hand. */

/** One event. */
export interface Entry {
  id: number;
  event: string;
  // deno-lint-ignore no-explicit-any
  data: any;
}

/** Follows the stream of a run; leaving the loop breaks the connection. */
export async function* follow(url: string, run: string, lastId?: number, query = ""): AsyncGenerator<Entry> {
  const abort = new AbortController();
  const response = await fetch(`${url}/runs/${run}/stream${query}`, {
    signal: abort.signal,
    headers: lastId === undefined ? {} : { "last-event-id": String(lastId) },
  });
  if (response.status !== 200) throw new Error(`${response.status} ${await response.text()}`);
  let text = "";
  try {
    for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      const parts = text.split("\n\n");
      text = parts.pop()!;
      for (const part of parts) {
        const fields = new Map(
          part.split("\n").map((line) => {
            const at = line.indexOf(":");
            return [line.slice(0, at), line.slice(at + 2)];
          }),
        );
        if (!fields.has("id")) continue;
        yield {
          id: Number(fields.get("id")),
          event: fields.get("event")!,
          data: JSON.parse(fields.get("data")!),
        };
      }
    }
  } finally {
    abort.abort();
  }
}
