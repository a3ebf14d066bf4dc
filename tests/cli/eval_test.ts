/** `keel eval` against float64 arithmetic on the numbers of `keel score`. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { asset, assetTest, withDirectory } from "../assets.ts";
import { keel, readLines, writeLines } from "./keel.ts";
import { tinyModel } from "./tiny_models.ts";

const near = (got: number, want: number, what: string, within = 1e-6) =>
  assert.ok(Math.abs(got - want) <= within * Math.max(1, Math.abs(want)), `${what}: ${got}, not ${want}`);

/** Runs `keel eval --json`. */
async function evaluate(...argv: unknown[]) {
  const { code, out, err } = await keel("eval", "--json", ...argv);
  assert.equal(code, 0, err);
  return { result: JSON.parse(out), err };
}

/** Numbers of `keel score` for the same rows. */
async function score<T>(directory: string, model: string, rows: unknown[]): Promise<T[]> {
  const input = writeLines(directory, "scored.jsonl", rows), output = join(directory, "scores.jsonl");
  const { code, err } = await keel("score", "--model", model, "--input", input, "--output", output);
  assert.equal(code, 0, err);
  return readLines<T>(output);
}

const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
const bytes = (text: string) => new TextEncoder().encode(text).length;

/** Texts with letters of one to four bytes, of different lengths. */
const TEXTS = ["Once upon a time", "a", "é ß 𝛼 end", "To be, or not to be: that is", "3 + 4 = 7"];

Deno.test("perplexity, bits per byte and their sums are those of the log-probabilities", () =>
  withDirectory(async (directory) => {
    const model = tinyModel(directory, "tiny-llama"), output = join(directory, "rows.jsonl");
    const dataset = writeLines(directory, "texts.jsonl", TEXTS.map((text) => ({ text })));
    const { result } = await evaluate(...["--model", model, "--dataset", dataset, "--output", output]);
    const scored = await score<{ logprobs: number[] }>(
      directory,
      model,
      TEXTS.map((text) => ({ text: `${text}</s>` })),
    );
    // The first byte is not predicted, the end token is.
    const nlls = scored.map(({ logprobs }) => -sum(logprobs)), nll = sum(nlls);
    const tokens = sum(TEXTS.map(bytes));
    assert.deepEqual([result.task, result.rows, result.kept, result.tokens], ["texts", 5, 5, tokens]);
    near(result.nll, nll / tokens, "nll");
    near(result.perplexity, Math.exp(nll / tokens), "perplexity");
    // Of é the second byte is predicted, which completes it.
    assert.equal(result.bytes, tokens - 4);
    near(result.bits_per_byte, nll / Math.LN2 / result.bytes, "bits per byte");
    const rows = readLines<{ where: string; nll: number; tokens: number; correct: number }>(output);
    assert.deepEqual(rows.map(({ where }) => where), TEXTS.map((_, i) => `texts.jsonl line ${i + 1}`));
    rows.forEach((row, i) => near(row.nll, nlls[i], row.where));
    near(result.token_accuracy, sum(rows.map(({ correct }) => correct)) / tokens, "token accuracy");
    // Whatever the batch.
    for (const size of [8, 48]) {
      const other = (await evaluate("--model", model, "--dataset", dataset, "--batch_tokens", size)).result;
      assert.deepEqual(other, result);
    }
  }));

Deno.test("of demonstrations the completions count, unless all is asked for, and long rows are cut", () =>
  withDirectory(async (directory) => {
    const model = tinyModel(directory, "tiny-llama");
    const pairs = [["Why?", " No."], ["2+2", " is 4"], ["Say it", " it"]];
    const dataset = writeLines(
      directory,
      "demos.jsonl",
      pairs.map(([prompt, completion]) => ({ prompt, completion })),
    );
    const scored = await score<{ logprobs: number[] }>(
      directory,
      model,
      pairs.map(([prompt, completion]) => ({ prompt, completion: `${completion}</s>` })),
    );
    const common = ["--model", model, "--dataset", dataset];
    const nllOf = (from: (i: number) => number, to = Infinity) => {
      const all = scored.flatMap(({ logprobs }, i) => logprobs.slice(from(i) - 1, to - 1));
      return [-sum(all) / all.length, all.length];
    };
    for (
      const [flags, from, to] of [
        [[], (i: number) => bytes(pairs[i][0]), undefined],
        [["--completion_only_loss", "false"], () => 1, undefined],
        [["--max_length", "7"], (i: number) => bytes(pairs[i][0]), 7],
      ] as const
    ) {
      const { result, err } = await evaluate(...common, ...flags);
      const [nll, tokens] = nllOf(from, to);
      assert.deepEqual([result.tokens, result.kept], [tokens, 3]);
      near(result.nll, nll, `nll ${flags}`);
      // Completions have one token without text, the end, where they are whole.
      if (!flags.length) assert.equal(result.bytes, sum(pairs.map(([, completion]) => bytes(completion))));
      assert.match(err, to === 7 ? /3 of 3 rows; 3 cut to the limit/ : /demos\.jsonl: 3 of 3 rows\n/);
      assert.match(err, /eval 3\/3: loss/);
    }
  }));

