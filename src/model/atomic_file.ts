/**
 * Writing files so that a reader, or the next start after a crash, finds the old content or the new, never a part.
 *
 * @module
 */

import { dirname } from "node:path";

let written = 0;

function writeFully(file: Deno.FsFile, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
}

/** The rename itself must reach the disk, too; Windows cannot open directories and does not need it. */
function syncDirectory(path: string): void {
  if (Deno.build.os === "windows") return;
  const directory = Deno.openSync(path);
  try {
    directory.syncSync();
  } finally {
    directory.close();
  }
}

/** Writes chunks to a temporary name in the same directory, fsyncs, and renames. The directory must exist. */
export function writeFileAtomically(path: string, chunks: Iterable<Uint8Array>): void {
  const temporary = `${path}.${Deno.pid}-${written++}.tmp`;
  try {
    const file = Deno.openSync(temporary, { write: true, createNew: true });
    try {
      for (const chunk of chunks) writeFully(file, chunk);
      file.syncSync();
    } finally {
      file.close();
    }
    Deno.renameSync(temporary, path);
    syncDirectory(dirname(path));
  } catch (error) {
    try {
      Deno.removeSync(temporary);
    } catch {
      // It may not have been created, or be renamed already.
    }
    throw new Error(`Cannot write ${path}: ${(error as Error).message}`, { cause: error });
  }
}

/** {@linkcode writeFileAtomically} for text, as UTF-8. */
export function writeTextAtomically(path: string, text: string): void {
  writeFileAtomically(path, [new TextEncoder().encode(text)]);
}
