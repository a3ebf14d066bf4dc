/**
 * A small model's file with its tokenizer, changed at random: it is read as a model, or refused with a message that says what is wrong.
 */
import assert from "node:assert/strict";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { readGguf } from "../../src/model/gguf.ts";
import { openGguf } from "../../src/model/open_gguf.ts";
import { writeGguf } from "../../src/model/write_gguf.ts";
import { type RandomStream, randomStream } from "../../src/random/stream.ts";
import { withDirectory } from "../assets.ts";
import { tinyLlama, tinyTokenizer } from "./tiny_gguf.ts";

const MUTATIONS = 3000;

/** Numbers that a length, a count, an offset or a type should not be. */
const EXTREMES = [0n, 1n, 2n, 3n, 255n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n];

/** A changed copy; most changes are within the header, where they matter. */
function mutate(bytes: Uint8Array, header: number, rng: RandomStream): Uint8Array {
  const place = () => rng.integer(rng.integer(8) === 0 ? bytes.length : header);
  const copy = bytes.slice();
  const view = new DataView(copy.buffer);
  switch (rng.integer(6)) {
    case 0: {
      for (let flips = 1 + rng.integer(3); flips > 0; flips--) copy[place()] ^= 1 << rng.integer(8);
      return copy;
    }
    case 1:
      return copy.slice(0, place());
    case 2: {
      view.setBigUint64(Math.min(place(), copy.length - 8), rng.choice(EXTREMES), true);
      return copy;
    }
    case 3: {
      view.setUint32(Math.min(place(), copy.length - 4), Number(rng.choice(EXTREMES) & 0xffffffffn), true);
      return copy;
    }
    case 4: {
      // A part again, over what was there or between.
      const from = place(), length = 1 + rng.integer(64), to = place();
      const part = bytes.slice(from, from + length);
      if (rng.integer(2) === 0) {
        copy.set(part.subarray(0, copy.length - to), to);
        return copy;
      }
      const longer = new Uint8Array(copy.length + part.length);
      longer.set(copy.subarray(0, to));
      longer.set(part, to);
      longer.set(copy.subarray(to), to + part.length);
      return longer;
    }
    default: {
      const from = place(), length = 1 + rng.integer(32);
      return new Uint8Array([...copy.subarray(0, from), ...copy.subarray(from + length)]);
    }
  }
}

/** Reads all that there is in a file. */
function readEverything(path: string): void {
  const { config, weights } = openGguf(path);
  assert.ok(Array.isArray(config.architectures));
  for (const [name, { elements, shape }] of weights.tensors) {
    assert.equal(weights.read(name).length, elements);
    assert.equal(shape.reduce((a, b) => a * b, 1), elements);
  }
}

Deno.test(`${MUTATIONS} changed files are read, or refused with a clear message, at once`, () =>
  withDirectory((directory) => {
    const path = `${directory}/tiny.gguf`;
    const model = tinyLlama({ vocab_size: 270 });
    writeGguf(path, { ...model, tokenizerFrom: tinyTokenizer(directory), type: "Q8_0" });
    const valid = Deno.readFileSync(path);
    const header = Math.min(...[...readGguf(path).tensors.values()].map(({ offset }) => offset));
    assert.ok(header < 10_000 && valid.length < 30_000, `${header} of ${valid.length}`);
    const rng = randomStream(7, "gguf fuzz");
    let read = 0, slowest = 0;
    for (let i = 0; i < MUTATIONS; i++) {
      const changed = mutate(valid, header, rng);
      Deno.writeFileSync(path, changed);
      for (const use of [readEverything, loadTokenizer]) {
        const begin = performance.now();
        try {
          use(path);
          read++;
        } catch (error) {
          assert.ok(error instanceof Error && error.constructor === Error, `${i}: ${(error as Error).stack}`);
          assert.match(error.message, /^Cannot read /, `${i}: ${error.stack}`);
        }
        slowest = Math.max(slowest, performance.now() - begin);
      }
    }
    assert.ok(slowest < 1000, `one took ${slowest} ms`);
    // Neither all refused nor all accepted: the changes mean something.
    assert.ok(read > MUTATIONS / 10 && read < 2 * MUTATIONS * 0.9, `${read} were read`);
  }));
