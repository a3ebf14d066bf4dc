/**
 * A file of JSON lines that is written as they come and has its name only when it is whole.
 *
 * @module
 */
import { renameSync, rmSync } from "node:fs";

/** A file that is being written. */
export interface RowFile {
  write(row: object): void;
  /** The file is whole. */
  close(): void;
  /** Leaves nothing behind; does nothing once it is whole. */
  discard(): void;
}

/** Opens the file at `path`; nothing is written where there is none. */
export function openRowFile(path: string | undefined): RowFile {
  if (path === undefined) return { write() {}, close() {}, discard() {} };
  const temporary = `${path}.tmp-${Deno.pid}`, encoder = new TextEncoder();
  const file = Deno.openSync(temporary, { write: true, create: true, truncate: true });
  let open = true;
  const end = () => {
    open = false;
    file.close();
  };
  return {
    write(row) {
      const bytes = encoder.encode(JSON.stringify(row) + "\n");
      for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
    },
    close() {
      end();
      renameSync(temporary, path);
    },
    discard() {
      if (!open) return;
      end();
      rmSync(temporary, { force: true });
    },
  };
}
