/**
 * What went wrong with the Hub, in words that say what to do.
 *
 * @module
 */
import type { Repo } from "./names.ts";
import { hostOf, type HubSettings } from "./settings.ts";

/** A request that failed; `message` goes on after the host's name: `huggingface.co answers with status 503`. */
export class HubError extends Error {
  override name = "HubError";
  /** Status of the answer; undefined where there was none. */
  status?: number;
  /** The Hub's own word for it, e.g. `RevisionNotFound`. */
  code?: string;
  /** Whether the same request may succeed a little later. */
  passing: boolean;
  /** Milliseconds after which the server wants to be asked again. */
  retryAfter: number;

  /** An error with what is known of it. */
  constructor(
    message: string,
    { status, code, passing = false, retryAfter = 0, cause }: {
      status?: number;
      code?: string;
      passing?: boolean;
      retryAfter?: number;
      cause?: unknown;
    } = {},
  ) {
    super(message, { cause });
    this.status = status;
    this.code = code;
    this.passing = passing;
    this.retryAfter = retryAfter;
  }
}

/** An error for people, from one of a request about `repo`; other errors come back as they are. */
export function explain(error: unknown, settings: HubSettings, repo: Repo, revision: string): unknown {
  if (!(error instanceof HubError)) return error;
  const host = hostOf(settings);
  const page = `${settings.endpoint}/${repo.type === "dataset" ? "datasets/" : ""}${repo.name}`;
  const cannot = `Cannot fetch ${repo.name}`;
  const token = settings.token === undefined
    ? "set HF_TOKEN to a token that may read it (or log in with `hf auth login`)"
    : "use a token that may read it (HF_TOKEN, or the one of `hf auth login`)";
  const say = (text: string) => new Error(text, { cause: error });
  if (error.code === "RevisionNotFound") {
    return say(
      `${cannot}: it has no revision "${revision}". Expected a branch, a tag or a commit of ${page}/tree/main.`,
    );
  }
  if (error.code === "EntryNotFound") {
    return say(`${cannot}: ${host} lists a file that it does not have: ${error.message}. Try again later.`);
  }
  if (error.code === "GatedRepo" || error.status === 403) {
    return say(`${cannot}: access to it must be granted. Ask for it at ${page}, and ${token}.`);
  }
  if (error.status === 401) {
    // The Hub does not tell strangers which repositories exist.
    return say(
      `${cannot}: it does not exist, or it is private or gated. Look at ${page}; if it exists, ${token}.`,
    );
  }
  if (error.status === 404) {
    const other = repo.type === "model" ? "a model, not a dataset" : "a dataset, not a model";
    return say(
      `${cannot}: there is no such ${repo.type} on ${host}. Look at ${page}: the name may be misspelt, or not that of ${other}.`,
    );
  }
  if (error.status === undefined) {
    return say(
      `${cannot}: ${host} ${error.message}. Try again when it can be reached; what has come stays. HF_HUB_OFFLINE=1 uses the cache alone, HF_ENDPOINT names a mirror.`,
    );
  }
  return say(`${cannot}: ${host} ${error.message}. Try again later; what has come stays.`);
}
