/**
 * Tokenised examples that are read back by number: in memory up to a limit, beyond it in a file, so that memory grows by a few
 * bytes per example however large a dataset is.
 *
 * The file has no name once it is open, so nothing is left behind when a run is killed; a resumed run makes it again.
 *
 * @module
 */
import type { Rows } from "./batches.ts";
import type { PairExample, PromptExample, PromptRow, SftExample } from "./tokenize.ts";

/** Bytes of examples that are kept in memory. */
const MEMORY_LIMIT = 128e6;

/** Bytes that are written to the file at once. */
const BLOCK_BYTES = 4e6;

/** How an example is written as 32-bit words, and read from them. */
export interface ExampleCodec<T> {
  encode(example: T): Uint32Array;
  decode(words: Uint32Array): T;
}

/** Examples in the order in which they were added. */
export interface ExampleStore<T> extends Rows<T> {
  /** Adds an example at the end. */
  add(example: T): void;
  /** Words of an example. */
  words(row: number): number;
  /** Whether a part of the examples is in a file. */
  readonly spilled: boolean;
}

/** A list of numbers that grows without copying each of them into an object. */
class GrowingList {
  private values = new Float64Array(1024);
  length = 0;

  push(value: number): void {
    if (this.length === this.values.length) {
      const larger = new Float64Array(this.values.length * 2);
      larger.set(this.values);
      this.values = larger;
    }
    this.values[this.length++] = value;
  }

  get(index: number): number {
    return this.values[index];
  }
}

/** A file for scratch, which vanishes when it is closed or the process ends. */
function scratchFile(directory?: string): Deno.FsFile {
  const path = Deno.makeTempFileSync({ dir: directory, prefix: "keel-examples-", suffix: ".tmp" });
  const file = Deno.openSync(path, { read: true, write: true });
  Deno.removeSync(path);
  return file;
}

function readAt(file: Deno.FsFile, offset: number, bytes: Uint8Array): void {
  file.seekSync(offset, Deno.SeekMode.Start);
  for (let at = 0; at < bytes.length;) {
    const count = file.readSync(bytes.subarray(at));
    if (count === null) throw new Error("The file of tokenised examples has become shorter.");
    at += count;
  }
}

function writeAt(file: Deno.FsFile, offset: number, bytes: Uint8Array): void {
  file.seekSync(offset, Deno.SeekMode.Start);
  for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
}

/**
 * Opens an empty store.
 *
 * @param directory where the file is made once it is needed; the system's directory for such files if not given
 * @param memoryLimit bytes in memory, 128 MB if not given
 */
export function openStore<T>(
  codec: ExampleCodec<T>,
  { directory, memoryLimit = MEMORY_LIMIT }: { directory?: string; memoryLimit?: number } = {},
): ExampleStore<T> {
  const ends = new GrowingList(); // words up to the end of each example
  let blocks: Uint32Array[] = []; // in memory, each with the words from its place in `blockStarts` on
  let blockStarts: number[] = [];
  let filled = 0; // words of the last block
  let file: Deno.FsFile | undefined;
  let fileWords = 0;

  const total = () => ends.length ? ends.get(ends.length - 1) : 0;
  const spill = () => {
    file ??= scratchFile(directory);
    blocks.forEach((block, i) => {
      const used = i === blocks.length - 1 ? filled : block.length;
      writeAt(file!, fileWords * 4, new Uint8Array(block.buffer, 0, used * 4));
      fileWords += used;
    });
    blocks = [];
    blockStarts = [];
    filled = 0;
  };

  return {
    get length() {
      return ends.length;
    },
    get spilled() {
      return file !== undefined;
    },
    words: (row) => ends.get(row) - (row ? ends.get(row - 1) : 0),
    add(example) {
      const words = codec.encode(example);
      const last = blocks.at(-1);
      if (!last || filled + words.length > last.length) {
        // A block ends where it is full, and examples are never cut in two.
        if (last) blocks[blocks.length - 1] = last.slice(0, filled);
        const held = (total() - fileWords) * 4;
        if (file || held + words.length * 4 > memoryLimit) spill();
        blocks.push(new Uint32Array(Math.max(words.length, BLOCK_BYTES / 4)));
        blockStarts.push(total());
        filled = 0;
      }
      blocks[blocks.length - 1].set(words, filled);
      filled += words.length;
      ends.push(total() + words.length);
    },
    at(row) {
      if (!(row >= 0 && row < ends.length)) return undefined;
      const begin = row ? ends.get(row - 1) : 0, end = ends.get(row);
      if (end <= fileWords) {
        const words = new Uint32Array(end - begin);
        readAt(file!, begin * 4, new Uint8Array(words.buffer));
        return codec.decode(words);
      }
      let low = 0, high = blockStarts.length - 1;
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (blockStarts[middle] <= begin) low = middle;
        else high = middle - 1;
      }
      const offset = begin - blockStarts[low];
      return codec.decode(blocks[low].subarray(offset, offset + end - begin));
    },
  };
}

