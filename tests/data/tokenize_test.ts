import assert from "node:assert/strict";
import { join } from "node:path";
import { randomStream } from "../../src/random/stream.ts";
import { makeRows, readDataset } from "../../src/data/rows.ts";
import { promptRowTokenizer, tokenizePairs, tokenizePrompts, tokenizeSft } from "../../src/data/tokenize.ts";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { readSafetensors } from "../../src/model/safetensors.ts";
import { demonstration } from "../../src/parrot/corpus.ts";
import { writeParrotTokenizer } from "../../src/parrot/tokenizer.ts";
import { decodeWords, encodeWords } from "../../src/parrot/vocabulary.ts";
import { asset, assetTest, golden, withDirectory } from "../assets.ts";

/** The rows of a padded matrix of a golden, without their padding. */
function goldenRows(run: string, name: string, mask: string): number[][] {
  const file = readSafetensors(golden(`trl/${run}.safetensors`));
  const [rows, columns] = file.tensors.get(name)!.shape;
  const values = file.readIntegers(name), kept = file.readIntegers(mask);
  return Array.from(
    { length: rows },
    (_, row) =>
      Array.from(values.subarray(row * columns, (row + 1) * columns)).filter((_, column) =>
        kept[row * columns + column]
      ),
  );
}

/** All micro-batches that TRL fed, in order: names of their tensors. */
function microBatches(run: string): Record<string, string>[] {
  const { steps, eval_batches: evaluation } = JSON.parse(Deno.readTextFileSync(golden(`trl/${run}.json`)));
  return [...steps.flatMap((step: { micro: { tensors: unknown }[] }) => step.micro), ...evaluation].map((
    micro,
  ) => micro.tensors);
}

const stories = () => loadTokenizer(asset("goldens/models/stories260K"));
const rowsOf = (name: string) => readDataset(golden(`trl/data/${name}.jsonl`));

for (
  const [run, data] of [["sft_lm", "language_modeling"], ["sft_prompt_completion", "prompt_completion"], [
    "sft_dft",
    "prompt_completion",
  ]]
) {
  assetTest(`${run}: ids and scored tokens are what TRL's SFTTrainer fed`, async () => {
    const train = tokenizeSft(await rowsOf(`${data}.train`), stories(), { maxLength: 96 });
    const evaluation = tokenizeSft(await rowsOf(`${data}.eval`), stories(), { maxLength: 96 });
    let next = 0, nextEvaluation = 0, truncated = false;
    for (const micro of microBatches(run)) {
      const ids = goldenRows(run, micro.input_ids, micro.attention_mask);
      const labels = goldenRows(run, micro.labels, micro.attention_mask);
      for (const [row, expected] of ids.entries()) {
        const example = micro.input_ids.startsWith("eval")
          ? evaluation.examples[nextEvaluation++]
          : train.examples[next++ % train.examples.length];
        assert.deepEqual(example.ids, expected);
        assert.deepEqual(example.scored, labels[row].map((label, index) => index > 0 && label !== -100));
        truncated ||= expected.length === 96;
      }
    }
    assert.ok(next >= train.examples.length && nextEvaluation === evaluation.examples.length && truncated);
    assert.deepEqual(train.report, { rows: 48, kept: 48, dropped: {}, truncated: train.report.truncated });
    assert.ok(train.report.truncated > 0);
  });
}

for (const [run, data] of [["reward", "preference"], ["reward_margin_center", "preference_margin"]]) {
  assetTest(`${run}: pairs and margins are what TRL's RewardTrainer fed, longer ones left out`, async () => {
    const train = tokenizePairs(await rowsOf(`${data}.train`), stories(), { maxLength: 96 });
    const evaluation = tokenizePairs(await rowsOf(`${data}.eval`), stories(), { maxLength: 96 });
    const file = readSafetensors(golden(`trl/${run}.safetensors`));
    let next = 0;
    for (const micro of microBatches(run)) {
      const ids = goldenRows(run, micro.input_ids, micro.attention_mask);
      const pairs = ids.length / 2;
      for (let row = 0; row < pairs; row++) {
        const example = micro.input_ids.startsWith("eval")
          ? evaluation.examples[row]
          : train.examples[next++ % train.examples.length];
        assert.deepEqual([example.chosen, example.rejected], [ids[row], ids[pairs + row]]);
        if (micro.margin) assert.equal(Math.fround(example.margin!), file.read(micro.margin)[row]);
        else assert.equal(example.margin, undefined);
      }
    }
    assert.deepEqual(train.report, {
      rows: 48,
      kept: 38,
      dropped: { "longer than max_length 96": 10 },
      truncated: 0,
    });
  });
}

