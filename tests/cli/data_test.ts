import assert from "node:assert/strict";
import { join } from "node:path";
import { surveyLines } from "../../src/cli/data_view.ts";
import { surveyDataset } from "../../src/data/survey.ts";
import { golden, withDirectory } from "../assets.ts";
import { keel, writeLines } from "./keel.ts";

const BASE = new URL("../../src/parrot/base", import.meta.url).pathname;

Deno.test("keel data shows a dataset as text, with markers around what is scored, or as JSON", () =>
  withDirectory(async (directory) => {
    const path = writeLines(directory, "rows.jsonl", [
      { prompt: "<user> 3 5 <bot>", completion: " 8" },
      { prompt: "<user> 3 <bot>", completion: " 9" },
    ]);
    const { code, out } = await keel("data", path, "--model", BASE, "--rows", 1);
    assert.equal(code, 0);
    assert.match(out, /rows\.jsonl: prompt-completion, standard\n {2}columns: prompt, completion\n/);
    assert.match(out, /train: rows\.jsonl, 2 rows\ntokens per row: min 6, p50 6, /);
    assert.match(out, /kept: 2 of 2 rows\n/);
    assert.match(out, /rows\.jsonl line 1\n {2}sequence: .*3 5 <bot>\s*⟦ ?8 ?<eos>⟧\n/);
    assert.ok(!out.includes("line 2") && !out.includes("\x1b"));
    const json = JSON.parse((await keel("data", path, "--json", "--dataset_name", path)).out);
    assert.deepEqual([json.type, json.lengths.unit], ["prompt-completion", "characters"]);
  }));

Deno.test("on a terminal scored tokens are bold and green, the others dim, line by line", async () => {
  const survey = await surveyDataset(golden("datasets/files/unpaired.csv"), { rows: 0 });
  const parts = [{
    name: "sequence",
    segments: [{ text: "a\nb", scored: false }, { text: "c\n", scored: true }],
  }];
  const lines = surveyLines("x", { ...survey, examples: [{ where: "x row 1", parts }] }, true);
  assert.deepEqual(lines.slice(-3), [
    "  sequence: \x1b[2ma\x1b[0m",
    "  \x1b[2mb\x1b[0m\x1b[1;32mc\x1b[0m",
    "  ",
  ]);
});

Deno.test("keel data says what is wrong with a dataset or a flag", () =>
  withDirectory(async (directory) => {
    const fails = async (argv: unknown[], message: RegExp, expected: number) => {
      const { code, out, err } = await keel("data", ...argv);
      assert.match(err, message);
      assert.deepEqual([code, out], [expected, ""]);
    };
    await fails(
      [join(directory, "none.jsonl")],
      /^Cannot read .*none\.jsonl: the file does not exist\.$/m,
      1,
    );
    await fails([], /--dataset is missing\. Expected a path, or a list of entries/, 2);
    await fails(
      [directory],
      /Cannot read .*: it has no file that ends in \.jsonl, \.json, \.csv, \.parquet/,
      1,
    );
    const path = writeLines(directory, "rows.jsonl", [{ question: "a" }]);
    await fails([path], /Cannot use rows\.jsonl line 1: its columns are question\. Expected one of/, 1);
  }));

Deno.test("a configuration may list the datasets of a mixture, as TRL's does", () =>
  withDirectory(async (directory) => {
    const [a, b] = ["a.jsonl", "b.jsonl"].map((name) =>
      writeLines(directory, name, Array.from({ length: 10 }, (_, i) => ({ text: `${name} ${i}`, other: 1 })))
    );
    const config = join(directory, "mixture.yaml");
    const entry = (path: string, more: string) => `  - path: ${path}\n    name: null\n    ${more}\n`;
    Deno.writeTextFileSync(config, "datasets:\n" + entry(a, "fraction: 1") + entry(b, "fraction: 0.5"));
    const json = JSON.parse((await keel("data", "--config", config, "--json")).out);
    assert.deepEqual(
      json.files.map(({ rows, taken }: { rows: number; taken?: number }) => [rows, taken]),
      [[10, undefined], [10, 5]],
    );
    Deno.writeTextFileSync(config, "datasets:\n" + entry(a, "weight: 1"));
    const { code, err } = await keel("data", "--config", config);
    assert.equal(code, 2);
    assert.match(
      err,
      /datasets: got \[.*expected a path, or a list of entries with path, name, data_dir, data_files, split, columns, fraction\./,
    );
  }));
