/**
 * The end of a log file.
 *
 * @module
 */

/** Bytes of a log that are looked at for its last lines. */
const MOST_BYTES = 256 * 1024;

/** The last `count` lines of the file at `path`; none where there is no such file. */
export function lastLines(path: string, count: number): string[] {
  let file: Deno.FsFile;
  try {
    if (!Deno.lstatSync(path).isFile) return [];
    file = Deno.openSync(path);
  } catch {
    return [];
  }
  try {
    const size = file.statSync().size, from = Math.max(0, size - MOST_BYTES);
    file.seekSync(from, Deno.SeekMode.Start);
    const bytes = new Uint8Array(size - from);
    let length = 0;
    for (let n = file.readSync(bytes); n; n = file.readSync(bytes.subarray(length))) {
      length += n;
      if (length === bytes.length) break;
    }
    const text = new TextDecoder().decode(bytes.subarray(0, length)).replace(/\n$/, "");
    if (text === "") return [];
    const lines = text.split("\n");
    // The first line that was not read from its beginning is left out.
    return (from > 0 ? lines.slice(1) : lines).slice(-count);
  } finally {
    file.close();
  }
}
