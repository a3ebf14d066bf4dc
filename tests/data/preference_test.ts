/** Preferences as sequences: against TRL's batches, where they are cut, and pairs taken apart. */
import assert from "node:assert/strict";
import {
  PREFERENCE_CODEC,
  type PreferenceExample,
  preferenceTokenizer,
  UNPAIRED_CODEC,
  unpairedRows,
} from "../../src/data/preference.ts";
import { type DataRow, makeRows, readDataset } from "../../src/data/rows.ts";
import { openStore } from "../../src/data/store.ts";
import { type RowTokenizer, unpairedTokenizer } from "../../src/data/tokenize.ts";
import { loadTokenizer, type Tokenizer } from "../../src/data/tokenizer.ts";
import { readSafetensors } from "../../src/model/safetensors.ts";
import { writeParrotTokenizer } from "../../src/parrot/tokenizer.ts";
import { sequenceOf } from "../../src/train/load_preferences.ts";
import { asset, assetTest, golden, withDirectory } from "../assets.ts";

const MAX_LENGTH = 96;

/** Examples of rows, and how many were dropped and cut. */
function examplesOf<T>(rows: DataRow[], tokenize: RowTokenizer<T>) {
  const outcomes = rows.map(tokenize);
  return {
    examples: outcomes.flatMap((outcome) => "example" in outcome ? [outcome.example] : []),
    cut: outcomes.filter((outcome) => "cut" in outcome && outcome.cut).length,
    dropped: outcomes.flatMap((outcome) => "dropped" in outcome ? [outcome.dropped] : []),
  };
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

async function* each<T>(items: T[]): AsyncGenerator<T> {
  for (const item of items) yield await Promise.resolve(item);
}

/** The first micro-batch that TRL fed: rows of ids and of the completion's places, without padding. */
function firstBatch(run: string) {
  const file = readSafetensors(asset(`goldens/trl/${run}.safetensors`));
  const { steps } = JSON.parse(Deno.readTextFileSync(asset(`goldens/trl/${run}.json`)));
  const names = steps[0].micro[0].tensors as Record<string, string>;
  const [rows, columns] = file.tensors.get(names.input_ids)!.shape;
  const rowsOf = (name: string, mask: string) =>
    Array.from(
      { length: rows },
      (_, row) =>
        Array.from(file.readIntegers(names[name]).subarray(row * columns, (row + 1) * columns)).filter((
          _,
          t,
        ) => file.readIntegers(names[mask])[row * columns + t]),
    );
  return {
    ids: rowsOf("input_ids", "attention_mask"),
    completions: rowsOf("input_ids", "completion_mask"),
  };
}

assetTest("pairs and single answers are the sequences that TRL fed", async () => {
  const tokenizer = loadTokenizer(asset("goldens/models/stories260K"));
  const pairs = examplesOf(
    await readDataset(golden("trl/data/preference.train.jsonl")),
    preferenceTokenizer(tokenizer, { maxLength: MAX_LENGTH }),
  ).examples.slice(0, 4);
  const dpo = firstBatch("dpo_sigmoid");
  const sides = [...pairs.map(({ chosen }) => chosen), ...pairs.map(({ rejected }) => rejected)];
  assert.deepEqual(sides.map(({ ids }) => ids), dpo.ids);
  assert.deepEqual(sides.map((side) => sequenceOf(side).completion), dpo.completions);

  const single = examplesOf(
    await readDataset(golden("trl/data/unpaired_preference.train.jsonl")),
    unpairedTokenizer(tokenizer, { maxLength: MAX_LENGTH, wholeAnswers: true }),
  ).examples.slice(0, 4);
  const kto = firstBatch("kto");
  const sequences = single.map((answer) => sequenceOf(answer, MAX_LENGTH));
  assert.deepEqual(sequences.map(({ prompt, completion }) => [...prompt, ...completion]), kto.ids);
  assert.deepEqual(sequences.map(({ completion }) => completion), kto.completions);
});

Deno.test("a longer pair keeps its start or its end, each side for itself, and what is only prompt is dropped", () =>
  withDirectory((directory) => {
    writeParrotTokenizer(directory);
    const tokenizer = loadTokenizer(directory);
    const rows = makeRows("rows", [
      { prompt: "<user> 1 2 3 4 5 <bot>", chosen: " 6", rejected: " 7 8 9" },
      { prompt: "<user> 1 <bot>", chosen: " 6", rejected: " 7" },
    ]);
    const whole = examplesOf(rows, preferenceTokenizer(tokenizer, { maxLength: null }));
    const [{ chosen, rejected }] = whole.examples;
    assert.equal(chosen.promptLength, rejected.promptLength);
    assert.equal(rejected.ids.length - chosen.ids.length, 2);
    assert.equal(rejected.ids.at(-1), tokenizer.eosId);
    assert.deepEqual([whole.cut, whole.dropped], [0, []]);

    const prompt = chosen.promptLength, maxLength = prompt + 1;
    const start = examplesOf(rows, preferenceTokenizer(tokenizer, { maxLength }));
    assert.deepEqual(start.examples[0].rejected, {
      ids: rejected.ids.slice(0, maxLength),
      promptLength: prompt,
    });
    assert.equal(start.cut, 1);
    const dropped = examplesOf(rows, preferenceTokenizer(tokenizer, { maxLength: prompt }));
    assert.deepEqual([dropped.examples.length, dropped.dropped], [1, [
      `without an answer within max_length ${prompt}`,
    ]]);

    const end = examplesOf(
      rows,
      preferenceTokenizer(tokenizer, { maxLength: 3, truncationMode: "keep_end" }),
    );
    assert.deepEqual(end.dropped, []);
    assert.deepEqual(end.examples[0].rejected, { ids: rejected.ids.slice(-3), promptLength: 0 });
    assert.deepEqual(end.examples[0].chosen, {
      ids: chosen.ids.slice(-3),
      promptLength: 3 - (chosen.ids.length - prompt),
    });
    // The first token of what is left has nothing before it.
    assert.deepEqual(sequenceOf(end.examples[0].rejected), {
      prompt: rejected.ids.slice(-3, -2),
      completion: rejected.ids.slice(-2),
    });
  }));

Deno.test("where a token reaches over the end of the prompt in one answer, both answers begin before it", () => {
  const tokenizer = {
    source: "test",
    eosToken: "$",
    encode: (text: string) => Array.from(text.matchAll(/xy|./g), ([t]) => t === "xy" ? 1 : t.charCodeAt(0)),
  } as unknown as Tokenizer;
  const [{ chosen, rejected }, other] = examplesOf(
    makeRows("rows", [
      { prompt: "ax", chosen: "yb", rejected: "b" },
      { prompt: "ax", chosen: "b", rejected: "yb" },
    ]),
    preferenceTokenizer(tokenizer),
  ).examples;
  assert.deepEqual(other, { chosen: rejected, rejected: chosen });
  const codes = (text: string) => Array.from(text, (c) => c.charCodeAt(0));
  assert.deepEqual(chosen, { ids: [...codes("a"), 1, ...codes("b$")], promptLength: 1 });
  assert.deepEqual(rejected, { ids: codes("axb$"), promptLength: 1 });
});

Deno.test("a prompt inside both sides is found, and other rows are refused", () =>
  withDirectory((directory) => {
    writeParrotTokenizer(directory);
    const tokenizer = loadTokenizer(directory), tokenize = preferenceTokenizer(tokenizer);
    const [explicit] = examplesOf(
      makeRows("rows", [{ prompt: "<user> 1 2 <bot>", chosen: " 6 7", rejected: " 8" }]),
      preferenceTokenizer(tokenizer),
    ).examples;
    const [implicit] = examplesOf(
      makeRows("rows", [{ chosen: "<user> 1 2 <bot> 6 7", rejected: "<user> 1 2 <bot> 8" }]),
      tokenize,
    ).examples;
    assert.deepEqual(implicit, explicit);
    assert.throws(
      () => preferenceTokenizer(tokenizer)(makeRows("rows", [{ prompt: "1", completion: "2" }])[0]),
      /cannot use a dataset of type prompt-completion. Expected preference pairs/,
    );
  }));

Deno.test("pairs are taken apart as TRL does it, with their prompts and what templates need", async () => {
  const { unpair_preference: { input, out } } = JSON.parse(
    Deno.readTextFileSync(golden("trl/data_utils.json")),
  );
  const columnsOf = async (rows: Record<string, unknown>[]) =>
    (await all(unpairedRows(each(makeRows("rows", rows))))).map(({ columns }) =>
      // Without what is undefined.
      JSON.parse(JSON.stringify(columns))
    );
  assert.deepEqual(await columnsOf(input), out);
  assert.deepEqual(await columnsOf(out), out, "single answers stay as they are");
  const tools = [{ name: "f" }], turn = (content: string) => [{ role: "assistant", content }];
  assert.deepEqual(
    await columnsOf([{
      prompt: [{ role: "user", content: "q" }],
      chosen: turn("a"),
      rejected: turn("b"),
      tools,
    }]),
    [["a", true], ["b", false]].map(([answer, label]) => ({
      prompt: [{ role: "user", content: "q" }],
      completion: turn(answer as string),
      label,
      tools,
    })),
  );
  // A thousand pairs at a time.
  const many = Array.from({ length: 1003 }, (_, i) => ({ prompt: `${i}`, chosen: "c", rejected: "r" }));
  const labels = (await columnsOf(many)).map(({ label }) => label);
  const block = (count: number) => [...new Array(count).fill(true), ...new Array(count).fill(false)];
  assert.deepEqual(labels, [...block(1000), ...block(3)]);
});

Deno.test("stored examples come back as they were", () => {
  const pairs: PreferenceExample[] = [
    { chosen: { ids: [5, 6, 7], promptLength: 2 }, rejected: { ids: [5, 8], promptLength: 0 } },
    { chosen: { ids: [1], promptLength: 0 }, rejected: { ids: [2, 3, 4, 9], promptLength: 3 } },
  ];
  const single = [
    { ids: [5, 6, 7], promptLength: 2, label: true },
    { ids: [9], promptLength: 0, label: false },
  ];
  const stored = openStore(PREFERENCE_CODEC), answers = openStore(UNPAIRED_CODEC);
  pairs.forEach((pair) => stored.add(pair));
  single.forEach((answer) => answers.add(answer));
  assert.deepEqual(pairs.map((_, i) => stored.at(i)), pairs);
  assert.deepEqual(single.map((_, i) => answers.at(i)), single);
});
