/**
 * The text of a file, plain or gzipped, as it is read.
 *
 * @module
 */
import { fileSize } from "../model/json_file.ts";

/** Longest line, CSV record, or whole `.json` file in characters, after unzipping. */
export const MAX_TEXT = 512e6;

/** Pieces of the text of a file as they are read and unzipped; `name` is for messages. */
export async function* textChunks(path: string, name: string): AsyncGenerator<string> {
  fileSize(path);
  const file = await Deno.open(path);
  let stream: ReadableStream<Uint8Array<ArrayBuffer>> = file.readable;
  if (path.endsWith(".gz")) stream = stream.pipeThrough(new DecompressionStream("gzip"));
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let what = path.endsWith(".gz") ? "unzip it" : "read it";
  try {
    for await (const bytes of stream) {
      what = "decode it as UTF-8";
      yield decoder.decode(bytes, { stream: true });
      what = path.endsWith(".gz") ? "unzip it" : "read it";
    }
    what = "decode it as UTF-8";
    yield decoder.decode();
  } catch (error) {
    throw new Error(`Cannot read ${name}: failed to ${what} (${(error as Error).message}).`, {
      cause: error,
    });
  }
}
