import assert from "node:assert/strict";
import { randomStream } from "../../src/random/stream.ts";
import { openStore, PAIR_CODEC, PROMPT_CODEC, PROMPT_ROW_CODEC, SFT_CODEC } from "../../src/data/store.ts";
import { withDirectory } from "../assets.ts";

const random = randomStream(5, "store");
const ids = (most: number) => Array.from({ length: 1 + random.integer(most) }, () => random.integer(2 ** 21));

/** Fills a store and compares what comes back, in a mixed order, with what went in. */
function compare<T>(store: ReturnType<typeof openStore<T>>, examples: T[]): void {
  for (const example of examples) store.add(example);
  assert.equal(store.length, examples.length);
  for (const row of random.shuffle(examples.length)) assert.deepEqual(store.at(row), examples[row]);
  assert.equal(store.at(examples.length), undefined);
  assert.equal(store.at(-1), undefined);
}

Deno.test("examples come back as they went in, from memory and from a file that leaves no trace", () =>
  withDirectory((directory) => {
    for (const memoryLimit of [1e9, 0]) {
      const settings = { directory, memoryLimit };
      const sft = openStore(SFT_CODEC, settings);
      // A block is a million words, so that these span a few of them.
      compare(
        sft,
        Array.from({ length: 300 }, () => {
          const one = ids(9000);
          return { ids: one, scored: one.map((_, i) => i > 0 && random.integer(2) === 0) };
        }),
      );
      assert.equal(sft.spilled, memoryLimit === 0);
      assert.equal(sft.words(3), sft.at(3)!.ids.length);
      compare(
        openStore(PAIR_CODEC, settings),
        Array.from({ length: 50 }, (_, i) => {
          const pair = { chosen: ids(40), rejected: ids(40) };
          return i % 2 ? { ...pair, margin: i / 3 } : pair;
        }),
      );
      compare(
        openStore(PROMPT_CODEC, settings),
        Array.from({ length: 50 }, (_, i) => ({ ids: ids(40), text: "日本é🙂 ".repeat(i % 7) })),
      );
      compare(
        openStore(PROMPT_ROW_CODEC, settings),
        Array.from({ length: 50 }, (_, i) => {
          const text = "日本é🙂 ".repeat(i % 7), messages = [{ role: "user", content: text }];
          const columns = { answer: "7é".repeat(i % 3), n: i / 3, tags: ["a", null, { b: i % 2 === 0 }] };
          return { ids: ids(40), text, prompt: i % 2 ? messages : text, columns };
        }),
      );
    }
    assert.deepEqual(Array.from(Deno.readDirSync(directory)), []);
  }));

Deno.test("an example longer than a block is held, too", () =>
  withDirectory((directory) => {
    const long = Array.from({ length: 1_500_000 }, (_, i) => i % 1000);
    const example = { ids: long, scored: long.map((id) => id === 7) };
    for (const memoryLimit of [1e9, 0]) {
      const store = openStore(SFT_CODEC, { directory, memoryLimit });
      for (let i = 0; i < 3; i++) store.add({ ids: [i], scored: [false] });
      store.add(example);
      store.add({ ids: [9], scored: [true] });
      assert.deepEqual(store.at(3), example);
      assert.deepEqual(store.at(2), { ids: [2], scored: [false] });
      assert.deepEqual(store.at(4), { ids: [9], scored: [true] });
    }
  }));