/** Pairs in the two ways in which they are written. */
const PAIRS = Array.from({ length: 24 }, (_, i) => ({
  prompt: `q${i * 7}`,
  chosen: ` ${"abcdefghij".slice(i % 5, i % 5 + 3)}!`,
  rejected: ` ${"zyxwvutsrq".slice(i % 7, i % 7 + 2)}`,
}));

Deno.test("a reward model's accuracy, losses and calibration are those of its scores", () =>
  withDirectory(async (directory) => {
    const model = tinyModel(directory, "tiny-llama-rm"), output = join(directory, "rows.jsonl");
    const dataset = writeLines(directory, "pairs.jsonl", PAIRS);
    const { result } = await evaluate("--model", model, "--dataset", dataset, "--output", output);
    const scored = await score<{ score: number }>(
      directory,
      model,
      PAIRS.flatMap(({ prompt, chosen, rejected }) =>
        [chosen, rejected].map((answer) => ({ text: `${prompt}${answer}</s>` }))
      ),
    );
    const margins = PAIRS.map((_, i) => scored[2 * i].score - scored[2 * i + 1].score);
    assert.ok(margins.some((m) => m > 0) && margins.some((m) => m < 0));
    const sigma = margins.map((margin) => 1 / (1 + Math.exp(-margin)));
    const mean = (values: number[]) => sum(values) / values.length;
    assert.deepEqual([result.task, result.pairs], ["reward", 24]);
    near(result.accuracy.share, mean(margins.map((m) => m > 0 ? 1 : 0)), "accuracy");
    assert.ok(result.accuracy.low < result.accuracy.share && result.accuracy.share < result.accuracy.high);
    near(result.mean_margin, mean(margins), "mean margin");
    near(result.log_loss, mean(sigma.map((p) => -Math.log(p))), "log-loss");
    near(result.brier, mean(sigma.map((p) => (1 - p) ** 2)), "Brier score");
    const sure = sigma.map((p) => Math.max(p, 1 - p));
    const groups = Map.groupBy(sure.keys(), (i) => Math.min(9, Math.floor((sure[i] - 0.5) * 20)));
    const off = [...groups.values()].map((group) =>
      group.length / 24 *
      Math.abs(mean(group.map((i) => sure[i])) - mean(group.map((i) => margins[i] > 0 ? 1 : 0)))
    );
    near(result.ece, sum(off), "ECE");
    assert.equal(sum(result.bins.map(({ pairs }: { pairs: number }) => pairs)), 24);
    readLines<{ margin: number }>(output).forEach(({ margin }, i) => near(margin, margins[i], `row ${i}`));

    const { out } = await keel("eval", "--model", model, "--dataset", dataset);
    assert.match(out, /^accuracy +0\.\d+ \(95 % between 0\.\d+ and 0\.\d+\) of 24 pairs; mean margin/m);
    assert.match(out, /^log-loss +\d.*\nBrier score .*\nECE .*\ntemperature /m);
    assert.match(out, /^ {2}0\.50–0\.55 {2}[█·│]{40} {2}\S+ of \d+, predicted 0\.5\d+$/m);
  }));

Deno.test("a language model prefers the answer that is more likely, as a whole and per token", () =>
  withDirectory(async (directory) => {
    const model = tinyModel(directory, "tiny-llama");
    // The prompt inside both sides, as in hh-rlhf: it is the same for both and does not count.
    const whole = PAIRS.map((
      { prompt, chosen, rejected },
    ) => [`${prompt}${chosen}</s>`, `${prompt}${rejected}</s>`]);
    const dataset = writeLines(
      directory,
      "pairs.jsonl",
      whole.map(([chosen, rejected]) => ({ chosen, rejected })),
    );
    const { result } = await evaluate("--model", model, "--dataset", dataset);
    const scored = await score<{ logprobs: number[] }>(
      directory,
      model,
      whole.flat().map((text) => ({ text })),
    );
    const answers = scored.map(({ logprobs }, i) => logprobs.slice(bytes(`${PAIRS[i >> 1].prompt} `) - 1));
    const margins = (of: (logprobs: number[]) => number) =>
      PAIRS.map((_, i) => of(answers[2 * i]) - of(answers[2 * i + 1]));
    for (
      const [name, of] of [
        ["total", sum],
        ["per_token", (logprobs: number[]) => sum(logprobs) / logprobs.length],
      ] as const
    ) {
      const want = margins(of);
      near(result[name].mean_margin, sum(want) / 24, name, 1e-5);
      near(result[name].accuracy.share, want.filter((m) => m > 0).length / 24, name);
    }
    const { out } = await keel("eval", "--model", model, "--dataset", dataset);
    assert.match(out, /A language model has no scores; .*\nas a whole .* nats\nper token .* nats\n/);
  }));

