/**
 * What a revision of a repository consists of, asked of the Hub or known from the cache.
 *
 * @module
 */
import { dirname } from "node:path";
import { writeTextAtomically } from "../model/atomic_file.ts";
import { readRef, type RemoteFile, type RepoPaths, repoPaths, snapshotFiles, writeRef } from "./cache.ts";
import { explain, HubError } from "./errors.ts";
import { COMMIT, type Repo } from "./names.ts";
import { pause, pieces, request } from "./request.ts";
import { hostOf, type HubSettings } from "./settings.ts";

/** The files of a commit. */
export interface Listing {
  commit: string;
  files: RemoteFile[];
}

const MOST_FILES = 200_000;

/** Largest answer of the Hub's interface in bytes; a page of a listing has about 300 kB. */
const MOST_BYTES = 64e6;

/**
 * Looks up a revision. What the Hub says of a commit is kept: a commit never changes.
 *
 * @throws {Error} when there is no such repository or revision, or it is not in the cache and nothing else may be used.
 */
export async function listRepo(
  settings: HubSettings,
  repo: Repo,
  revision: string,
  say: (line: string) => void,
): Promise<Listing> {
  const paths = repoPaths(settings.cache, repo);
  const known = cachedListing(paths, revision);
  if (settings.offline) {
    if (known) return known;
    throw new Error(
      `Cannot use ${repo.name}: revision ${revision} of this ${repo.type} is not in the cache ${settings.cache}, and HF_HUB_OFFLINE is set. Fetch it once without that, or give the path of a directory.`,
    );
  }
  if (known?.files.every(({ digest }) => digest) && COMMIT.test(revision)) return known;
  try {
    const commit = await commitOf(settings, repo, revision, say);
    writeRef(paths, revision, commit);
    return readListing(paths, commit) ?? await fetchListing(settings, repo, commit, say);
  } catch (error) {
    if (error instanceof HubError && error.status === undefined && known) {
      say(
        `${
          hostOf(settings)
        } ${error.message}; using ${repo.name} as it is in the cache, commit ${known.commit}`,
      );
      return known;
    }
    throw explain(error, settings, repo, revision);
  }
}

/** What the cache knows: what the Hub said of the commit, else what of it lies there. */
function cachedListing(paths: RepoPaths, revision: string): Listing | undefined {
  const commit = readRef(paths, revision);
  if (commit === undefined) return undefined;
  const listing = readListing(paths, commit);
  if (listing) return listing;
  try {
    const files = snapshotFiles(paths.snapshot(commit));
    return files.length ? { commit, files } : undefined;
  } catch {
    return undefined;
  }
}

function readListing(paths: RepoPaths, commit: string): Listing | undefined {
  try {
    return { commit, files: checkEntries(JSON.parse(Deno.readTextFileSync(paths.listing(commit)))) };
  } catch {
    // Absent or damaged: the Hub is asked.
    return undefined;
  }
}

/** The package is loaded only where the Hub is asked. */
const hub = () => import("@huggingface/hub");

async function commitOf(
  settings: HubSettings,
  { type, name }: Repo,
  revision: string,
  say: (line: string) => void,
): Promise<string> {
  const { modelInfo, datasetInfo } = await hub();
  const asked = { name, revision, hubUrl: settings.endpoint, fetch: fetchThrough(settings, say) };
  const { sha } = type === "model"
    ? await modelInfo({ ...asked, additionalFields: ["sha"] })
    : await datasetInfo({ ...asked, additionalFields: ["sha"] });
  if (typeof sha !== "string" || !COMMIT.test(sha)) {
    throw new Error(`Cannot use ${name}: ${hostOf(settings)} gives ${JSON.stringify(sha)} for the commit.`);
  }
  return sha;
}

async function fetchListing(
  settings: HubSettings,
  repo: Repo,
  commit: string,
  say: (line: string) => void,
): Promise<Listing> {
  const { listFiles } = await hub();
  const entries: unknown[] = [];
  const asked = {
    repo,
    recursive: true,
    revision: commit,
    hubUrl: settings.endpoint,
    fetch: fetchThrough(settings, say),
  };
  for await (const { type, path, size, oid, lfs } of listFiles(asked)) {
    if (type !== "file") continue;
    entries.push({
      path,
      size: lfs?.size ?? size,
      digest: lfs ? { algorithm: "sha256", hex: lfs.oid } : { algorithm: "git-sha1", hex: oid },
    });
    if (entries.length > MOST_FILES) {
      throw new Error(`Cannot use ${repo.name}: it has more than ${MOST_FILES} files.`);
    }
  }
  let files: RemoteFile[];
  try {
    files = checkEntries(entries);
  } catch (error) {
    throw new Error(`Cannot use ${repo.name}: ${hostOf(settings)} lists ${(error as Error).message}.`);
  }
  const path = repoPaths(settings.cache, repo).listing(commit);
  Deno.mkdirSync(dirname(path), { recursive: true });
  writeTextAtomically(path, JSON.stringify(files));
  return { commit, files };
}

/** Entries whose size and hash are what they should be; the paths are looked at when they are used. */
function checkEntries(entries: unknown): RemoteFile[] {
  if (!Array.isArray(entries)) throw new Error("no files");
  return entries.map(({ path, size, digest }: RemoteFile) => {
    const length = digest?.algorithm === "sha256" ? 64 : 40;
    if (
      typeof path !== "string" || !Number.isSafeInteger(size) || size < 0 ||
      !/^[0-9a-f]+$/.test(digest?.hex ?? "") || digest!.hex.length !== length
    ) {
      throw new Error(`${JSON.stringify(path)} without a size and a hash`);
    }
    return { path, size, digest };
  });
}

/** A `fetch` for the package: the token goes to the Hub only, and an answer has a size that can be held. */
function fetchThrough(settings: HubSettings, say: (line: string) => void): typeof fetch {
  return async (input) => {
    const url = input instanceof Request ? input.url : String(input);
    for (let failures = 1;; failures++) {
      const response = await request(settings, url, { headers: { Accept: "application/json" }, say });
      const chunks: Uint8Array<ArrayBuffer>[] = [];
      let bytes = 0;
      try {
        for await (const chunk of pieces(settings, response)) {
          chunks.push(chunk);
          bytes += chunk.length;
          if (bytes > MOST_BYTES) {
            throw new HubError(`answers with more than ${MOST_BYTES} bytes`, { status: response.status });
          }
        }
      } catch (error) {
        await pause(settings, error, failures, say);
        continue;
      }
      const body = await new Blob(chunks).text();
      try {
        JSON.parse(body);
      } catch (error) {
        throw new HubError(`answers with something other than JSON (${(error as Error).message})`, {
          status: response.status,
        });
      }
      return new Response(body, { headers: response.headers });
    }
  };
}
