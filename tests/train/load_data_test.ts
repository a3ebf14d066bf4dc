import assert from "node:assert/strict";
import { join } from "node:path";
import type { Rows } from "../../src/data/batches.ts";
import type { SftExample } from "../../src/data/tokenize.ts";
import { loadTokenizer, type Tokenizer } from "../../src/data/tokenizer.ts";
import { writeParrotTokenizer } from "../../src/parrot/tokenizer.ts";
import { decodeWords } from "../../src/parrot/vocabulary.ts";
import { loadPairs, loadSft } from "../../src/train/load_data.ts";
import { rewardSchema } from "../../src/train/options/reward.ts";
import { sftSchema } from "../../src/train/options/sft.ts";
import { withDirectory } from "../assets.ts";

interface Given {
  tokenizer: Tokenizer;
  directory: string;
  /** Loads SFT data with some options; also what was said. */
  load: (options: Record<string, unknown>) => Promise<{
    examples: Rows<SftExample | SftExample[]>;
    evalExamples?: Rows<SftExample | SftExample[]>;
    said: string[];
  }>;
}

/** Row i of `name` has i % 5 + 1 sevens. */
function given(use: (given: Given) => Promise<void>): Promise<void> {
  return withDirectory(async (directory) => {
    writeParrotTokenizer(directory);
    const tokenizer = loadTokenizer(directory);
    for (const [name, count] of [["a", 40], ["b", 20]] as const) {
      const rows = Array.from(
        { length: count },
        (_, i) => ({ text: `${name === "a" ? 1 : 2}${" 7".repeat(i % 5 + 1)}` }),
      );
      Deno.writeTextFileSync(
        join(directory, `${name}.jsonl`),
        rows.map((row) => JSON.stringify(row)).join("\n"),
      );
    }
    await use({
      tokenizer,
      directory,
      load: async (options) => {
        const said: string[] = [];
        const full = sftSchema.parse({
          modelNameOrPath: "m",
          outputDir: "o",
          datasetName: join(directory, "a.jsonl"),
          ...options,
        });
        const loaded = await loadSft(full, tokenizer, 64, { directory, say: (line) => said.push(line) });
        return { ...loaded, said };
      },
    });
  });
}

const all = (rows: Rows<SftExample | SftExample[]>) =>
  Array.from({ length: rows.length }, (_, row) => [rows.at(row)!].flat());
const words = (rows: Rows<SftExample | SftExample[]>) =>
  all(rows).map((documents) => documents.map(({ ids }) => decodeWords(ids).join(" ")).join(" | "));

Deno.test("a share that is held out is fixed by the seed, and leaves the rest in order", () =>
  given(async ({ load }) => {
    const whole = words((await load({})).examples);
    const { examples, evalExamples, said } = await load({ testSplitSize: 0.25, seed: 1 });
    assert.deepEqual([examples.length, evalExamples!.length], [30, 10]);
    assert.deepEqual([...words(examples), ...words(evalExamples!)].sort(), whole.toSorted());
    const again = await load({ testSplitSize: 0.25, seed: 1 });
    assert.deepEqual(words(again.evalExamples!), words(evalExamples!));
    const other = await load({ testSplitSize: 0.25, seed: 2 });
    assert.notDeepEqual(words(other.examples), words(examples));
    assert.ok(said.some((line) => line.endsWith("10 rows held out")));
  }));

Deno.test("held-out rows may be another dataset or another split, but not both", () =>
  given(async ({ load, directory }) => {
    const other = await load({ evalDataset: join(directory, "b.jsonl") });
    assert.deepEqual([other.examples.length, other.evalExamples!.length], [40, 20]);
    const data = join(directory, "data");
    Deno.mkdirSync(data);
    Deno.renameSync(join(directory, "a.jsonl"), join(data, "train.jsonl"));
    Deno.copyFileSync(join(directory, "b.jsonl"), join(data, "test.jsonl"));
    const split = await load({ datasetName: data, datasetTestSplit: "test" });
    assert.deepEqual([split.examples.length, split.evalExamples!.length], [40, 20]);
    assert.equal((await load({ datasetName: data })).evalExamples, undefined);
    await assert.rejects(
      load({ datasetName: data, datasetTestSplit: "test", testSplitSize: 0.5 }),
      /Held-out rows come from one of eval_dataset, dataset_test_split and test_split_size/,
    );
    await assert.rejects(load({ datasetName: data, datasetTestSplit: "dev" }), /no files of the split dev/);
  }));

