/** `keel score` against PyTorch, and what it says about rows that it cannot score. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { asset, assetTest, golden, withDirectory } from "../assets.ts";
import { type Golden, openGolden, unpad } from "../model/golden.ts";
import { keel, readLines, writeLines } from "./keel.ts";

interface Scored {
  input_ids: number[];
  logprobs: number[];
  entropy: number[];
  score: number;
}

/** Scores rows and returns what comes out. */
async function score(model: string, rows: unknown[], ...options: unknown[]): Promise<Scored[]> {
  let scored: Scored[] = [];
  await withDirectory(async (directory) => {
    const output = join(directory, "out.jsonl");
    const input = writeLines(directory, "rows.jsonl", rows);
    const { code, out, err } = await keel(
      "score",
      "--model",
      model,
      "--input",
      input,
      "--output",
      output,
      ...options,
    );
    assert.equal(code, 0, err);
    assert.equal(out, "");
    scored = readLines(output);
  });
  return scored;
}

/** Largest difference as a share of what the golden allows. */
function compare(g: Golden, name: string, got: number[][], places: number[][], labels: Int32Array): number {
  const [, columns] = g.shape(name), want = g.floats(name), time = g.shape("input_ids")[1];
  const ofLabel = columns === time - 1;
  let worst = 0, compared = 0;
  got.forEach((row, b) =>
    row.forEach((x, t) => {
      if (ofLabel && labels[places[b][t + 1]] === -100) return;
      const at = ofLabel ? b * columns + places[b][t + 1] % time - 1 : places[b][t];
      worst = Math.max(worst, Math.abs(x - want[at]) / g.atol(name));
      compared++;
    })
  );
  assert.ok(compared > 40);
  return worst;
}

async function checkLogprobs(directory: string): Promise<void> {
  const g = openGolden(directory), labels = g.integers("labels");
  const { documents, places } = unpad(
    g.integers("input_ids"),
    g.integers("attention_mask"),
    g.shape("input_ids"),
  );
  const rows = documents.map((input_ids) => ({ input_ids }));
  const shares: string[] = [];
  for (const [temperature, name] of [[1, "logprobs_t1"], [0.7, "logprobs_t0.7"]] as const) {
    const scored = await score(directory, rows, "--temperature", temperature);
    assert.deepEqual(scored.map((row) => row.input_ids), documents);
    scored.forEach((row, i) => {
      assert.equal(row.logprobs.length, documents[i].length - 1);
      assert.equal(row.entropy.length, documents[i].length - 1);
    });
    const checks = { [name]: scored.map((row) => row.logprobs) };
    if (temperature === 1) checks.entropy = scored.map((row) => row.entropy);
    for (const [key, values] of Object.entries(checks)) {
      const share = compare(g, key, values, places, labels);
      assert.ok(share <= 1, `${key} uses ${share} of its atol`);
      shares.push(`${key} ${share.toFixed(3)}`);
    }
  }
  console.log(`share of atol: ${shares.join(", ")}`);
}

for (const name of ["tiny-llama", "tiny-llama-tied"]) {
  Deno.test(`log-probabilities and entropies of ${name} are PyTorch's, at both temperatures`, async () => {
    await checkLogprobs(golden(`models/${name}`));
  });
}
assetTest("log-probabilities and entropies of stories260K are PyTorch's, at both temperatures", async () => {
  await checkLogprobs(asset("goldens/models/stories260K"));
});

Deno.test("scores of a reward model are PyTorch's, whichever side the padding was on", async () => {
  const directory = golden("models/tiny-llama-rm"), g = openGolden(directory);
  const rowsOf = (side: string) =>
    unpad(
      g.integers(`${side}.input_ids`),
      g.integers(`${side}.attention_mask`),
      g.shape(`${side}.input_ids`),
    ).documents;
  assert.deepEqual(rowsOf("left"), rowsOf("right"));
  const scored = await score(directory, rowsOf("right").map((input_ids) => ({ input_ids })));
  for (const side of ["left", "right"]) {
    const want = g.floats(`${side}.scores`), atol = g.atol(`${side}.scores`);
    scored.forEach((row, i) => {
      assert.ok(Math.abs(row.score - want[i]) <= atol, `${side} row ${i}: ${row.score}, not ${want[i]}`);
    });
  }
  assert.deepEqual(Object.keys(scored[0]), ["input_ids", "score"]);
});

Deno.test("a row has the same numbers whatever its batch, and rows keep their order", async () => {
  const model = golden("models/tiny-llama");
  const rows = Array.from({ length: 21 }, (_, i) => ({
    input_ids: Array.from({ length: 1 + (i * 7) % 19 }, (_, t) => (i * 31 + t * 17) % 331),
  }));
  const together = await score(model, rows, "--batch_size", 8);
  assert.deepEqual(together.map((row) => row.input_ids), rows.map((row) => row.input_ids));
  assert.deepEqual(await score(model, rows, "--batch_size", 1), together);
  assert.deepEqual([together[0].logprobs, together[0].entropy], [[], []]);
});