for (const run of ["ppo", "ppo_variant"]) {
  assetTest(`${run}: every query of TRL's PPOTrainer is one of our prompts`, async () => {
    const { examples, report } = tokenizePrompts(await rowsOf("prompt_only.train"), stories());
    assert.deepEqual(report, { rows: 48, kept: 48, dropped: {}, truncated: 0 });
    const known = new Set(examples.map(({ ids }) => String(ids)));
    const file = readSafetensors(golden(`trl/${run}.safetensors`));
    const [rows, columns] = file.tensors.get("u1/queries")!.shape;
    const queries = file.readIntegers("u1/queries");
    for (let row = 0; row < rows; row++) {
      const query = queries.subarray(row * columns, (row + 1) * columns);
      assert.ok(known.has(String(query.subarray(query.indexOf(1)))));
    }
  });
}

/** A tokenizer with a chat template, over the parrot's words. */
function chatTokenizer(directory: string) {
  writeParrotTokenizer(directory);
  const file = join(directory, "tokenizer_config.json");
  const template =
    "{{ bos_token }}{% for m in messages %}{{ ' <user> ' if m.role == 'user' else ' <bot> ' }}{{ m.content }}" +
    "{{ ' <eos>' if m.role == 'assistant' }}{% endfor %}{{ ' <bot>' if add_generation_prompt }}";
  Deno.writeTextFileSync(
    file,
    JSON.stringify({ ...JSON.parse(Deno.readTextFileSync(file)), chat_template: template }),
  );
  return loadTokenizer(directory);
}
const user = (content: string) => ({ role: "user", content });
const assistant = (content: string) => ({ role: "assistant", content });
const words = (ids: number[]) => decodeWords(ids).join(" ");

Deno.test("conversations go through the chat template, and its own end tokens suffice", () =>
  withDirectory((directory) => {
    const tokenizer = chatTokenizer(directory);
    const sft = tokenizeSft(makeRows("x", [{ messages: [user("i think"), assistant("yes .")] }]), tokenizer)
      .examples[0];
    assert.equal(words(sft.ids), "<bos> <user> i think <bot> yes . <eos>");
    assert.deepEqual(sft.scored, [false, true, true, true, true, true, true, true]);
    const rows = makeRows("x", [{ prompt: [user("i think")], completion: [assistant("yes .")] }]);
    assert.deepEqual(tokenizeSft(rows, tokenizer).examples[0], {
      ids: sft.ids,
      scored: [false, false, false, false, false, true, true, true],
    });
    const pair = tokenizePairs(
      makeRows("x", [{
        chosen: [user("i"), assistant("yes .")],
        rejected: [user("i"), assistant("no .")],
        margin: 1,
      }]),
      tokenizer,
    ).examples[0];
    assert.deepEqual([words(pair.chosen), words(pair.rejected), pair.margin], [
      "<bos> <user> i <bot> yes . <eos>",
      "<bos> <user> i <bot> no . <eos>",
      1,
    ]);
    const prompts = tokenizePrompts(
      makeRows("x", [{ chosen: [user("i"), assistant("yes .")], rejected: [user("i"), assistant("no .")] }]),
      tokenizer,
    ).examples;
    assert.deepEqual(prompts.map(({ ids, text }) => [words(ids), text]), [[
      "<bos> <user> i <bot>",
      "<bos> <user> i <bot>",
    ]]);
    const [row] = makeRows("x", [{
      prompt: [user("i")],
      answer: 3,
      completion: [assistant("no")],
      tools: [{ a: 1 }],
    }]);
    const outcome = promptRowTokenizer(tokenizer)(row);
    assert.ok("example" in outcome);
    assert.deepEqual([outcome.example.prompt, outcome.example.columns], [[user("i")], {
      answer: 3,
      tools: [{ a: 1 }],
    }]);
    assert.throws(
      () => tokenizePrompts(makeRows("x", [{ prompt: [user("i"), assistant("yes")] }]), tokenizer),
      /x row 1: the prompt ends with the assistant's turn/,
    );
  }));

