/**
 * Where the Hugging Face Hub is, where its files are kept, and who asks: from the variables that `huggingface_hub` reads, too.
 *
 * | variable | meaning |
 * |---|---|
 * | `HF_ENDPOINT` | address of the Hub or of a mirror |
 * | `HF_TOKEN`, else the file `$HF_HOME/token` | who asks |
 * | `HF_HUB_CACHE`, else `$HF_HOME/hub` | the cache; `HF_HOME` is `~/.cache/huggingface` where it is not set |
 * | `HF_HUB_OFFLINE` | `1`: nothing but the cache is used |
 *
 * @module
 */
import { join } from "node:path";

/** The Hub as this process sees it. */
export interface HubSettings {
  /** Address without a slash at its end. */
  endpoint: string;
  /** Folder of the cache. */
  cache: string;
  /** Sent to the endpoint and to nobody else. */
  token?: string;
  /** Nothing but the cache is used. */
  offline: boolean;
  /** Milliseconds before each further attempt; there are as many as these, and one. */
  waits: number[];
  /** Milliseconds without a byte after which a connection counts as dropped. */
  patience: number;
}

const WAITS = [500, 1000, 2000, 4000, 8000];
const PATIENCE = 60_000;

/** Settings by the environment; `get` looks a variable up. */
export function hubSettings(get: (name: string) => string | undefined = Deno.env.get): HubSettings {
  const variable = (name: string) => get(name) || undefined;
  const user = variable("HOME") ?? variable("USERPROFILE") ?? ".";
  const expand = (path: string) => path.replace(/^~(?=$|[/\\])/, () => user);
  const home = expand(
    variable("HF_HOME") ?? join(variable("XDG_CACHE_HOME") ?? join(user, ".cache"), "huggingface"),
  );
  return {
    endpoint: checkEndpoint(variable("HF_ENDPOINT") ?? "https://huggingface.co"),
    cache: expand(variable("HF_HUB_CACHE") ?? join(home, "hub")),
    token: checkToken(variable("HF_TOKEN") ?? readToken(join(home, "token"))),
    offline: /^(1|on|yes|true)$/i.test(variable("HF_HUB_OFFLINE") ?? ""),
    waits: WAITS,
    patience: PATIENCE,
  };
}

/** The Hub's name for messages: `huggingface.co`. */
export function hostOf({ endpoint }: HubSettings): string {
  return new URL(endpoint).host;
}

function checkEndpoint(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !/^https?:$/.test(url.protocol) || url.username || url.search) {
    throw new Error(
      `HF_ENDPOINT is ${
        JSON.stringify(text)
      }. Expected the address of the Hub, as in https://huggingface.co.`,
    );
  }
  return text.replace(/\/+$/, "");
}

function readToken(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path);
  } catch {
    // Absent, or not for us: most things on the Hub need no token.
    return undefined;
  }
}

function checkToken(text: string | undefined): string | undefined {
  const token = text?.trim();
  if (!token) return undefined;
  // The token itself stays out of the message.
  if (!/^[\x21-\x7e]{1,4096}$/.test(token)) {
    throw new Error(
      "The Hub's token has blanks or characters that no token has. Look at HF_TOKEN, or log in again with `hf auth login`.",
    );
  }
  return token;
}
