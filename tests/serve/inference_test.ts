/** Completions and scores over HTTP against `keel sample` and `keel score` with the same models. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { keel, readLines, writeLines } from "../cli/keel.ts";
import { type Choice, events, OTHER, PROMPT, withRuns } from "./inference_runs.ts";
import type { Client, TestServer } from "./server.ts";

Deno.test("completions and scores are those of keel sample and keel score, whatever the form they come in", async () => {
  await withRuns(async (api, server, directory) => {
    const model = join(server.runsDir, "whole", "ppo", "model");
    const complete = (body: Record<string, unknown>) =>
      api.expect(200, "POST", "/v1/completions", { model: "whole", prompt: PROMPT, max_tokens: 20, ...body });
    const sampled = async (rows: unknown[], ...options: unknown[]) => {
      const input = writeLines(directory, "prompts.jsonl", rows), output = join(directory, "out.jsonl");
      const paths = ["--model", model, "--input", input, "--output", output];
      const { code, err } = await keel("sample", ...paths, "--max_new_tokens", 20, ...options);
      assert.equal(code, 0, err);
      // deno-lint-ignore no-explicit-any
      return readLines<any>(output);
    };
    const same = (choices: Choice[], rows: Record<string, unknown>[]) =>
      assert.deepEqual(
        choices.map(({ text, logprobs, finish_reason }) => [
          text,
          logprobs.token_logprobs,
          finish_reason,
        ]),
        rows.map(({ completion, logprobs, finish_reason }) => [completion, logprobs, finish_reason]),
      );

    const greedy = await complete({ temperature: 0, logprobs: 0, prompt: [PROMPT, OTHER] });
    const rows = await sampled([{ prompt: PROMPT }, { prompt: OTHER }], "--temperature", 0);
    same(greedy.choices, rows);
    assert.equal(greedy.model, "whole/ppo");
    assert.equal(greedy.object, "text_completion");
    const drawn = rows.reduce((sum, row) => sum + row.completion_ids.length, 0);
    assert.deepEqual(greedy.usage, {
      prompt_tokens: 10,
      completion_tokens: drawn,
      total_tokens: 10 + drawn,
    });
    const ids = rows.map((row) => row.prompt_ids);
    const byIds = await complete({ temperature: 0, logprobs: 0, prompt: ids });
    assert.deepEqual(byIds.choices, greedy.choices);
    const first = await complete({ temperature: 0, logprobs: 0, prompt: ids[0] });
    assert.deepEqual(first.choices, greedy.choices.slice(0, 1));

    const warm = { temperature: 0.8, top_p: 0.9, top_k: 40, seed: 7, logprobs: 0, n: 3, ignore_eos: true };
    const flags = ["--temperature", 0.8, "--top_p", 0.9, "--top_k", 40, "--seed", 7, "--ignore_eos"];
    const three = await complete(warm);
    same(three.choices, await sampled([{ prompt: PROMPT }], ...flags, "--num_return_sequences", 3));
    assert.equal(new Set(three.choices.map(({ text }: Choice) => text)).size, 3);
    for (const { text, logprobs } of three.choices as Choice[]) {
      assert.equal(logprobs.tokens.join(""), text);
    }

    // The same seed, the same answer: alone, beside others, and as a stream.
    const batch = await complete({ ...warm, prompt: [OTHER, PROMPT, PROMPT] });
    assert.deepEqual(batch.choices.map(({ index }: Choice) => index), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    for (const at of [3, 6]) {
      assert.deepEqual(
        batch.choices.slice(at, at + 3).map((choice: Choice) => ({ ...choice, index: choice.index - at })),
        three.choices,
      );
    }
    const { text: streamed, headers } = await api.call("POST", "/v1/completions", {
      body: {
        model: "whole",
        prompt: PROMPT,
        max_tokens: 20,
        ...warm,
        stream: true,
        stream_options: { include_usage: true },
      },
    });
    assert.equal(headers.get("content-type"), "text/event-stream");
    const chunks = events(streamed), last = chunks.pop()!;
    assert.deepEqual([last.choices, last.usage], [[], three.usage]);
    assert.ok(chunks.length > 3 && chunks.every(({ id, usage }) => id === last.id && usage === null));
    for (const choice of three.choices as Choice[]) {
      const parts = chunks.flatMap(({ choices }) => choices as Choice[])
        .filter(({ index }) => index === choice.index);
      assert.equal(parts.map(({ text }) => text).join(""), choice.text);
      assert.deepEqual(parts.flatMap(({ logprobs }) => logprobs.tokens), choice.logprobs.tokens);
      assert.deepEqual(
        parts.flatMap(({ logprobs }) => logprobs.token_logprobs),
        choice.logprobs.token_logprobs,
      );
      assert.deepEqual(parts.map(({ finish_reason }) => finish_reason).filter(Boolean), ["length"]);
    }
    const { choices: [one, two] } = await complete({
      ...warm,
      seed: undefined,
      prompt: [PROMPT, PROMPT],
      n: 1,
    });
    assert.notEqual(one.text, two.text);

    // A text ends before a stop string; as a stream, nothing of that is sent.
    const words = three.choices[0].text.split(" "), stop = words.slice(3, 5).join(" ");
    const at = three.choices[0].text.indexOf(stop);
    for (const given of [stop, ["nowhere", stop]]) {
      const { choices: [choice], usage } = await complete({ ...warm, n: 1, stop: given });
      assert.equal(choice.text, three.choices[0].text.slice(0, at));
      assert.equal(choice.finish_reason, "stop");
      assert.ok(usage.completion_tokens < 20);
      const body = {
        model: "whole",
        prompt: PROMPT,
        max_tokens: 20,
        ...warm,
        n: 1,
        stop: given,
        stream: true,
      };
      const parts = events((await api.call("POST", "/v1/completions", { body })).text)
        .flatMap(({ choices }) => choices as Choice[]);
      assert.equal(parts.map(({ text }) => text).join(""), choice.text);
      assert.equal(parts.at(-1)!.finish_reason, "stop");
      assert.deepEqual(
        parts.flatMap(({ logprobs }) => logprobs.token_logprobs),
        choice.logprobs.token_logprobs,
      );
    }

    await scores(api, server, directory, rows);
  });
});

/** Scores of what was sampled, with the policy and with the reward model. */
async function scores(
  api: Client,
  { runsDir }: TestServer,
  directory: string,
  // deno-lint-ignore no-explicit-any
  sampled: any[],
): Promise<void> {
  const texts = sampled.map(({ completion }, i) => ({
    prompt: [PROMPT, OTHER][i],
    completion: ` ${completion}`,
  }));
  const rows = [
    ...texts,
    { text: `${PROMPT} 8 <eos>` },
    ...sampled.map(({ prompt_ids, completion_ids }) => ({ input_ids: [...prompt_ids, ...completion_ids] })),
  ];
  const input = writeLines(directory, "rows.jsonl", rows), output = join(directory, "scores.jsonl");
  for (
    const [name, stage, body, flags] of [
      ["whole", "ppo", { temperature: 0.7 }, ["--temperature", 0.7]],
      ["whole/sft", "sft", { completion_only: true }, ["--completion_only"]],
      ["whole/reward", "reward", {}, []],
    ] as [string, string, object, unknown[]][]
  ) {
    const model = join(runsDir, "whole", stage, "model");
    const { code, err } = await keel(
      "score",
      "--model",
      model,
      "--input",
      input,
      "--output",
      output,
      ...flags,
    );
    assert.equal(code, 0, err);
    const answer = await api.expect(200, "POST", "/v1/score", { model: name, rows, ...body });
    assert.deepEqual(answer.rows, readLines(output), name);
    assert.equal(answer.model, `whole/${stage}`);
    const tokens = answer.rows.reduce(
      (sum: number, row: { input_ids: number[] }) => sum + row.input_ids.length,
      0,
    );
    assert.deepEqual(answer.usage, { prompt_tokens: tokens, total_tokens: tokens });
  }
  // What was drawn has the log-probabilities that it is scored with.
  const drawn = rows.slice(3);
  const scored = await api.expect(200, "POST", "/v1/score", { model: "whole", rows: drawn });
  sampled.forEach(({ prompt_ids, logprobs }, i) => {
    const tail: number[] = scored.rows[i].logprobs.slice(prompt_ids.length - 1);
    assert.equal(tail.length, logprobs.length);
    tail.forEach((x, t) => assert.ok(Math.abs(x - logprobs[t]) < 1e-5));
  });
}
