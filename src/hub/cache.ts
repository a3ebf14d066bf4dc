/**
 * The cache, laid out as `huggingface_hub` lays it out, so that either finds what the other has fetched:
 *
 *     models--org--name/blobs/ETAG            content, named by its hash
 *     models--org--name/snapshots/COMMIT/…    links to it by the names of a commit
 *     models--org--name/refs/main             the commit of a branch or tag
 *     models--org--name/listings/COMMIT.json  what the commit consists of; only keel has this
 *     .locks/models--org--name/ETAG.lock      held while content is fetched
 *
 * @module
 */
import { dirname, join, relative } from "node:path";
import { writeTextAtomically } from "../model/atomic_file.ts";
import { COMMIT, type Repo } from "./names.ts";

/** Hash that content must have: sha256 for large files, git's sha1 of a blob for the others. */
export interface Digest {
  algorithm: "sha256" | "git-sha1";
  /** In lower case; it is the blob's name, too. */
  hex: string;
}

/** A file of a commit. */
export interface RemoteFile {
  /** Path in the repository. */
  path: string;
  /** Bytes. */
  size: number;
  /** Absent where the file is known from the cache alone. */
  digest?: Digest;
}

/** Paths of a repository in the cache. */
export interface RepoPaths {
  folder: string;
  blob(hex: string): string;
  lock(hex: string): string;
  snapshot(commit: string): string;
  listing(commit: string): string;
  ref(revision: string): string;
}

/** Where a repository is kept. */
export function repoPaths(cache: string, { type, name }: Repo): RepoPaths {
  const own = `${type}s--${name.replace("/", "--")}`, folder = join(cache, own);
  return {
    folder,
    blob: (hex) => join(folder, "blobs", hex),
    lock: (hex) => join(cache, ".locks", own, `${hex}.lock`),
    snapshot: (commit) => join(folder, "snapshots", commit),
    listing: (commit) => join(folder, "listings", `${commit}.json`),
    ref: (revision) => join(folder, "refs", ...revision.split("/")),
  };
}

/** The commit that a revision was when it was last looked up. */
export function readRef(paths: RepoPaths, revision: string): string | undefined {
  if (COMMIT.test(revision)) return revision;
  try {
    const commit = Deno.readTextFileSync(paths.ref(revision)).trim();
    return COMMIT.test(commit) ? commit : undefined;
  } catch {
    return undefined;
  }
}

/** Notes which commit a revision is. */
export function writeRef(paths: RepoPaths, revision: string, commit: string): void {
  if (revision === commit || readRef(paths, revision) === commit) return;
  const path = paths.ref(revision);
  Deno.mkdirSync(dirname(path), { recursive: true });
  writeTextAtomically(path, commit);
}

/** Size of a file, links followed; undefined where there is none. */
export function sizeOf(path: string): number | undefined {
  try {
    const info = Deno.statSync(path);
    return info.isFile ? info.size : undefined;
  } catch {
    return undefined;
  }
}

/** Gives content its name in a snapshot: a relative link, or a copy where links cannot be made. */
export function linkBlob(blob: string, path: string): void {
  Deno.mkdirSync(dirname(path), { recursive: true });
  const temporary = `${path}.${Deno.pid}.tmp`;
  try {
    Deno.symlinkSync(relative(dirname(path), blob), temporary, { type: "file" });
  } catch {
    // Windows without developer mode, file systems without links.
    Deno.copyFileSync(blob, temporary);
  }
  Deno.renameSync(temporary, path);
}

/** The files of a snapshot as they lie in the cache. */
export function snapshotFiles(directory: string, under = ""): RemoteFile[] {
  return Array.from(Deno.readDirSync(join(directory, under))).flatMap(({ name, isDirectory }) => {
    const path = under ? `${under}/${name}` : name;
    if (isDirectory) return snapshotFiles(directory, path);
    const size = sizeOf(join(directory, path));
    return size === undefined ? [] : [{ path, size }];
  });
}