Deno.test("keel eval says what it cannot use, and leaves no file", () =>
  withDirectory(async (directory) => {
    const model = tinyModel(directory, "tiny-llama"), rm = tinyModel(directory, "tiny-llama-rm");
    const output = join(directory, "out.jsonl");
    const fails = async (rows: unknown[], message: RegExp, ...more: unknown[]) => {
      const dataset = writeLines(directory, "rows.jsonl", rows);
      const argv = ["--model", model, "--dataset", dataset, "--output", output, ...more];
      const { code, out, err } = await keel("eval", ...argv);
      assert.match(err, message);
      assert.deepEqual([code, out], [1, ""], err);
      assert.doesNotMatch(err, /^\s+at /m);
    };
    await fails(
      [{ text: "a" }],
      /The reward model cannot use a dataset of type language modelling/,
      "--model",
      rm,
    );
    await fails(
      [{ prompt: "a" }],
      /keel eval cannot use a dataset of type prompt-only\. Expected language modelling/,
    );
    await fails([{ prompt: "a", completion: "b", label: true }], /type unpaired preference\. Expected/);
    await fails([{ text: "ab" }, { text: 5 }], /Cannot read rows\.jsonl line 2: "text" is neither text nor/);
    await fails(
      [{ text: "ab" }],
      /completion_only_loss is true, but the dataset has no/,
      "--completion_only_loss",
    );
    await fails(
      [{ chosen: "ab", rejected: "long" }],
      /None of the 1 rows can be used: 1 longer than max_length 3/,
      ...["--max_length", 3],
    );
    await fails([], /has no rows/);
    await fails([{ text: "ab" }], /Cannot .*: .*split/, "--dataset", directory, "--dataset_split", "test");
    assert.deepEqual([...Deno.readDirSync(directory)].filter(({ name }) => name.startsWith("out")), []);
    const { code, err } = await keel("eval", "--dataset", "x", "--batch_tokens", 1);
    assert.equal(code, 2);
    assert.match(err, /--batch_tokens: got 1, expected a whole number of at least 8/);
    assert.match(err, /--model_name_or_path is missing/);
  }));

assetTest(
  "stories260K knows its stories, Shakespeare and hh-rlhf less well",
  () =>
    withDirectory(async (directory) => {
      const model = asset("goldens/models/stories260K");
      const lines = (file: string) =>
        new TextDecoder().decode(gunzipSync(Deno.readFileSync(asset(`data/${file}`)))).trimEnd();
      const nll = async (name: string, rows: unknown[]) =>
        (await evaluate("--model", model, "--dataset", writeLines(directory, name, rows))).result;
      const story = [
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball. She wanted to play with it, but it was too high.",
      ];
      const stories = await nll("stories.jsonl", story.map((text) => ({ text })));
      const plays = lines("tinyshakespeare.txt.gz").split("\n\n").slice(0, 100);
      const shakespeare = await nll("shakespeare.jsonl", plays.map((text) => ({ text })));
      const talk = lines("hh-rlhf-harmless-base-test.jsonl.gz").split("\n").slice(0, 40)
        .map((line) => JSON.parse(line).chosen as string);
      const chats = await nll("chats.jsonl", talk.map((text) => ({ text })));
      console.log(
        "perplexity, bits per byte:",
        [stories, shakespeare, chats].map((r) => `${r.perplexity.toFixed(1)} ${r.bits_per_byte.toFixed(2)}`)
          .join("; "),
      );
      assert.ok(stories.perplexity < 8 && stories.bits_per_byte < 1.5);
      for (const other of [shakespeare, chats]) {
        assert.ok(
          other.perplexity > 5 * stories.perplexity && other.bits_per_byte > 2 * stories.bits_per_byte,
        );
      }
      // Of a whole text without a space taken off, the bytes are the text's; the start token is not scored.
      assert.equal(stories.bytes, bytes(story[0]));
    }),
);
