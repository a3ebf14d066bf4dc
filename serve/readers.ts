/**
 * Open databases of runs, kept for the next request.
 *
 * @module
 */
import { join } from "node:path";
import { openReader, type RunReader } from "../src/run/reader.ts";

/** Databases that stay open at a time. */
const MOST_OPEN = 64;

/** Readers of runs' databases. */
export interface Readers {
  /** The reader of the run in `dir`; undefined where it has no database yet. */
  of(dir: string): RunReader | undefined;
  /** Closes that of `dir`. */
  drop(dir: string): void;
  close(): void;
}

/** Opens a set of readers. */
export function openReaders(): Readers {
  const open = new Map<string, { reader: RunReader; inode: number | null }>();

  function drop(dir: string): void {
    open.get(dir)?.reader.close();
    open.delete(dir);
  }

  return {
    of(dir) {
      const path = join(dir, "run.db");
      let inode: number | null;
      try {
        inode = Deno.statSync(path).ino;
      } catch {
        drop(dir);
        return undefined;
      }
      let entry = open.get(dir);
      // A run that was replaced has another file of the same name.
      if (entry && entry.inode !== inode) {
        drop(dir);
        entry = undefined;
      }
      if (!entry) {
        const reader = attempt(() => openReader(path));
        // It was made just now and has no tables yet.
        if (!reader || attempt(() => reader.lastSeq()) === undefined) {
          reader?.close();
          return undefined;
        }
        entry = { reader, inode };
      }
      open.delete(dir);
      open.set(dir, entry);
      if (open.size > MOST_OPEN) drop(open.keys().next().value!);
      return entry.reader;
    },
    drop,
    close() {
      for (const dir of [...open.keys()]) drop(dir);
    },
  };
}

function attempt<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch {
    return undefined;
  }
}
