import assert from "node:assert/strict";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { makeRows, readDataset, readRows } from "../../src/data/rows.ts";
import { asset, assetTest, withDirectory } from "../assets.ts";

const objects = [{ text: "ä 1" }, { text: "two\nlines" }, { text: "" }];
const lines = objects.map((row) => JSON.stringify(row)).join("\n");

Deno.test("lines and arrays, plain and gzipped, give the same rows", () =>
  withDirectory(async (directory) => {
    const write = (name: string, text: string) => {
      const path = join(directory, name);
      Deno.writeFileSync(path, name.endsWith(".gz") ? gzipSync(text) : new TextEncoder().encode(text));
      return path;
    };
    for (const name of ["a.jsonl", "a.jsonl.gz", "b.json", "b.json.gz"]) {
      const rows = await readDataset(write(name, lines + "\n"));
      assert.deepEqual(rows.map((row) => row.columns), objects);
      assert.deepEqual(rows.map((row) => row.where), [1, 2, 3].map((line) => `${name} line ${line}`));
    }
    for (const name of ["c.json", "c.json.gz"]) {
      const rows = await readDataset(write(name, "\n" + JSON.stringify(objects, null, 2)));
      assert.deepEqual(rows.map((row) => row.columns), objects);
      assert.equal(rows[2].where, `${name} row 3`);
    }
    const odd = await readDataset(write("odd.jsonl", "\ufeff" + lines.replace("\n", "\r\n\r\n  \r\n")));
    assert.deepEqual(odd.map((row) => row.columns), objects);
    assert.equal(odd[1].where, "odd.jsonl line 4");
  }));

Deno.test("a long file is streamed across chunk boundaries", () =>
  withDirectory(async (directory) => {
    const path = join(directory, "long.jsonl.gz");
    const texts = Array.from({ length: 3000 }, (_, i) => `${"日本é".repeat(i % 97)} ${i}`);
    Deno.writeFileSync(path, gzipSync(texts.map((text) => JSON.stringify({ text })).join("\n")));
    assert.deepEqual((await readDataset(path)).map((row) => row.columns.text), texts);
    // Reading may stop early; the file is closed then.
    for await (const row of readRows(path)) {
      assert.equal(row.where, "long.jsonl.gz line 1");
      break;
    }
  }));

Deno.test("what cannot be read is refused with file and line", () =>
  withDirectory(async (directory) => {
    const refuse = async (name: string, bytes: Uint8Array | string, message: RegExp) => {
      const path = join(directory, name);
      Deno.writeFileSync(path, typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes);
      await assert.rejects(readDataset(path), message);
    };
    await refuse(
      "pairs.jsonl",
      lines + '\n{"chosen": "x"',
      /^Error: Cannot read pairs\.jsonl line 4: it is not valid JSON/,
    );
    await refuse(
      "pairs.jsonl",
      lines + "\n[1]",
      /Cannot read pairs\.jsonl line 4: expected a JSON object with one field per column/,
    );
    await refuse("pairs.json", "[1]", /Cannot read pairs\.json row 1: expected a JSON object/);
    await refuse("pairs.json", "[{]", /Cannot read pairs\.json: it is not valid JSON/);
    await refuse("empty.jsonl", "\n \n", /empty\.jsonl: it has no rows/);
    await refuse("empty.json", "[]", /empty\.json: it has no rows/);
    await refuse(
      "rows.tsv",
      "a,b",
      /rows\.tsv: expected a file that ends in \.jsonl, \.json, \.csv, \.parquet/,
    );
    await refuse(
      "bytes.jsonl",
      Uint8Array.of(0x22, 0xff, 0x22),
      /Cannot read bytes\.jsonl: failed to decode it as UTF-8/,
    );
    const zipped = gzipSync((lines + "\n").repeat(50));
    await refuse(
      "cut.jsonl.gz",
      zipped.subarray(0, zipped.length - 9),
      /Cannot read cut\.jsonl\.gz: failed to unzip it/,
    );
    await refuse("fake.jsonl.gz", lines, /Cannot read fake\.jsonl\.gz: failed to unzip it/);
    await assert.rejects(readDataset(join(directory, "none.jsonl")), /none\.jsonl: the file does not exist/);
  }));

Deno.test("rows from memory have places, too", () => {
  assert.deepEqual(makeRows("demonstrations", [{ a: 1 }, { a: 2 }])[1], {
    columns: { a: 2 },
    where: "demonstrations row 2",
  });
});

assetTest("real datasets are read", async () => {
  assert.equal((await readDataset(asset("data/gsm8k-test.jsonl.gz"))).length, 1319);
  const pairs = await readDataset(asset("data/hh-rlhf-harmless-base-test.jsonl.gz"));
  assert.equal(pairs.length, 2312);
  assert.deepEqual(Object.keys(pairs[2311].columns), ["chosen", "rejected"]);
});
