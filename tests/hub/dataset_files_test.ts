/** Splits and configurations of a dataset's repository as `datasets` finds them. */
import assert from "node:assert/strict";
import { datasetFiles } from "../../src/hub/dataset_files.ts";
import { golden } from "../assets.ts";

interface Layout {
  files: string[];
  readme?: string;
  config?: string;
  data_dir?: string;
  data_files?: string[];
  splits: Record<string, string[]>;
}

const filesOf = (paths: string[]) => paths.map((path) => ({ path, size: 1 }));

Deno.test("every layout has the splits that datasets finds in it", () => {
  const { layouts } = JSON.parse(Deno.readTextFileSync(golden("hub/dataset_splits.json")));
  assert.ok(layouts.length >= 28);
  for (const { files, readme, config, data_dir, data_files, splits } of layouts as Layout[]) {
    const selection = { config, dataDir: data_dir, dataFiles: data_files };
    const got = datasetFiles("org/d", filesOf(files), readme, selection);
    const paths = Object.entries(got).map(([split, of]) => [split, of.map(({ path }) => path)]);
    assert.deepEqual(Object.fromEntries(paths), splits, files.join(" "));
  }
});

Deno.test("a configuration that must be named, does not exist, or has no data is refused by name", () => {
  const readme = "---\nconfigs:\n- config_name: a\n  data_dir: a\n- config_name: b\n  data_dir: b\n---\n";
  const files = filesOf(["a/train.jsonl", "weights.bin"]);
  const bad: [Parameters<typeof datasetFiles>, RegExp][] = [
    [["org/d", files, readme], /it has 2 configurations\. Name one with --dataset_config: a, b\./],
    [["org/d", files, readme, { config: "c" }], /it has no configuration "c"\. Expected a, b\./],
    [["org/d", files, undefined, { config: "c" }], /it has no configuration "c"; its README\.md names none/],
    [
      ["org/d", files, readme, { config: "b" }],
      /no \.jsonl, .* files for configuration b\. It has a\/train\.jsonl, weights/,
    ],
    [["org/d", files, undefined, { dataDir: "z" }], /for folder z/],
    [["org/d", files, undefined, { dataFiles: ["*.csv"] }], /for files \*\.csv/],
    [["org/d", filesOf([]), undefined], /no .* files\. It has no files\./],
  ];
  for (const [args, message] of bad) assert.throws(() => datasetFiles(...args), message);
  // Front matter that cannot be read says nothing.
  for (const broken of ["---\n: [\n---\n", "---\n- 7\n---\n", "---\nconfigs: 5\n---\n", "no front matter"]) {
    assert.deepEqual(Object.keys(datasetFiles("org/d", files, broken)), ["train"]);
  }
});
