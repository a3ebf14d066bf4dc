/** `keel sample` against PyTorch's greedy continuations, and what it says about rows that it cannot continue. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { asset, assetTest, golden, withDirectory } from "../assets.ts";
import { openGolden, unpad } from "../model/golden.ts";
import { keel, readLines, writeLines } from "./keel.ts";

interface Sampled {
  prompt_ids: number[];
  completion_ids: number[];
  completion: string | null;
  logprobs: number[];
  finish_reason: string;
}

async function sample(model: string, rows: unknown[], ...options: unknown[]): Promise<Sampled[]> {
  let sampled: Sampled[] = [];
  await withDirectory(async (directory) => {
    const input = writeLines(directory, "prompts.jsonl", rows), output = join(directory, "out.jsonl");
    const { code, out, err } = await keel(
      "sample",
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
    sampled = readLines(output);
  });
  return sampled;
}

/** Prompts of a golden and what PyTorch continued them with. */
function greedyGolden(directory: string) {
  const g = openGolden(directory), width = g.shape("gen.greedy_ids")[1];
  const { documents } = unpad(
    g.integers("gen.prompt_ids"),
    g.integers("gen.attention_mask"),
    g.shape("gen.prompt_ids"),
  );
  const rowsOf = (name: string) =>
    documents.map((_, i) => Array.from(g.integers(name).subarray(i * width, (i + 1) * width)));
  return { g, width, prompts: documents, rowsOf };
}

async function checkGreedy(directory: string): Promise<void> {
  const { width, prompts, rowsOf } = greedyGolden(directory);
  const rows = prompts.map((input_ids) => ({ input_ids }));
  const greedy = ["--temperature", 0, "--max_new_tokens", width];
  const sampled = await sample(directory, rows, ...greedy, "--ignore_eos");
  assert.deepEqual(sampled.map((row) => row.prompt_ids), prompts);
  assert.deepEqual(sampled.map((row) => row.completion_ids), rowsOf("gen.greedy_ids"));
  for (const row of sampled) {
    assert.equal(row.finish_reason, "length");
    assert.equal(row.logprobs.length, width);
  }
}

for (const name of ["tiny-llama", "tiny-llama-tied"]) {
  Deno.test(`${name} continues greedily as PyTorch does`, async () => {
    await checkGreedy(golden(`models/${name}`));
  });

  Deno.test(`${name} stops at its end token, which is part of the completion, or goes on`, async () => {
    await withDirectory(async (directory) => {
      const from = golden(`models/${name}`), { g, width, prompts, rowsOf } = greedyGolden(from);
      const eos = g.json.gen_eos_token_id as number;
      Deno.copyFileSync(join(from, "model.safetensors"), join(directory, "model.safetensors"));
      const config = JSON.parse(Deno.readTextFileSync(join(from, "config.json")));
      Deno.writeTextFileSync(
        join(directory, "config.json"),
        JSON.stringify({ ...config, eos_token_id: eos }),
      );
      const rows = prompts.map((input_ids) => ({ input_ids }));
      const greedy = ["--temperature", 0, "--max_new_tokens", width];
      const stopped = await sample(directory, rows, ...greedy);
      const want = rowsOf("gen.eos_greedy_ids").map((row) => {
        const end = row.indexOf(eos);
        return end < 0 ? row : row.slice(0, end + 1);
      });
      assert.deepEqual(stopped.map((row) => row.completion_ids), want);
      const reasons = want.map((row) => row.includes(eos) ? "stop" : "length");
      assert.ok(reasons.includes("stop"));
      assert.deepEqual(stopped.map((row) => row.finish_reason), reasons);
      const on = await sample(directory, rows, ...greedy, "--ignore_eos");
      assert.deepEqual(on.map((row) => row.completion_ids), rowsOf("gen.greedy_ids"));
    });
  });
}
assetTest("stories260K continues greedily as PyTorch does", async () => {
  await checkGreedy(asset("goldens/models/stories260K"));
});

assetTest("prompts are text, messages or ids, and the completion is text", async () => {
  const from = asset("goldens/models/stories260K");
  const { g, prompts } = greedyGolden(from), texts = g.json.prompts as string[];
  await withDirectory(async (model) => {
    for (const { name } of Deno.readDirSync(from)) Deno.copyFileSync(join(from, name), join(model, name));
    const template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}";
    Deno.writeTextFileSync(join(model, "chat_template.jinja"), template);
    const text = texts[0];
    const conversation = [{ role: "user", content: text }];
    // A completion beside the prompt is not what is to be continued.
    const rows = [{ prompt: text, completion: " it rained." }, { messages: conversation }, {
      prompt: conversation,
    }, {
      input_ids: prompts[0],
    }];
    const options = ["--temperature", 0, "--max_new_tokens", 20];
    const sampled = await sample(model, rows, ...options);
    assert.deepEqual(sampled[0].prompt_ids, prompts[0]);
    for (const row of sampled) assert.deepEqual(row, sampled[0]);
    const tokenizer = loadTokenizer(model);
    assert.equal(sampled[0].completion, tokenizer.decode(sampled[0].completion_ids));
    const whole = tokenizer.decode([...sampled[0].prompt_ids, ...sampled[0].completion_ids]);
    assert.ok((g.json.greedy_texts as string[])[0].startsWith(whole), whole);
  });
});

