import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { datasetRows, type DatasetSpec, describeSpec } from "../../src/data/sources.ts";
import { withDirectory } from "../assets.ts";

/** Writes files of `count` rows, `{"text": "NAME I"}`. */
function write(directory: string, files: Record<string, number>): void {
  for (const [name, count] of Object.entries(files)) {
    const path = join(directory, name);
    Deno.mkdirSync(dirname(path), { recursive: true });
    const rows = Array.from({ length: count }, (_, i) => ({ text: `${name} ${i}`, n: i }));
    const text = name.includes(".csv")
      ? "text,n\n" + rows.map(({ text, n }) => `${text},${n}\n`).join("")
      : rows.map((row) => JSON.stringify(row)).join("\n");
    Deno.writeFileSync(path, name.endsWith(".gz") ? gzipSync(text) : new TextEncoder().encode(text));
  }
}

async function texts(spec: DatasetSpec, split?: string): Promise<unknown[]> {
  return (await Array.fromAsync(datasetRows(spec, split))).map(({ columns }) => columns.text);
}

/** How often each file is in a list of texts. */
function counts(list: unknown[]): Record<string, number> {
  const found: Record<string, number> = {};
  for (const text of list) {
    const name = String(text).split(" ")[0];
    found[name] = (found[name] ?? 0) + 1;
  }
  return found;
}

Deno.test("a directory's files are read in order, by the split that their names say", () =>
  withDirectory(async (directory) => {
    write(directory, {
      "train/b.jsonl.gz": 1,
      "train/a.csv": 2,
      "data/test-00000-of-00001.jsonl": 1,
      "data/train_sft-00001-of-00002.jsonl": 1,
      "data/train_sft-00000-of-00002.jsonl": 1,
      "x.dev.json": 1,
    });
    Deno.writeTextFileSync(join(directory, "README.md"), "train");
    Deno.writeTextFileSync(join(directory, "dataset_infos.json"), "{}");
    assert.deepEqual(await texts(directory), ["train/a.csv 0", "train/a.csv 1", "train/b.jsonl.gz 0"]);
    assert.deepEqual(await texts(directory, "test"), ["data/test-00000-of-00001.jsonl 0"]);
    assert.deepEqual(await texts(directory, "validation"), ["x.dev.json 0"]);
    assert.deepEqual(
      await texts(directory, "train_sft"),
      [0, 1].map((i) => `data/train_sft-0000${i}-of-00002.jsonl 0`),
    );
    await assert.rejects(
      texts(directory, "valid"),
      /it has no files of the split valid\. It has test, train_sft, train, validation\.$/,
    );
    write(directory, { "other.jsonl": 1 });
    await assert.rejects(texts(directory), /name a split and other\.jsonl names none\. Expected train/);
  }));

Deno.test("a directory without names of splits is all training data; patterns are sorted", () =>
  withDirectory(async (directory) => {
    write(directory, { "b.jsonl": 1, "a.jsonl": 1, "sub/c.csv": 1 });
    assert.deepEqual(await texts(directory), ["a.jsonl 0", "b.jsonl 0", "sub/c.csv 0"]);
    assert.deepEqual(await texts(join(directory, "*.jsonl")), ["a.jsonl 0", "b.jsonl 0"]);
    assert.deepEqual(await texts([{ path: directory, data_files: ["b.jsonl", "s*/*"] }]), [
      "b.jsonl 0",
      "sub/c.csv 0",
    ]);
    assert.deepEqual(await texts([{ path: directory, data_dir: "sub" }]), ["sub/c.csv 0"]);
    await assert.rejects(texts(join(directory, "*.parquet")), /no file has such a name/);
    await assert.rejects(texts(join(directory, "d.jsonl")), /d\.jsonl: the file does not exist/);
    await assert.rejects(
      texts(join(directory, "sub")).then(() => texts(dirname(directory) + "/none")),
      /none: /,
    );
    const [row] = await Array.fromAsync(datasetRows([{ path: join(directory, "a.jsonl"), columns: ["n"] }]));
    assert.deepEqual(row.columns, { n: 0 });
    await assert.rejects(
      texts([{ path: join(directory, "a.jsonl"), columns: ["m"] }]),
      /a\.jsonl line 1: "m" is missing\. Expected columns m\.$/,
    );
  }));

Deno.test("a mixture takes the first rows of each dataset by their shares, as large as none repeats", () =>
  withDirectory(async (directory) => {
    write(directory, { "a.jsonl": 100, "b.csv": 60, "c.jsonl": 5 });
    const [a, b, c] = ["a.jsonl", "b.csv", "c.jsonl"].map((name) => join(directory, name));
    // TRL: weights 0.7 and 0.3 of min(100 / 0.7, 60 / 0.3) = 142.86 rows.
    const mixed = await texts(`${a}:0.7,${b}:0.3`);
    assert.deepEqual(counts(mixed), { "a.jsonl": 100, "b.csv": 43 });
    assert.deepEqual(mixed.slice(100), Array.from({ length: 43 }, (_, i) => `b.csv ${i}`));
    assert.deepEqual(await texts(`${a}:0.7,${b}:0.3`), mixed);
    // Shares of 3 : 1 : 0, and 5 rows of which half a row more is rounded to even.
    assert.deepEqual(counts(await texts(`${b}:3, ${a}:1, ${c}:0`)), { "a.jsonl": 20, "b.csv": 60 });
    assert.deepEqual(counts(await texts([{ path: c, fraction: 2 }, { path: a, fraction: 1 }])), {
      "a.jsonl": 2,
      "c.jsonl": 5,
    });
    assert.deepEqual(counts(await texts(`${c},${b}`)), { "c.jsonl": 5, "b.csv": 60 });
    assert.equal(describeSpec(`${a}:0.7,${b}:0.3`), `${a}:0.7,${b}:0.3`);
    await assert.rejects(
      texts(`${a}:0.7,${b}`),
      /Some datasets of the mixture have a share and some have none/,
    );
    await assert.rejects(texts(`${a}:0,${b}:0`), /The shares of the mixture sum to 0/);
  }));