/** The highest bit of an id's word, which says whether the token is scored. */
const SCORED = 2 ** 31;

/** Sequences of SFT: one word per token. */
export const SFT_CODEC: ExampleCodec<SftExample> = {
  encode: ({ ids, scored }) => Uint32Array.from(ids, (id, i) => scored[i] ? id + SCORED : id),
  decode: (words) => ({
    ids: Array.from(words, (word) => word % SCORED),
    scored: Array.from(words, (word) => word >= SCORED),
  }),
};

/** Pairs: the margin (NaN for none) in two words, the length of the chosen side, both sides. */
export const PAIR_CODEC: ExampleCodec<PairExample> = {
  encode({ chosen, rejected, margin = NaN }) {
    const head = new Uint32Array(new Float64Array([margin]).buffer);
    return Uint32Array.from([...head, chosen.length, ...chosen, ...rejected]);
  },
  decode(words) {
    const [margin] = new Float64Array(words.slice(0, 2).buffer);
    const pair: PairExample = {
      chosen: Array.from(words.subarray(3, 3 + words[2])),
      rejected: Array.from(words.subarray(3 + words[2])),
    };
    return Number.isNaN(margin) ? pair : { ...pair, margin };
  },
};

/** Token ids with a text: the number of tokens, the bytes of the text, the tokens, the text. */
function encodeWithText(ids: number[], text: string): Uint32Array {
  const bytes = new TextEncoder().encode(text);
  const words = new Uint32Array(2 + ids.length + Math.ceil(bytes.length / 4));
  words.set([ids.length, bytes.length, ...ids]);
  new Uint8Array(words.buffer, (2 + ids.length) * 4).set(bytes);
  return words;
}

function decodeWithText(words: Uint32Array): { ids: number[]; text: string } {
  const bytes = new Uint8Array(words.buffer, words.byteOffset + (2 + words[0]) * 4, words[1]);
  return { ids: Array.from(words.subarray(2, 2 + words[0])), text: new TextDecoder().decode(bytes) };
}

/** Prompts: the number of tokens, the bytes of the text, the tokens, the text. */
export const PROMPT_CODEC: ExampleCodec<PromptExample> = {
  encode: ({ ids, text }) => encodeWithText(ids, text),
  decode: decodeWithText,
};

/** Prompts with their rows, as JSON beside the tokens. Numbers that JSON does not know (NaN) come back as null. */
export const PROMPT_ROW_CODEC: ExampleCodec<PromptRow> = {
  encode({ ids, text, prompt, columns }) {
    // A prompt in text is its own text.
    const messages = typeof prompt === "string" ? undefined : prompt;
    return encodeWithText(ids, JSON.stringify({ text, messages, columns }));
  },
  decode(words) {
    const { ids, text: json } = decodeWithText(words);
    const { text, messages, columns } = JSON.parse(json);
    return { ids, text, prompt: messages ?? text, columns };
  },
};
