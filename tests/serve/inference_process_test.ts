/** The process that computes: killed, full, left alone; and what is not asked of it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import type { HttpError } from "../../serve/http_error.ts";
import { openInference } from "../../serve/inference/process.ts";
import { isAlive } from "../../serve/process_table.ts";
import { withDirectory } from "../assets.ts";
import { PROMPT } from "./inference_runs.ts";
import { bits, client, sftRun, startServer, until } from "./server.ts";

Deno.test("a process that is killed, clients that go away and too many requests harm nobody else, nor a run that goes", async () => {
  await withDirectory(async (directory) => {
    const runsDir = join(directory, "runs"), server = await startServer(runsDir), api = client(server.url);
    let third = 0;
    const body = { model: "mine", prompt: PROMPT, seed: 1, temperature: 1, max_tokens: 40, ignore_eos: true };
    const system = async () => (await api.expect(200, "GET", "/system")).inference;
    const requests = (count: number) =>
      until(`${count} requests`, async () => (await system()).requests === count);
    const ask = (signal?: AbortSignal, stream = false) =>
      fetch(`${server.url}/v1/completions`, {
        method: "POST",
        body: JSON.stringify({ ...body, stream }),
        headers: { "content-type": "application/json" },
        signal,
      });
    try {
      assert.deepEqual(await system(), { pid: null, requests: 0 });
      await api.expect(201, "POST", "/runs", { id: "mine", ...sftRun(directory, { max_steps: 450 }) });
      await api.until("mine", ({ step }) => step > 20);
      const models = new Set<string>();
      for (let state = "going"; state === "going"; { state } = await api.expect(200, "GET", "/runs/mine")) {
        models.add((await api.expect(200, "POST", "/v1/completions", { ...body, n: 20 })).model);
        await api.expect(200, "POST", "/v1/score", { model: "mine", rows: [{ text: PROMPT }] });
      }
      assert.ok(models.size > 1, "it moves on with the run");
      await api.until("mine", "finished");
      const { pid } = await system();

      // Killed before it can answer: all who wait hear of it, and the next request has another.
      Deno.kill(pid, "SIGSTOP");
      const waiting = [ask(), ask(undefined, true), ask()];
      await requests(3);
      Deno.kill(pid, "SIGKILL");
      for (const response of await Promise.all(waiting)) {
        assert.equal(response.status, 503);
        const { error } = await response.json();
        assert.match(error.message, /was ended by SIGKILL.*The next request starts another/);
      }
      const want = (await api.expect(200, "POST", "/v1/completions", body)).choices;
      const second = (await system()).pid;
      assert.notEqual(second, pid);

      // Killed in the middle of a stream.
      const stream = await ask(undefined, true);
      Deno.kill(second, "SIGKILL");
      const seen = await stream.text();
      assert.match(seen, /data: (\[DONE\]|{"error":{"code":"inference_failed".*})\n\n$/);

      // Clients that go away, the one whose turn it is and one that waits.
      assert.deepEqual((await api.expect(200, "POST", "/v1/completions", body)).choices, want);
      third = (await system()).pid;
      Deno.kill(third, "SIGSTOP");
      const [first, waits] = [new AbortController(), new AbortController()];
      const gone = [ask(first.signal), ask(waits.signal, true)].map((one) => assert.rejects(one, /abort/));
      await requests(2);
      waits.abort();
      await requests(1);
      first.abort();
      await Promise.all(gone);

      // Too many.
      const many = Array.from({ length: 32 }, () => ask());
      await requests(33);
      const refused = await ask();
      assert.deepEqual([refused.status, refused.headers.get("retry-after")], [429, "5"]);
      await refused.body!.cancel();
      Deno.kill(third, "SIGCONT");
      for (const response of await Promise.all(many)) {
        assert.equal(response.status, 200);
        assert.deepEqual((await response.json()).choices, want);
      }
      assert.deepEqual(await system(), { pid: third, requests: 0 });

      await api.expect(201, "POST", "/runs", { id: "alone", ...sftRun(directory, { max_steps: 450 }) });
      await api.until("alone", "finished");
      assert.deepEqual(bits(join(runsDir, "mine"), ["sft"]), bits(join(runsDir, "alone"), ["sft"]));
      assert.doesNotMatch(server.said(), /^\s+at /m, server.said());
    } finally {
      await server.kill();
    }
    await until("it ends with the server", () => !isAlive(third, Date.now() / 1000));
  });
});

Deno.test("a process of which nothing is asked ends, and another is started when something is", async () => {
  await withDirectory(async (directory) => {
    const inference = openInference({ idle: 30 });
    try {
      const pids: number[] = [];
      for (let i = 0; i < 2; i++) {
        const answers = inference.ask({
          kind: "score",
          directory: join(directory, "removed"),
          rows: [{ ids: [1, 2] }],
          temperature: 1,
          completionOnly: false,
        });
        pids.push(inference.state().pid!);
        await assert.rejects(
          answers.getReader().read(),
          (error: HttpError) => error.status === 404 && error.code === "no_such_model",
        );
        await until("it has ended", () => inference.state().pid === null);
        await until("its process has", () => !isAlive(pids[i], Date.now() / 1000));
      }
      assert.notEqual(pids[0], pids[1]);
    } finally {
      await inference.close();
    }
  });
});

Deno.test("what keel does not do is refused by name, and so is too much", async () => {
  await withDirectory(async (directory) => {
    const server = await startServer(join(directory, "runs")), api = client(server.url);
    try {
      await api.expect(201, "POST", "/runs", { id: "mine", ...sftRun(directory, { max_steps: 2 }) });
      await api.until("mine", "finished");
      const messages = [{ role: "user", content: "3 5" }];
      const text = { model: "mine", prompt: PROMPT }, chat = { model: "mine", messages };
      const ids = (count: number) => new Array(count).fill(3);
      for (
        const [path, body, ...fields] of [
          ["completions", {}, "model", "prompt"],
          [
            "completions",
            { ...text, presence_penalty: 1, logit_bias: { 5: 1 } },
            "logit_bias",
            "presence_penalty",
          ],
          ["completions", { ...text, best_of: 2, echo: true, suffix: "x" }, "best_of", "echo", "suffix"],
          ["completions", { ...text, logprobs: 5, frequency_penalty: 0.1 }, "frequency_penalty", "logprobs"],
          ["completions", { ...text, tools: [], max_completion_tokens: 3 }, "max_completion_tokens", "tools"],
          [
            "completions",
            { ...text, temperature: -1, top_p: 0, top_k: -2, n: 0 },
            "n",
            "temperature",
            "top_k",
            "top_p",
          ],
          [
            "completions",
            { ...text, temperature: 101, max_tokens: 0, seed: 0.5 },
            "max_tokens",
            "seed",
            "temperature",
          ],
          ["completions", { ...text, stop: "" }, "stop"],
          ["completions", { ...text, stop: ["a", "b", "c", "d", "e"] }, "stop"],
          ["completions", { ...text, stream_options: { include_usage: true } }, "stream_options"],
          ["completions", { ...text, prompt: new Array(20).fill("3"), n: 20 }, "n"],
          ["completions", { ...text, prompt: new Array(65).fill("3") }, "prompt"],
          ["completions", { ...text, prompt: [] }, "prompt"],
          ["completions", { ...text, prompt: ["3", [3]] }, "prompt"],
          ["completions", { ...text, prompt: "zebra" }, "prompt"],
          ["completions", { ...text, prompt: [209] }, "prompt"],
          ["completions", { ...text, prompt: ids(64) }, "max_tokens"],
          ["completions", { ...text, max_tokens: 60 }, "max_tokens"],
          ["chat/completions", { ...chat, tools: [{}], tool_choice: "required" }, "tool_choice", "tools"],
          ["chat/completions", { ...chat, response_format: { type: "json_object" } }, "response_format.type"],
          [
            "chat/completions",
            { ...chat, top_logprobs: 2, store: true, audio: {} },
            "audio",
            "store",
            "top_logprobs",
          ],
          ["chat/completions", { ...chat, max_tokens: 3, max_completion_tokens: 4 }, "max_tokens"],
          [
            "chat/completions",
            { ...chat, messages: [...messages, { role: "assistant", content: "8" }] },
            "messages",
          ],
          [
            "chat/completions",
            { ...chat, messages: [{ role: "user", content: [{ type: "text" }] }] },
            "messages.0.content",
          ],
          ["chat/completions", chat, "messages"],
          ["score", { model: "mine", rows: [] }, "rows"],
          ["score", { model: "mine", rows: [{ prompt: "3" }] }, "rows.0"],
          ["score", { model: "mine", rows: [{ text: "3" }, { text: "zebra" }] }, "rows.1"],
          ["score", { model: "mine", rows: [{ input_ids: ids(65) }] }, "rows.0"],
        ] as [string, object, ...string[]][]
      ) {
        const { error } = await api.expect(422, "POST", `/v1/${path}`, body);
        assert.deepEqual(
          error.fields.map(({ path }: { path: string }) => path).sort(),
          fields,
          JSON.stringify(body),
        );
      }
      // With the values that mean nothing, all pass.
      await api.expect(200, "POST", "/v1/completions", {
        ...text,
        n: null,
        stop: null,
        stream: false,
        presence_penalty: 0,
        frequency_penalty: 0,
        logit_bias: {},
        best_of: 1,
        echo: false,
        suffix: null,
        logprobs: null,
        user: "somebody",
        top_k: -1,
      });
    } finally {
      await server.stop();
    }
  });
});