assetTest("text, prompt with completion, and ids of the same words have the same numbers", async () => {
  const model = asset("goldens/models/stories260K"), tokenizer = loadTokenizer(model);
  const prompt = "Once upon a time there was a", completion = " little dog. It was happy.";
  const ids = tokenizer.encode(prompt + completion), before = tokenizer.encode(prompt).length;
  const rows = [{ text: prompt + completion }, { prompt, completion }, { input_ids: ids }];
  const [text, answered, given] = await score(model, rows);
  assert.deepEqual([text, answered], [given, given]);
  assert.deepEqual(text.input_ids, ids);
  const [whole, only, third] = await score(model, rows, "--completion_only");
  assert.deepEqual(only.logprobs, text.logprobs.slice(before - 1));
  assert.deepEqual(only.entropy, text.entropy.slice(before - 1));
  assert.equal(only.logprobs.length, ids.length - before);
  // Rows without a prompt are scored whole.
  assert.deepEqual([whole.logprobs, third.logprobs], [text.logprobs, text.logprobs]);
});

assetTest(
  "where tokens merge across the end of the prompt, the completion begins where they part",
  async () => {
    const model = asset("goldens/models/stories260K"), tokenizer = loadTokenizer(model);
    const prompt = "Once upon a ti", completion = "me there was";
    const alone = tokenizer.encode(prompt), ids = tokenizer.encode(prompt + completion);
    const common = alone.findIndex((id, i) => id !== ids[i]);
    assert.ok(common > 0, "the words do not merge");
    const [{ logprobs }] = await score(model, [{ prompt, completion }], "--completion_only");
    assert.equal(logprobs.length, ids.length - common);
  },
);

Deno.test("results go to standard output where no file is named", async () => {
  await withDirectory(async (directory) => {
    const input = writeLines(directory, "rows.jsonl", [{ input_ids: [1, 5, 9] }, { input_ids: [4] }]);
    const { code, out } = await keel("score", "--model", golden("models/tiny-llama"), "--input", input);
    assert.equal(code, 0);
    const rows = out.trimEnd().split("\n").map((line) => JSON.parse(line) as Scored);
    assert.deepEqual(rows.map((row) => row.logprobs.length), [2, 0]);
  });
});

Deno.test("rows that cannot be scored are named with their file and line", async () => {
  const good = '{"input_ids": [1, 2]}';
  const bad: [string, RegExp][] = [
    ['{"input_ids": [1, 2}', /rows\.jsonl line 2: it is not valid JSON/],
    ["[1, 2]", /rows\.jsonl line 2: expected a JSON object/],
    ['{"input_ids": [1, "2"]}', /line 2: "input_ids" is not a list of token ids/],
    ['{"input_ids": [1, -2]}', /line 2: "input_ids" is not a list of token ids/],
    ['{"input_ids": []}', /line 2: it has no tokens/],
    [
      '{"question": "Why?"}',
      /line 2: it has the columns question\. Expected columns text, prompt and completion/,
    ],
    ['{"prompt": "Why?"}', /line 2: it has the columns prompt\. Expected columns text/],
    ['{"completion": "Because."}', /line 2: "prompt" is missing/],
    ['{"text": 5}', /line 2: "text" is neither text nor a list/],
    ['{"prompt": "a", "completion": [{"role": "user", "content": "b"}]}', /line 2: one of "prompt" and/],
    ['{"input_ids": [1, 331]}', /line 2: token 331 is not in the model's vocabulary of 331/],
    [
      JSON.stringify({ input_ids: new Array(65).fill(3) }),
      /line 2: it has 65 tokens; the model has 64 positions/,
    ],
  ];
  await withDirectory(async (directory) => {
    const input = join(directory, "rows.jsonl");
    for (const [line, message] of bad) {
      Deno.writeTextFileSync(input, `${good}\n${line}\n${good}\n`);
      const { code, err, out } = await keel(
        "score",
        "--model",
        golden("models/tiny-llama"),
        "--input",
        input,
      );
      assert.equal(code, 1, line);
      assert.match(err, message);
      assert.doesNotMatch(err, /\n\s+at /);
      assert.equal(out, "");
    }
    const base = new URL("../../src/parrot/base", import.meta.url).pathname;
    Deno.writeTextFileSync(input, '{"text": "3 5"}\n{"text": "3 zebra"}\n');
    const { code, err } = await keel("score", "--model", base, "--input", input);
    assert.equal(code, 1);
    assert.match(err, /^rows\.jsonl line 2: Cannot encode "zebra"/);
  });
});