Deno.test("log-probabilities of drawn tokens are those that keel score gives", async () => {
  const model = golden("models/tiny-llama"), { prompts } = greedyGolden(model);
  const rows = prompts.map((input_ids) => ({ input_ids }));
  const options = ["--temperature", 0.7, "--max_new_tokens", 9, "--ignore_eos", "--seed", 4];
  const sampled = await sample(model, rows, ...options);
  await withDirectory(async (directory) => {
    const input = writeLines(
      directory,
      "rows.jsonl",
      sampled.map((row) => ({ input_ids: [...row.prompt_ids, ...row.completion_ids] })),
    );
    const { out } = await keel("score", "--model", model, "--input", input, "--temperature", 0.7);
    const scored = out.trimEnd().split("\n").map((line) => JSON.parse(line).logprobs as number[]);
    sampled.forEach((row, i) =>
      scored[i].slice(-9).forEach((x, t) => assert.ok(Math.abs(x - row.logprobs[t]) < 1e-5))
    );
  });
});

Deno.test("a seed determines the samples; several of a prompt differ and keep their place", async () => {
  const model = golden("models/tiny-llama"), rows = [{ input_ids: [3, 4] }, { input_ids: [9, 8, 7] }];
  const options = ["--max_new_tokens", 12, "--num_return_sequences", 3, "--ignore_eos", "--seed"];
  const first = await sample(model, rows, ...options, 1);
  assert.deepEqual(await sample(model, rows, ...options, 1), first);
  assert.notDeepEqual(await sample(model, rows, ...options, 2), first);
  assert.deepEqual(first.map((row) => row.prompt_ids.length), [2, 2, 2, 3, 3, 3]);
  assert.equal(new Set(first.map((row) => row.completion_ids.join())).size, 6);
  const twice = await sample(model, [rows[0], rows[0]], ...options, 1);
  assert.equal(new Set(twice.map((row) => row.completion_ids.join())).size, 6, "the same prompt twice");
  // There is no tokenizer beside this model, so ids are all there is.
  assert.ok(first.every((row) => row.completion === null));
});

Deno.test("top-k 1 and a tiny top-p draw the most likely token", async () => {
  const model = golden("models/tiny-llama"), { prompts, rowsOf, width } = greedyGolden(model);
  const rows = prompts.map((input_ids) => ({ input_ids }));
  for (const flag of ["--top_k=1", "--top_p=0.000001"]) {
    const sampled = await sample(model, rows, flag, "--max_new_tokens", width, "--ignore_eos");
    assert.deepEqual(sampled.map((row) => row.completion_ids), rowsOf("gen.greedy_ids"), flag);
  }
});

Deno.test("rows that cannot be continued are named with their file and line", async () => {
  const good = '{"input_ids": [1, 2]}';
  const bad: [string, RegExp][] = [
    ["{", /prompts\.jsonl line 2: it is not valid JSON/],
    ['{"text": "Why?"}', /line 2: it has the columns text\. Expected columns prompt, messages or input_ids/],
    ['{"messages": [{"role": "user"}]}', /line 2: a message of "messages" is not \{"role": text/],
    ['{"messages": []}', /line 2: "messages" is neither text nor a list of messages/],
    ['{"prompt": 7}', /line 2: "prompt" is neither text nor a list of messages/],
    ['{"input_ids": "1 2"}', /line 2: "input_ids" is not a list of token ids/],
    ['{"input_ids": [400]}', /line 2: token 400 is not in the model's vocabulary of 331/],
    [
      JSON.stringify({ input_ids: new Array(61).fill(3) }),
      /line 2: it has 61 tokens, and 4 new ones are wanted; the model has 64 positions\. .*max_new_tokens/,
    ],
  ];
  await withDirectory(async (directory) => {
    const input = join(directory, "prompts.jsonl"), model = golden("models/tiny-llama");
    for (const [line, message] of bad) {
      Deno.writeTextFileSync(input, `${good}\n${line}\n`);
      const { code, err, out } = await keel(
        "sample",
        "--model",
        model,
        "--input",
        input,
        "--max_new_tokens",
        4,
      );
      assert.equal(code, 1, line);
      assert.match(err, message);
      assert.equal(out, "");
    }
    Deno.writeTextFileSync(input, good + "\n");
    const { code, err } = await keel("sample", "--model", golden("models/tiny-llama-rm"), "--input", input);
    assert.equal(code, 1);
    assert.match(err, /it is a reward model\. Use a language model/);
  });
});
