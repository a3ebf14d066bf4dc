/**
 * Files of a run that may be downloaded: what is inside its directory, is a plain file, and is nobody's tool.
 *
 * @module
 */
import { join, sep } from "node:path";
import { checkpointSteps } from "../src/run/checkpoint.ts";
import { HttpError } from "./http_error.ts";
import { type RunView, stageDir } from "./runs.ts";

/** A file of a run. */
export interface RunFile {
  /** With slashes, from the run's directory. */
  path: string;
  bytes: number;
  /** Unix time in seconds. */
  modified: number;
}

/** Files that are listed at most. */
const MOST_FILES = 5000;

/** What is in use or half-written. */
const HIDDEN = /^(\.|run\.db|lock$|.*\.tmp\b)/;

/** Files of a run in the order of their paths. */
export async function listFiles(run: RunView): Promise<{ files: RunFile[]; truncated: boolean }> {
  const files: RunFile[] = [];
  const walk = async (folder: string, prefix: string): Promise<void> => {
    for await (const { name, isDirectory, isFile } of Deno.readDir(folder)) {
      if (HIDDEN.test(name) || files.length > MOST_FILES) continue;
      if (isDirectory) await walk(join(folder, name), `${prefix}${name}/`);
      if (!isFile) continue;
      const { size, mtime } = await Deno.lstat(join(folder, name));
      files.push({ path: prefix + name, bytes: size, modified: (mtime?.getTime() ?? 0) / 1000 });
    }
  };
  await walk(run.dir, "").catch((error) => {
    // A checkpoint that was listed may be gone when it is looked into.
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  files.sort((a, b) => a.path < b.path ? -1 : 1);
  return { files: files.slice(0, MOST_FILES), truncated: files.length > MOST_FILES };
}

/** Checkpoints of a run, newest first within a stage. */
export function listCheckpoints(run: RunView): { stage: string; step: number; path: string }[] {
  return run.stages.flatMap((stage) => {
    const folder = join(stageDir(run, stage), "checkpoints");
    return checkpointSteps(folder).map((step) => ({
      stage,
      step,
      path: join(folder, `step-${step}`).slice(run.dir.length + 1).replaceAll(sep, "/"),
    }));
  });
}

/** Opens a file of a run. @throws {HttpError} 404 where there is none that may be read. */
export async function openRunFile(run: RunView, path: string): Promise<{ file: Deno.FsFile; bytes: number }> {
  const missing = new HttpError(
    404,
    "no_such_file",
    `Run ${run.id} has no file ${JSON.stringify(path)}. GET /runs/${run.id}/files lists them.`,
  );
  const parts = path.split("/");
  if (parts.some((part) => part === "" || part === ".." || /[\\\0]/.test(part) || HIDDEN.test(part))) {
    throw missing;
  }
  let file: Deno.FsFile | undefined;
  try {
    // No part may be a link: neither out of the directory nor to another run.
    const wanted = join(await Deno.realPath(run.dir), ...parts);
    if (await Deno.realPath(wanted) !== wanted || !(await Deno.lstat(wanted)).isFile) throw missing;
    file = await Deno.open(wanted);
    const { isFile, size } = await file.stat();
    if (isFile) return { file, bytes: size };
  } catch {
    // Absent, too long a name, or not to be read.
  }
  file?.close();
  throw missing;
}

/** First and last byte that a Range header asks for; undefined where all are wanted. */
export function byteRange(
  header: string | undefined,
  bytes: number,
): { from: number; to: number } | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header?.trim() ?? "");
  // Several ranges, other units and nonsense may be ignored (RFC 9110, 14.2).
  if (!match || (match[1] === "" && match[2] === "")) return undefined;
  const [from, to] = match[1] === ""
    ? [Math.max(0, bytes - Number(match[2])), bytes - 1]
    : [Number(match[1]), match[2] === "" ? bytes - 1 : Math.min(bytes - 1, Number(match[2]))];
  if (match[1] !== "" && match[2] !== "" && Number(match[2]) < from) return undefined;
  if (from >= bytes) {
    throw new HttpError(416, "no_such_range", `The file has ${bytes} bytes. Expected a range within them.`, {
      headers: { "content-range": `bytes */${bytes}` },
    });
  }
  return { from, to };
}

/** The bytes of an open file from `from` to `to`, as they are asked for; closes the file. */
export function fileStream(file: Deno.FsFile, from: number, to: number): ReadableStream<Uint8Array> {
  let left = to - from + 1;
  return new ReadableStream({
    async start() {
      await file.seek(from, Deno.SeekMode.Start);
    },
    async pull(controller) {
      const chunk = new Uint8Array(Math.min(left, 64 * 1024));
      const count = left > 0 ? await file.read(chunk) : null;
      if (count === null) {
        file.close();
        controller.close();
        return;
      }
      left -= count;
      controller.enqueue(chunk.subarray(0, count));
    },
    cancel: () => file.close(),
  }, { highWaterMark: 0 });
}
