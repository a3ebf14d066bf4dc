/**
 * Reading the header of a GGUF file from front to back: only as much of the file is in memory as has been needed.
 *
 * @module
 */

/** The largest headers in use, with their vocabularies, have about 20 MB. */
const MAX_HEADER_BYTES = 256e6;
/** What is read at once at least. */
const CHUNK = 2 ** 20;

/** A place in a file's header. Every error names the file; nothing is allocated that the file has no bytes for. */
export class GgufCursor {
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #view = new DataView(this.#bytes.buffer);
  #at = 0;
  // A byte-order mark is a character like any other in a vocabulary.
  #decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

  /** A file that is open at its beginning; `path` is for messages, `size` in bytes. */
  constructor(private file: Deno.FsFile, readonly path: string, readonly size: number) {}

  /** Bytes read so far. */
  get position(): number {
    return this.#at;
  }

  /** Throws the error of this file. */
  fail(what: string): never {
    throw new Error(`Cannot read ${this.path}: ${what}.`);
  }

  /** One byte. */
  u8(): number {
    // Reading more replaces the bytes, so that they must not be looked up before.
    const at = this.#take(1);
    return this.#bytes[at];
  }

  /** Two bytes. */
  u16(): number {
    const at = this.#take(2);
    return this.#view.getUint16(at, true);
  }

  /** Four bytes. */
  u32(): number {
    const at = this.#take(4);
    return this.#view.getUint32(at, true);
  }

  /** Eight bytes. */
  u64(): bigint {
    const at = this.#take(8);
    return this.#view.getBigUint64(at, true);
  }

  /** A float of four bytes. */
  f32(): number {
    const at = this.#take(4);
    return this.#view.getFloat32(at, true);
  }

  /** A float of eight bytes. */
  f64(): number {
    const at = this.#take(8);
    return this.#view.getFloat64(at, true);
  }

  /** A copy of the next bytes. */
  bytes(length: number): Uint8Array<ArrayBuffer> {
    const at = this.#take(length);
    return this.#bytes.slice(at, at + length);
  }

  /** A number of things that have at least `leastBytes` each, so that there cannot be more than the rest of the file holds. */
  count(leastBytes: number, what: string): number {
    const count = this.u64();
    if (count > BigInt(Math.floor((this.size - this.#at) / leastBytes))) {
      this.fail(
        `it says ${count} ${what}, but only ${this.size - this.#at} bytes follow; it may be truncated`,
      );
    }
    return Number(count);
  }

  /** A length and that many bytes of UTF-8. */
  text(what: string, maxBytes = Infinity): string {
    const length = this.count(1, `bytes in ${what}`);
    if (length > maxBytes) this.fail(`${what} has ${length} bytes. Expected at most ${maxBytes}`);
    const at = this.#take(length);
    try {
      return this.#decoder.decode(this.#bytes.subarray(at, at + length));
    } catch {
      return this.fail(`${what} is not UTF-8 text`);
    }
  }

  /** As many texts. */
  texts(count: number, what: string): string[] {
    const texts: string[] = [];
    for (let i = 0; i < count; i++) texts.push(this.text(what));
    return texts;
  }

  /** Steps over some bytes, which are in memory then, and returns where they begin there. */
  #take(length: number): number {
    const begin = this.#at, end = begin + length;
    if (end > this.size) {
      this.fail(`its header needs ${end} bytes, but the file has only ${this.size}; it may be truncated`);
    }
    if (end > MAX_HEADER_BYTES) {
      this.fail(`its header has more than ${MAX_HEADER_BYTES} bytes; is it a GGUF file?`);
    }
    if (end > this.#bytes.length) this.#load(end);
    this.#at = end;
    return begin;
  }

  #load(end: number): void {
    const begin = this.#bytes.length;
    const wanted = Math.min(this.size, Math.max(end, 2 * begin, CHUNK));
    const bytes = new Uint8Array(wanted);
    bytes.set(this.#bytes);
    for (let at = begin; at < wanted;) {
      const count = this.file.readSync(bytes.subarray(at));
      if (count === null) this.fail(`it ended early at byte ${at}`);
      at += count;
    }
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer);
  }
}
