/**
 * Names of what is on the Hub, and what may become a path here.
 *
 * A repository is `org/name`, optionally with a revision (a branch, a tag or a commit): `org/name@v1.0`. One file of it is
 * `org/name/file.gguf` or `org/name:file.gguf`, again with or without a revision: `org/name@v1.0:file.gguf`.
 *
 * @module
 */

/** A repository. */
export interface Repo {
  type: "model" | "dataset";
  /** `org/name`. */
  name: string;
}

/** What a name says. */
export interface HubName {
  /** `org/name`. */
  name: string;
  /** Branch, tag or commit, where one is given. */
  revision?: string;
  /** One file of the repository, where one is given. */
  file?: string;
}

const PART = String.raw`[A-Za-z0-9](?:[\w.-]{0,94}\w)?`;
const REVISION = String.raw`\w(?:[\w./-]{0,254}\w)?`;
const NAME = new RegExp(`^(${PART}/${PART})(?:/([^@:]+))?(?:@(${REVISION}))?(?::([^@:]+))?$`);

/** A full commit. */
export const COMMIT = /^[0-9a-f]{40}$/;

/** Names of files, which people give as paths. */
const FILE = /\.(jsonl?|csv|parquet|gguf|safetensors|ya?ml|txt)(\.gz)?$/;

/** Reads a name; undefined for what cannot be one. */
export function parseHubName(text: string): HubName | undefined {
  const [, name, inPath, revision, afterColon] = NAME.exec(text) ?? [];
  const file = inPath ?? afterColon;
  if (name === undefined || /--|\.\.|\.git$/.test(name) || FILE.test(name)) return undefined;
  if (revision?.includes("..") || inPath !== undefined && afterColon !== undefined) return undefined;
  // A longer path is one on this machine, but for the form that other programs have for GGUF files.
  if (inPath !== undefined && !inPath.endsWith(".gguf")) return undefined;
  if (file !== undefined && !isSafePath(file)) return undefined;
  return { name, ...revision !== undefined && { revision }, ...file !== undefined && { file } };
}

/** Whether a path of a repository can be one here: relative, no step upwards, and nothing that some system takes for something else. */
export function isSafePath(path: string): boolean {
  // deno-lint-ignore no-control-regex
  if (path.length > 1024 || /[\x00-\x1f\x7f<>:"|?*\\]/.test(path)) return false;
  return path.split("/").every((part) => part !== "" && part.length <= 240 && !/^\.\.?$|[. ]$/.test(part));
}

/** Refuses a path that {@linkcode isSafePath} does not allow. */
export function checkPath(path: string, repo: Repo): void {
  if (!isSafePath(path)) {
    throw new Error(
      `Cannot use ${repo.name}: it has a file named ${
        JSON.stringify(path.slice(0, 200))
      }, which cannot be a path here.`,
    );
  }
}
