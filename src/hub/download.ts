/**
 * One file from the Hub: what has come is kept, goes on where it stopped, and counts only with the right hash.
 *
 * @module
 */
import { createHash, type Hash } from "node:crypto";
import type { Digest, RemoteFile } from "./cache.ts";
import { HubError } from "./errors.ts";
import { dropped, pause, pieces, request } from "./request.ts";
import { hostOf, type HubSettings } from "./settings.ts";

/** A file whose content can be checked. */
export type CheckedFile = RemoteFile & { digest: Digest };

/** Listening to a download. */
export interface DownloadListener {
  /** Gets what people should know while they wait. */
  say: (line: string) => void;
  /** Gets the bytes that are there; fewer than before where it had to begin again. */
  received: (bytes: number) => void;
}

/** Bytes read at once of what came before. */
const READ_BYTES = 2 ** 20;

/**
 * Fetches a file to `partial`, going on with what is there.
 *
 * @throws {Error} when content with another hash comes twice; {@linkcode HubError} when it cannot be had.
 */
export async function downloadFile(
  settings: HubSettings,
  url: string,
  file: CheckedFile,
  partial: string,
  listener: DownloadListener,
): Promise<void> {
  for (let attempt = 1;; attempt++) {
    const digest = await receive(settings, url, file, partial, listener);
    if (digest === file.digest.hex) return;
    Deno.removeSync(partial);
    if (attempt === 2) {
      throw new Error(
        `Cannot fetch ${file.path}: ${
          hostOf(settings)
        } sent something else twice (${file.digest.algorithm} ${digest}, expected ${file.digest.hex}). It was not kept. Try again later${
          settings.endpoint === "https://huggingface.co" ? "" : ", or without HF_ENDPOINT"
        }.`,
      );
    }
    listener.say(`${file.path} came damaged; fetching it again`);
  }
}

/** Receives what is missing and returns the hash of the whole. Too much is as wrong as something else. */
async function receive(
  settings: HubSettings,
  url: string,
  { size, digest: { algorithm } }: CheckedFile,
  partial: string,
  { say, received }: DownloadListener,
): Promise<string> {
  const out = Deno.openSync(partial, { read: true, write: true, create: true });
  try {
    let hash = beginHash(algorithm, size), at = 0;
    const restart = () => {
      out.truncateSync(0);
      out.seekSync(0, Deno.SeekMode.Start);
      hash = beginHash(algorithm, size);
      at = 0;
    };
    if (out.statSync().size > size) restart();
    else at = readInto(hash, out);
    received(at);
    for (let failures = 0; at < size;) {
      // A compressed answer could not be gone on with.
      const headers: Record<string, string> = { "Accept-Encoding": "identity" };
      if (at > 0) headers.Range = `bytes=${at}-`;
      const response = await request(settings, url, { headers, say });
      const from = firstByte(response);
      if (from !== at) {
        if (at === 0) {
          throw new HubError(`sends bytes from ${from} on where all were asked for`, { status: 206 });
        }
        restart();
        received(0);
      }
      try {
        // Whoever ignores ranges sends all of it, and whoever has other ranges is asked again.
        if (from !== at) {
          await response.body?.cancel();
          continue;
        }
        for await (const piece of pieces(settings, response)) {
          if (at + piece.length > size) {
            hash.update(piece);
            return hash.digest("hex");
          }
          for (let done = 0; done < piece.length;) done += out.writeSync(piece.subarray(done));
          hash.update(piece);
          at += piece.length;
          failures = 0;
          received(at);
        }
        if (at < size) throw dropped();
      } catch (error) {
        await pause(settings, error, ++failures, say);
      }
    }
    out.syncSync();
    return hash.digest("hex");
  } finally {
    out.close();
  }
}

function beginHash(algorithm: Digest["algorithm"], size: number): Hash {
  if (algorithm === "sha256") return createHash("sha256");
  // Git hashes a file with its kind and its size in front.
  return createHash("sha1").update(`blob ${size}\0`);
}

/** Hashes what is in a file already and returns its length; the file stands at its end then. */
function readInto(hash: Hash, file: Deno.FsFile): number {
  const buffer = new Uint8Array(READ_BYTES);
  for (let length = 0;;) {
    const bytes = file.readSync(buffer);
    if (bytes === null) return length;
    hash.update(buffer.subarray(0, bytes));
    length += bytes;
  }
}

/** Place of an answer's first byte in the file; undefined where it does not say, or has none of them. */
function firstByte({ status, headers }: Response): number | undefined {
  if (status === 200) return 0;
  const match = /^bytes (\d+)-/.exec(headers.get("Content-Range") ?? "");
  return status === 206 && match ? Number(match[1]) : undefined;
}
