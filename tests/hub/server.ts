/**
 * A hub for tests: the interface of the Hugging Face Hub as far as models and datasets are read, on two ports of this machine.
 * Large files are redirected from the first to the second, which must never see a token.
 */
import { createHash } from "node:crypto";

/** Content by path; `large` files have a sha256 and live on the second port. */
export type HubFiles = Record<string, { content: Uint8Array<ArrayBuffer>; large?: boolean }>;

/** A repository: its files by commit, and the commit of each branch. */
export interface HubRepo {
  commits: Record<string, HubFiles>;
  refs: Record<string, string>;
}

/** A request as it came. */
export interface Seen {
  port: "hub" | "store";
  path: string;
  range: string | null;
  token: string | null;
}

/** What a test does with a request instead of answering it; nothing for the usual answer. */
export type Interference = (seen: Seen, usual: () => Response) => Response | Promise<Response> | undefined;

/** A hub that goes. */
export interface TestHub {
  endpoint: string;
  seen: Seen[];
  /** Requests for content since the last call. */
  bodies(): Seen[];
  interfere?: Interference;
  close(): Promise<void>;
}

/** A commit's name. */
export const commit = (digit: string) => digit.repeat(40);

/** Text as a file. */
export const text = (content: string) => ({ content: new TextEncoder().encode(content) });

/** Names of the files in a directory, as a repository has them. */
export function filesOf(directory: string, large: RegExp = /\.safetensors$/): HubFiles {
  return Object.fromEntries(
    Array.from(Deno.readDirSync(directory)).filter(({ isFile }) => isFile).map(({ name }) => [
      name,
      { content: Deno.readFileSync(`${directory}/${name}`), large: large.test(name) },
    ]),
  );
}

/** A repository of one commit. */
export function repoOf(files: HubFiles, sha: string = commit("a")): HubRepo {
  return { commits: { [sha]: files }, refs: { main: sha } };
}

const hash = (algorithm: string, ...parts: (string | Uint8Array)[]) => {
  const digest = createHash(algorithm);
  for (const part of parts) digest.update(part);
  return digest.digest("hex");
};
const sha256 = (content: Uint8Array) => hash("sha256", content);
const gitSha1 = (content: Uint8Array) => hash("sha1", `blob ${content.length}\0`, content);

/** Files on a page of a listing: small, so that there are several pages. */
const PAGE = 3;

/** Starts a hub with `repos` by type and name, e.g. `models/org/name`. */
export function startHub(repos: Record<string, HubRepo>): TestHub {
  const stored = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const { commits } of Object.values(repos)) {
    for (const files of Object.values(commits)) {
      for (const { content } of Object.values(files)) stored.set(sha256(content), content);
    }
  }
  const seen: Seen[] = [];
  const start = (port: Seen["port"], answer: (url: URL, request: Request) => Response) =>
    Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, (request) => {
      const url = new URL(request.url);
      const one: Seen = {
        port,
        path: url.pathname,
        range: request.headers.get("range"),
        token: request.headers.get("authorization"),
      };
      seen.push(one);
      const usual = () => answer(url, request);
      return hub.interfere?.(one, usual) ?? usual();
    });
  const store = start(
    "store",
    (url, request) => slice(stored.get(url.pathname.slice(1))!, request.headers.get("range")),
  );
  const addressOf = ({ addr }: Deno.HttpServer<Deno.NetAddr>) => `http://127.0.0.1:${addr.port}`;
  const server = start("hub", (url, request) => {
    const [, type, name, what, rest] =
      /^\/(?:api\/(?=models|datasets))?(?:(models|datasets)\/)?([^/]+\/[^/]+)\/(revision|tree|resolve)\/(.+)$/
        .exec(url.pathname) ?? [];
    const repo = repos[`${type ?? "models"}/${name}`];
    if (!repo) return failure(404, "RepoNotFound", "Repository not found");
    const [named, ...path] = what === "revision" ? [decodeURIComponent(rest)] : rest.split("/");
    const sha = repo.refs[named] ?? named, files = repo.commits[sha];
    if (!files) return failure(404, "RevisionNotFound", `Invalid rev id: ${named}`);
    if (what === "revision") {
      return Response.json({ _id: "1", id: name, sha, lastModified: "2026-01-01T00:00:00.000Z" });
    }
    if (what === "tree") return page(url, addressOf(server), files);
    const file = files[path.map(decodeURIComponent).join("/")];
    if (!file) return failure(404, "EntryNotFound", "Entry not found");
    const { content, large } = file, headers = new Headers({ "X-Repo-Commit": sha });
    if (large) {
      headers.set("Location", `${addressOf(store)}/${sha256(content)}`);
      headers.set("X-Linked-Size", String(content.length));
      headers.set("X-Linked-Etag", `"${sha256(content)}"`);
      return new Response(null, { status: 302, headers });
    }
    headers.set("ETag", `"${gitSha1(content)}"`);
    return slice(content, request.headers.get("range"), headers);
  });
  const hub: TestHub = {
    endpoint: addressOf(server),
    seen,
    bodies: () => seen.splice(0).filter(({ port, path }) => port === "store" || path.includes("/resolve/")),
    async close() {
      await Promise.all([server.shutdown(), store.shutdown()]);
    },
  };
  return hub;
}

/** An answer as the Hub gives it when something is wrong. */
export function failure(status: number, code: string, message: string, headers: HeadersInit = {}): Response {
  return Response.json({ error: message }, {
    status,
    headers: { "X-Error-Code": code, "X-Error-Message": message, ...headers },
  });
}

function page(url: URL, endpoint: string, files: HubFiles): Response {
  const from = Number(url.searchParams.get("cursor") ?? 0), all = Object.entries(files);
  const next = new URL(url.pathname + url.search, endpoint);
  next.searchParams.set("cursor", String(from + PAGE));
  const rows = all.slice(from, from + PAGE).map(([path, { content, large }]) => ({
    type: "file",
    path,
    size: content.length,
    oid: large ? hash("sha1", "a pointer") : gitSha1(content),
    ...large && { lfs: { oid: sha256(content), size: content.length, pointerSize: 130 } },
  }));
  return Response.json([{ type: "directory", path: "data", size: 0, oid: commit("0") }, ...rows], {
    headers: from + PAGE < all.length ? { Link: `<${next}>; rel="next"` } : {},
  });
}

function slice(content: Uint8Array<ArrayBuffer>, range: string | null, headers = new Headers()): Response {
  const from = /^bytes=(\d+)-$/.exec(range ?? "")?.[1];
  // Python asks for the headers alone, length included.
  if (from === undefined) return new Response(content, { headers });
  if (Number(from) >= content.length) return new Response(null, { status: 416 });
  headers.set("Content-Range", `bytes ${from}-${content.length - 1}/${content.length}`);
  return new Response(content.slice(Number(from)), { status: 206, headers });
}

/** The first `bytes` of an answer of which more was announced; then the connection breaks. */
export async function broken(usual: Response, bytes: number): Promise<Response> {
  const content = await usual.bytes(), headers = new Headers(usual.headers);
  headers.set("Content-Length", String(content.length));
  return new Response(ReadableStream.from([content.subarray(0, bytes)]), { status: usual.status, headers });
}
