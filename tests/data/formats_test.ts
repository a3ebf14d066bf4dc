import assert from "node:assert/strict";
import { detectType, extractPrompt, parseExamples, promptOf } from "../../src/data/formats.ts";
import { makeRows, readDataset } from "../../src/data/rows.ts";
import { asset, assetTest, golden } from "../assets.ts";

const user = (content: string) => ({ role: "user", content });
const assistant = (content: string) => ({ role: "assistant", content });
const typeOf = (columns: Record<string, unknown>) => detectType({ columns, where: "x.jsonl line 1" });
const parse = (...rows: Record<string, unknown>[]) => parseExamples(makeRows("x", rows));

Deno.test("types are told apart by their columns, text or conversation", () => {
  assert.equal(typeOf({ text: "a" }), "language modelling");
  assert.equal(typeOf({ messages: [user("a")] }), "language modelling");
  assert.equal(typeOf({ prompt: "a", solution: "1" }), "prompt-only");
  assert.equal(typeOf({ prompt: "a", completion: "b" }), "prompt-completion");
  assert.equal(typeOf({ prompt: "a", completion: "b", label: null }), "prompt-completion");
  assert.equal(typeOf({ prompt: "a", chosen: "b", rejected: "c" }), "preference");
  assert.equal(
    typeOf({ prompt: [user("a")], chosen: [assistant("b")], rejected: [assistant("c")] }),
    "preference",
  );
  assert.equal(typeOf({ chosen: "b", rejected: "c", prompt: null }), "preference with implicit prompt");
  // The prompt repeats the first turn of whole conversations.
  assert.equal(
    typeOf({ prompt: "a", chosen: [user("a"), assistant("b")], rejected: [] }),
    "preference with implicit prompt",
  );
  assert.equal(typeOf({ prompt: "a", completion: "b", label: false }), "unpaired preference");
  assert.throws(
    () => typeOf({ prompt: "a", completions: ["b"], labels: [true] }),
    /stepwise supervision .* is not supported/,
  );
  assert.throws(
    () => typeOf({ question: "a", answer: "b" }),
    /Cannot use x\.jsonl line 1: its columns are question, answer\. Expected one of: text, messages or conversations; prompt; prompt, completion; prompt, chosen, rejected or chosen, rejected; prompt, completion, label/,
  );
});

Deno.test("TRL's own dataset files are of the type that their name says", async () => {
  for (
    const [file, type] of [
      ["language_modeling", "language modelling"],
      ["prompt_completion", "prompt-completion"],
      ["preference", "preference"],
      ["preference_margin", "preference"],
      ["prompt_only", "prompt-only"],
      ["unpaired_preference", "unpaired preference"],
    ]
  ) {
    const parsed = parseExamples(await readDataset(golden(`trl/data/${file}.train.jsonl`)));
    assert.equal(parsed.type, type);
    if (file === "preference_margin") assert.equal((parsed.examples[1] as { margin?: number }).margin, 0.1);
  }
});

Deno.test("a row that lacks a column or has a wrong value is refused with its place", () => {
  const pair = { prompt: "a", chosen: "b", rejected: "c" };
  assert.throws(
    () => parse(pair, { prompt: "a", rejected: "c" }),
    /Cannot read x row 2: "chosen" is missing\. Expected columns prompt, chosen, rejected or chosen, rejected\./,
  );
  assert.throws(() => parse({ ...pair, chosen: 3 }), /"chosen" is neither text nor a list of messages/);
  assert.throws(() => parse({ ...pair, margin: "0.5" }), /"margin" is "0\.5"\. Expected a number/);
  assert.throws(() => parse({ messages: [] }), /"messages" is neither text nor a list of messages/);
  assert.throws(
    () => parse({ messages: [{ from: "human", value: "x" }] }),
    /a message of "messages" is not \{"role": text, "content": text\}/,
  );
  assert.throws(
    () => parse({ prompt: "a", completion: [assistant("b")] }),
    /some columns are text and some are conversations/,
  );
  assert.throws(
    () => parse({ prompt: "a", completion: "b", label: 2 }),
    /"label" is 2\. Expected true or false/,
  );
  assert.throws(() => parse(), /The dataset has no rows/);
});

Deno.test("implicit prompts are split as TRL splits them", () => {
  const { extract_prompt: cases } = JSON.parse(Deno.readTextFileSync(golden("trl/data_utils.json")));
  for (const { input, out } of cases) assert.deepEqual(extractPrompt(input.chosen, input.rejected), out);
  const turns = [user("hi"), assistant("hello"), user("colour?")];
  assert.deepEqual(extractPrompt([...turns, assistant("blue")], [...turns, assistant("green")]), {
    prompt: turns,
    chosen: [assistant("blue")],
    rejected: [assistant("green")],
  });
});

Deno.test("a dialogue's prompt ends at the last shared turn of the assistant, even if the answers begin alike", () => {
  const shared = "\n\nHuman: a?\n\nAssistant: b\n\nHuman: c?\n\nAssistant:";
  const split = extractPrompt(`${shared} I am sure.`, `${shared} I am not.\n\nHuman: d\n\nAssistant: e`);
  assert.deepEqual(split, {
    prompt: shared,
    chosen: " I am sure.",
    rejected: " I am not.\n\nHuman: d\n\nAssistant: e",
  });
  const { examples } = parse({ chosen: `${shared} x`, rejected: `${shared} y` });
  assert.equal(promptOf(examples[0]), shared);
  assert.equal(promptOf(parse({ text: "a" }).examples[0]), undefined);
});

assetTest("every pair of hh-rlhf splits into a prompt that ends with the assistant's turn", async () => {
  const { type, examples } = parseExamples(
    await readDataset(asset("data/hh-rlhf-harmless-base-test.jsonl.gz")),
  );
  assert.equal(type, "preference with implicit prompt");
  for (const example of examples) {
    const { chosen, rejected } = example as { chosen: string; rejected: string };
    const split = extractPrompt(chosen, rejected);
    assert.ok(split.prompt.endsWith("\n\nAssistant:"), JSON.stringify([chosen, rejected]));
    assert.deepEqual([split.prompt + split.chosen, split.prompt + split.rejected], [chosen, rejected]);
  }
});
