/** Talking to the server: JSON over HTTP, and a stream of events that is taken up again where it broke off. */
import { byId } from "./dom.js";

const TOKEN = "keel-token";

/** What the server says when something is wrong, field by field where it is about fields. */
export class ApiError extends Error {
  constructor({ message, fields = [] }) {
    super(message);
    this.fields = fields;
  }
}

function headers() {
  const token = sessionStorage.getItem(TOKEN);
  return token ? { authorization: `Bearer ${token}` } : {};
}

/** Asks the person for the token; resolves when it was given. */
function askForToken() {
  const dialog = byId("token-dialog"), input = byId("token");
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) =>
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(TOKEN, input.value.trim());
      resolve();
    }, { once: true })
  );
}

/** A response of the server; asks for the token where one is needed. */
export async function request(path, { method = "GET", body, signal, more } = {}) {
  for (;;) {
    const response = await fetch(path, {
      method,
      signal,
      headers: {
        ...headers(),
        ...more,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (response.status !== 401) return response;
    await askForToken();
  }
}

/** The JSON that the server answers. @throws {ApiError} with what the server says. */
export async function api(path, options) {
  const response = await request(path, options);
  const json = response.status === 204 ? undefined : await response.json().catch(() => undefined);
  if (response.ok) return json;
  throw new ApiError(json?.error ?? { message: `The server answered ${response.status}.` });
}

/** Saves a file of the server as the browser does with a download. */
export async function download(path, name) {
  const response = await request(path);
  if (!response.ok) throw new ApiError((await response.json()).error);
  const url = URL.createObjectURL(await response.blob());
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  URL.revokeObjectURL(url);
}

/** Milliseconds before a stream that broke off is taken up again. */
const RETRY = 1000;

/**
 * Follows a stream of server-sent events until `signal` is aborted. EventSource cannot send a token, so this reads the body.
 *
 * @param {{ after: number, signal: AbortSignal, onEvent: (event: { id: number, kind: string, data: any }) => void,
 *   onState: (connected: boolean) => void }} options
 */
export async function follow(path, { after, signal, onEvent, onState }) {
  let last = after;
  while (!signal.aborted) {
    try {
      const response = await request(path, { signal, more: { "last-event-id": String(last) } });
      if (!response.ok) throw new Error(`The stream was refused with ${response.status}.`);
      onState(true);
      for await (const event of eventsOf(response.body)) {
        last = event.id;
        onEvent(event);
      }
    } catch (error) {
      if (signal.aborted) return;
      console.warn(error);
    }
    onState(false);
    await new Promise((resolve) => setTimeout(resolve, RETRY));
  }
}

/** The events in a body. */
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const block = text.slice(0, end);
      text = text.slice(end + 2);
      const field = (name) =>
        block.split("\n").filter((line) => line.startsWith(`${name}:`))
          .map((line) => line.slice(name.length + 1).replace(/^ /, "")).join("\n");
      if (field("id")) {
        yield { id: Number(field("id")), kind: field("event"), data: JSON.parse(field("data")) };
      }
    }
  }
}
