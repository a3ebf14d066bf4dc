import assert from "node:assert/strict";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { measureLengths, surveyDataset } from "../../src/data/survey.ts";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { writeParrotTokenizer } from "../../src/parrot/tokenizer.ts";
import { golden, withDirectory } from "../assets.ts";

Deno.test("lengths are summed up by nearest ranks and in bins that hold every row", () => {
  const lengths = Array.from({ length: 100 }, (_, i) => 100 - i);
  const { histogram, ...rest } = measureLengths(lengths, "tokens");
  assert.deepEqual(rest, { unit: "tokens", min: 1, mean: 50.5, p50: 50, p90: 90, p99: 99, max: 100 });
  assert.equal(histogram.length, 12);
  assert.deepEqual(histogram[0], { from: 1, to: 10, rows: 9 });
  assert.equal(histogram.reduce((n, { rows }) => n + rows, 0), 100);
  assert.deepEqual(measureLengths([4, 4], "tokens").histogram, [{ from: 4, to: 5, rows: 2 }]);
});

Deno.test("a survey counts a directory's files, and shows rows with what is scored or why they are dropped", () =>
  withDirectory(async (directory) => {
    writeParrotTokenizer(directory);
    const data = join(directory, "data");
    Deno.mkdirSync(data);
    const line = (completion: string) => JSON.stringify({ prompt: "<user> 3 5 <bot>", completion }) + "\n";
    Deno.writeTextFileSync(join(data, "train.jsonl"), line(" 8") + line(" 9 9 9 9 9 9 9 9 9"));
    Deno.writeFileSync(join(data, "test.jsonl.gz"), gzipSync(line(" 7")));
    const tokenizer = loadTokenizer(directory);
    const survey = await surveyDataset(data, { tokenizer, rows: 2, maxLength: 8 });
    assert.equal(survey.type, "prompt-completion");
    assert.equal(survey.format, "standard");
    assert.deepEqual(survey.commands, ["sft", "ppo"]);
    assert.deepEqual(
      survey.files.map(({ split, file, rows }) => [split, file.slice(data.length + 1), rows]),
      [["test", "test.jsonl.gz", 1], ["train", "train.jsonl", 2]],
    );
    assert.deepEqual(survey.report, { rows: 3, kept: 3, dropped: {}, truncated: 1 });
    assert.deepEqual([survey.lengths.min, survey.lengths.max, survey.lengths.unit], [7, 15, "tokens"]);
    assert.equal(survey.examples.length, 2);
    const [part] = survey.examples[0].parts;
    assert.deepEqual(part.segments.map(({ scored }) => scored), [false, true]);
    assert.match(part.segments[1].text, /7.*<eos>/);
    assert.doesNotMatch(part.segments[0].text, /7/);
    const short = await surveyDataset(data, { tokenizer, rows: 1, maxLength: 4 }).catch((error) => error);
    assert.equal(short.examples[0].dropped, "without a completion within max_length 4");
  }));

Deno.test("without a tokenizer characters are counted; labels of unpaired preferences are", async () => {
  const survey = await surveyDataset(golden("datasets/files/unpaired.csv"), { rows: 1 });
  assert.equal(survey.type, "unpaired preference");
  assert.deepEqual(survey.labels, { true: 2, false: 1 });
  assert.equal(survey.report, undefined);
  assert.deepEqual(survey.examples[0].parts.map(({ name, segments }) => [name, segments[0].text]), [
    ["prompt", 'a, "b"'],
    ["completion", " x"],
  ]);
  assert.equal(survey.lengths.min, "ü".length + " 3".length);
  const chats = await surveyDataset(golden("datasets/files/chats-zstd.parquet"), { rows: 0 });
  assert.deepEqual([chats.type, chats.format, chats.examples], ["language modelling", "conversational", []]);
});