Deno.test("demonstrations of the parrot are scored on the reply only", () =>
  withDirectory((directory) => {
    writeParrotTokenizer(directory);
    const rng = randomStream(2, "demonstrations");
    const demonstrations = Array.from({ length: 200 }, () => demonstration(rng));
    const { examples } = tokenizeSft(makeRows("demonstrations", demonstrations), loadTokenizer(directory));
    for (const [index, { prompt, completion }] of demonstrations.entries()) {
      const { ids, scored } = examples[index];
      assert.deepEqual(ids, [1, ...encodeWords(prompt + completion)]);
      assert.equal(scored.indexOf(true), 1 + encodeWords(prompt).length);
      assert.equal(scored.lastIndexOf(false), encodeWords(prompt).length);
    }
  }));

Deno.test("the report counts truncated and dropped rows; a dataset of which nothing is left is refused", () =>
  withDirectory((directory) => {
    writeParrotTokenizer(directory);
    const tokenizer = loadTokenizer(directory);
    const rows = makeRows("x", [
      { prompt: "i think", completion: " yes ." },
      { prompt: "i think so", completion: " yes . yes ." },
      { prompt: "i think i think i", completion: " yes ." },
    ]);
    const { examples, report } = tokenizeSft(rows, tokenizer, { maxLength: 6 });
    assert.deepEqual(report, {
      rows: 3,
      kept: 2,
      dropped: { "without a completion within max_length 6": 1 },
      truncated: 1,
    });
    assert.deepEqual(examples.map(({ ids }) => words(ids)), [
      "<bos> i think yes . <eos>",
      "<bos> i think so yes .",
    ]);
    assert.deepEqual(
      tokenizeSft(rows, tokenizer, { maxLength: 6, completionOnlyLoss: false }).report.truncated,
      2,
    );
    assert.deepEqual(tokenizeSft(rows, tokenizer, { maxLength: null }).report, {
      rows: 3,
      kept: 3,
      dropped: {},
      truncated: 0,
    });
    assert.throws(
      () => tokenizeSft(rows, tokenizer, { maxLength: 2 }),
      /None of the 3 rows can be used: 3 without a completion/,
    );
    assert.deepEqual(tokenizePrompts(rows, tokenizer, { maxPromptLength: 4 }).report.dropped, {
      "longer than max_prompt_length 4": 1,
    });
  }));

Deno.test("a stage refuses a dataset that it cannot use", () =>
  withDirectory((directory) => {
    writeParrotTokenizer(directory);
    const tokenizer = loadTokenizer(directory);
    const pair = { prompt: "i", chosen: " yes", rejected: " no" };
    assert.throws(
      () => tokenizeSft(makeRows("x", [pair]), tokenizer),
      /SFT cannot use a dataset of type preference\. Expected language modelling/,
    );
    const unpaired = { prompt: "i", completion: " yes", label: true };
    assert.throws(() => tokenizeSft(makeRows("x", [unpaired]), tokenizer), /of type unpaired preference/);
    assert.throws(
      () => tokenizePairs(makeRows("x", [unpaired]), tokenizer),
      /The reward model cannot use a dataset of type unpaired preference/,
    );
    assert.throws(
      () => tokenizePrompts(makeRows("x", [{ text: "i" }]), tokenizer),
      /cannot use a dataset of type language modelling/,
    );
    assert.throws(
      () => tokenizeSft(makeRows("x", [{ text: "i" }]), tokenizer, { completionOnlyLoss: true }),
      /has no completions/,
    );
    assert.throws(
      () => tokenizePairs(makeRows("x", [{ ...pair, margin: 1 }, pair]), tokenizer),
      /x row 2: some rows have a "margin" and some have none/,
    );
    assert.throws(
      () => tokenizePrompts(makeRows("x", [{ prompt: "i <eos>" }]), tokenizer),
      /the prompt ends with the end token/,
    );
  }));
