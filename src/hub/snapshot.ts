/**
 * Files of a commit, fetched into the cache where they are not there yet.
 *
 * @module
 */
import { statfsSync } from "node:fs";
import { dirname, join } from "node:path";
import { linkBlob, type RemoteFile, repoPaths, sizeOf } from "./cache.ts";
import { type CheckedFile, downloadFile } from "./download.ts";
import { explain } from "./errors.ts";
import type { Listing } from "./listing.ts";
import { checkPath, type Repo } from "./names.ts";
import type { HubSettings } from "./settings.ts";

/** How far a download is. */
export interface FetchProgress {
  /** The repository. */
  name: string;
  /** The file that comes now. */
  file: string;
  /** Bytes that are there, of all files that had to be fetched. */
  received: number;
  /** Bytes of these files. */
  total: number;
  /** Bytes per second of what came now; 0 at the beginning. */
  rate: number;
}

/** Listening to a fetch. */
export interface FetchListener {
  /** Gets what people should know while they wait. */
  say: (line: string) => void;
  /** Gets how far it is, several times a second. */
  progress?: (progress: FetchProgress) => void;
}

/** Milliseconds between two looks at whether another process has done with a file. */
const LOOK_AGAIN_AFTER = 200;

/** Space that is left free on the disk in bytes. */
const SPARE_BYTES = 50e6;

/** Fetches files of a commit and returns the folder that has them by their names. */
export async function fetchFiles(
  settings: HubSettings,
  repo: Repo,
  { commit }: Listing,
  files: RemoteFile[],
  { say, progress }: FetchListener,
): Promise<string> {
  const paths = repoPaths(settings.cache, repo), directory = paths.snapshot(commit);
  for (const { path } of files) checkPath(path, repo);
  const named = files.filter(({ path, size }) => sizeOf(join(directory, path)) !== size);
  const unchecked = named.find(({ digest }) => !digest);
  if (named.length && settings.offline || unchecked) {
    throw new Error(
      `Cannot use ${repo.name}: ${named.slice(0, 3).map(({ path }) => path).join(", ")}${
        named.length > 3 ? ` and ${named.length - 3} more are` : " is"
      } not in the cache ${settings.cache}${
        settings.offline ? ", and HF_HUB_OFFLINE is set. Fetch it once without that." : "."
      }`,
    );
  }
  const missing = (named as CheckedFile[]).filter(({ digest, size }) =>
    sizeOf(paths.blob(digest.hex)) !== size
  );
  const partialOf = (file: CheckedFile) => `${paths.blob(file.digest.hex)}.incomplete`;
  const total = missing.reduce((sum, { size }) => sum + size, 0);
  if (missing.length) {
    Deno.mkdirSync(join(paths.folder, "blobs"), { recursive: true });
    const partly = missing.reduce((sum, file) => sum + (sizeOf(partialOf(file)) ?? 0), 0);
    checkSpace(paths.folder, total - partly, repo);
  }
  const told = measure(repo.name, total, progress);
  let before = 0;
  for (const file of missing) {
    const { hex } = file.digest, blob = paths.blob(hex), partial = partialOf(file);
    const release = await lockFile(
      paths.lock(hex),
      () => say(`Waiting for another process that fetches ${file.path}`),
    );
    try {
      // Another process may have fetched it while this one waited.
      if (sizeOf(blob) !== file.size) {
        const url = resolveUrl(settings, repo, commit, file.path);
        try {
          await downloadFile(settings, url, file, partial, {
            say,
            // All of it is told of when it is known to be right.
            received: (bytes) => before + bytes < total && told(file.path, before + bytes),
          });
        } catch (error) {
          throw explain(error, settings, repo, commit);
        }
        Deno.renameSync(partial, blob);
      }
    } finally {
      release();
    }
    before += file.size;
    told(file.path, before);
  }
  // Names come last: what has one is whole.
  for (const { path, digest } of named) linkBlob(paths.blob(digest!.hex), join(directory, path));
  return directory;
}

function resolveUrl({ endpoint }: HubSettings, { type, name }: Repo, commit: string, path: string): string {
  const folder = type === "dataset" ? "datasets/" : "";
  return `${endpoint}/${folder}${name}/resolve/${commit}/${
    path.split("/").map(encodeURIComponent).join("/")
  }`;
}

/** Refuses a download that the disk has no room for, where that can be known. */
function checkSpace(directory: string, bytes: number, { name }: Repo): void {
  let free: number;
  try {
    const { bavail, bsize } = statfsSync(directory);
    free = bavail * bsize;
  } catch {
    return;
  }
  if (bytes + SPARE_BYTES > free) {
    const gigabytes = (count: number) => `${(count / 1e9).toFixed(2)} GB`;
    throw new Error(
      `Cannot fetch ${name}: it needs ${gigabytes(bytes)}, and the disk of ${directory} has ${
        gigabytes(free)
      } free. Make room, or name another disk with HF_HUB_CACHE.`,
    );
  }
}

/** Takes the lock that `huggingface_hub` takes, too; it ends with the process. */
async function lockFile(path: string, waiting: () => void): Promise<() => void> {
  Deno.mkdirSync(dirname(path), { recursive: true });
  const file = Deno.openSync(path, { read: true, write: true, create: true });
  for (let looks = 0; !file.tryLockSync(true); looks++) {
    if (looks === 0) waiting();
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_AFTER));
  }
  return () => file.close();
}

/** Tells how far it is and how fast it goes. */
function measure(
  name: string,
  total: number,
  progress: FetchListener["progress"],
): (file: string, received: number) => void {
  const begin = performance.now();
  let first: number | undefined, toldAt = -Infinity;
  return (file, received) => {
    // What was there already did not come now.
    first = Math.min(first ?? received, received);
    const now = performance.now(), seconds = (now - begin) / 1000;
    if (now - toldAt < 100 && received < total) return;
    toldAt = now;
    progress?.({ name, file, received, total, rate: seconds > 0 ? (received - first) / seconds : 0 });
  };
}