Deno.test("texts may be in another column", () =>
  given(async ({ load, directory }) => {
    const datasetName = join(directory, "c.csv");
    Deno.writeTextFileSync(datasetName, "story,n\n1 7,2\n2 7,3\n");
    const { examples } = await load({ datasetName, datasetTextField: "story" });
    assert.deepEqual(words(examples), ["<bos> 1 7 <eos>", "<bos> 2 7 <eos>"]);
    await assert.rejects(load({ datasetName }), /c\.csv row 1: its columns are story, n\. Expected one of/);
  }));

Deno.test("a mixture is read in the order of its entries, as text or as a list", () =>
  given(async ({ load, directory }) => {
    const [a, b] = ["a.jsonl", "b.jsonl"].map((name) => join(directory, name));
    const first = words((await load({ datasetName: `${a}:0.5,${b}:0.5` })).examples);
    assert.deepEqual(first.map((text) => text.split(" ")[1]), [
      ...Array(20).fill("1"),
      ...Array(20).fill("2"),
    ]);
    const list = [{ path: a, fraction: 1 }, { path: b, fraction: 1 }];
    assert.deepEqual(words((await load({ datasetName: list })).examples), first);
  }));

for (const packingStrategy of ["bfd", "bfd_split", "wrapped"]) {
  Deno.test(`rows packed with ${packingStrategy} are full, and no piece's first token is scored`, () =>
    given(async ({ load }) => {
      const plain = all((await load({})).examples).flat().flatMap(({ ids }) => ids);
      const { examples, evalExamples, said } = await load({
        packing: true,
        packingStrategy,
        maxLength: 5,
        testSplitSize: 0.1,
      });
      const documents = [...all(examples), ...all(evalExamples!)];
      for (const row of documents) {
        assert.ok(row.reduce((n, { ids }) => n + ids.length, 0) <= 5);
        for (const { ids, scored } of row) {
          assert.equal(ids.length, scored.length);
          assert.deepEqual(scored, ids.map((_, t) => t > 0));
        }
      }
      const packed = documents.flat().flatMap(({ ids }) => ids);
      if (packingStrategy === "bfd") {
        assert.ok(packed.length < plain.length);
        assert.match(said[0], /a\.jsonl: 40 of 40 rows; 24 cut to the limit/);
      } else assert.deepEqual(packed.toSorted(), plain.toSorted());
    }));
}

Deno.test("held-out rows are packed like the others unless eval_packing says otherwise", () =>
  given(async ({ load, directory }) => {
    const evalDataset = join(directory, "b.jsonl");
    const packed = await load({ packing: true, maxLength: 16, evalDataset });
    assert.ok(packed.evalExamples!.length < 20);
    const plain = await load({ packing: true, maxLength: 16, evalDataset, evalPacking: false });
    assert.equal(plain.evalExamples!.length, 20);
    await assert.rejects(
      load({ packing: true, evalPacking: false, testSplitSize: 0.5 }),
      /Leave eval_packing out, or use eval_dataset/,
    );
  }));

Deno.test("pairs are held out and read back with their margins", () =>
  given(async ({ tokenizer, directory }) => {
    const path = join(directory, "pairs.csv");
    const lines = Array.from({ length: 10 }, (_, i) => `1,${" 7".repeat(i + 1)}, 8,${i / 4}`);
    Deno.writeTextFileSync(path, "prompt,chosen,rejected,margin\n" + lines.join("\n"));
    const options = rewardSchema.parse({
      modelNameOrPath: "m",
      outputDir: "o",
      datasetName: path,
      testSplitSize: 0.3,
    });
    const { examples, evalExamples } = await loadPairs(options, tokenizer, 64, { directory, say: () => {} });
    assert.deepEqual([examples.length, evalExamples!.length], [7, 3]);
    for (const rows of [examples, evalExamples!]) {
      for (let row = 0; row < rows.length; row++) {
        const { chosen, margin } = rows.at(row)!;
        assert.equal(margin, (decodeWords(chosen).filter((word) => word === "7").length - 1) / 4);
      }
    }
  }));
