/** Which models there are, conversations with them, and OpenAI's own client. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { BASE, type Choice, PROMPT, withRuns } from "./inference_runs.ts";
import { type Client, sftRun, type TestServer, until } from "./server.ts";

Deno.test("models have names, a conversation has the model's own form, and OpenAI's client understands it all", async () => {
  await withRuns(async (api, server, directory) => {
    const { data, truncated } = await api.expect(200, "GET", "/v1/models");
    assert.equal(truncated, false);
    // deno-lint-ignore no-explicit-any
    const listed = new Map<string, any>(data.map((model: { id: string }) => [model.id, model]));
    assert.deepEqual(
      ["chat", "whole", "whole/reward", "whole/sft", "whole/ppo@12", "whole/reward@12"]
        .map((name) => [listed.get(name)?.root, listed.get(name)?.kind, listed.get(name)?.step]),
      [
        ["chat/sft", "language", null],
        ["whole/ppo", "language", null],
        ["whole/reward", "reward", null],
        ["whole/sft", "language", null],
        ["whole/ppo@12", "language", 12],
        ["whole/reward@12", "reward", 12],
      ],
    );
    const created = data.map((model: { created: number }) => model.created);
    assert.deepEqual(created, created.toSorted((a: number, b: number) => b - a));
    for (
      const name of [
        "nothing",
        "whole/",
        "whole@7",
        "whole/ppo@",
        "whole/kto",
        "../whole",
        "whole/../chat",
        "WHOLE",
        "whole/ppo@3/x",
        "whole/ppo/model",
        "serve.db",
      ]
    ) {
      assert.ok(!listed.has(name));
      const { error } = await api.expect(404, "POST", "/v1/completions", { model: name, prompt: "a" });
      assert.equal(error.code, "no_such_model");
    }
    const reward = await api.expect(422, "POST", "/v1/completions", {
      model: "whole/reward",
      prompt: PROMPT,
    });
    assert.match(reward.error.message, /reward model.*\/v1\/score/);
    const text = async (name: string) => {
      const { choices } = await api.expect(200, "POST", "/v1/completions", {
        model: name,
        prompt: PROMPT,
        temperature: 0,
      });
      return choices[0].text;
    };
    assert.equal(await text("whole@12"), await text("whole"));
    assert.equal(await text("chat@40"), await text("chat/sft"));

    const messages = [
      { role: "user", content: "3 5" },
      { role: "assistant", content: "8" },
      { role: "user", content: "7 2" },
    ];
    const rendered = loadTokenizer(join(server.runsDir, "chat", "model"))
      .applyChatTemplate(messages, { addGenerationPrompt: true });
    assert.equal(rendered, "<user> 3 5 <bot> 8 <user> 7 2 <bot>");
    const options = { model: "chat", temperature: 0.9, seed: 5, n: 2, ignore_eos: true };
    const chat = await api.expect(200, "POST", "/v1/chat/completions", {
      ...options,
      messages,
      max_completion_tokens: 9,
      logprobs: true,
      user: "somebody",
      presence_penalty: 0,
      tools: [],
    });
    const ids = loadTokenizer(BASE).encode(rendered, { addSpecialTokens: false });
    const plain = await api.expect(200, "POST", "/v1/completions", {
      ...options,
      prompt: ids,
      max_tokens: 9,
      logprobs: 0,
    });
    assert.equal(chat.object, "chat.completion");
    assert.deepEqual(
      chat.choices.map(({ message, finish_reason }: { message: unknown; finish_reason: string }) => [
        message,
        finish_reason,
      ]),
      plain.choices.map(({ text, finish_reason }: Choice) => [
        { role: "assistant", content: text, refusal: null },
        finish_reason,
      ]),
    );
    // deno-lint-ignore no-explicit-any
    for (const [i, { logprobs: { content } }] of (chat.choices as any[]).entries()) {
      assert.deepEqual(
        content.map(({ token }: { token: string }) => token),
        plain.choices[i].logprobs.tokens,
      );
      assert.deepEqual(
        content.map(({ logprob }: { logprob: number }) => logprob),
        plain.choices[i].logprobs.token_logprobs,
      );
      assert.deepEqual(content[0].bytes, Array.from(new TextEncoder().encode(content[0].token)));
    }
    assert.deepEqual(chat.usage, plain.usage);
    // As much as there is room for, where nothing is said: the model has 64 positions.
    const long = await api.expect(200, "POST", "/v1/chat/completions", { ...options, messages });
    assert.equal(long.usage.completion_tokens, 2 * (64 - ids.length));
    const none = await api.expect(422, "POST", "/v1/chat/completions", { model: "whole", messages });
    assert.match(none.error.fields[0].message, /has no chat template/);

    await openAi(server);
    await moving(api, server, directory);
  });
});

/** The official client. */
async function openAi(server: TestServer): Promise<void> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--allow-all",
      "--no-lock",
      "--no-check",
      new URL("drive_openai.ts", import.meta.url).pathname,
      server.url,
      "chat",
      "3 5",
    ],
    stdout: "piped",
    stderr: "piped",
  }).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  assert.equal(code, 0, text(stderr));
  const seen = JSON.parse(text(stdout).trim().split("\n").at(-1)!);
  assert.ok(seen.names.includes("chat") && seen.names.includes("whole/ppo@12"));
  assert.equal(seen.pieces.join(""), seen.completion.choices[0].text);
  assert.ok(seen.completion.choices[0].text.length > 0);
  assert.deepEqual(seen.usage, seen.completion.usage);
  const said = ({ choices }: { choices: { message: Record<string, unknown>; finish_reason: string }[] }) =>
    choices.map(({ message, finish_reason }) => [message.role, message.content, finish_reason]);
  assert.deepEqual(said(seen.streamed), said(seen.chat));
  assert.equal(seen.chat.choices.length, 2);
  assert.deepEqual(
    seen.problems.map(({ status, code }: { status: number; code: string }) => [status, code]),
    [[404, "no_such_model"], [422, "invalid"]],
  );
  assert.match(seen.problems[1].message, /tools/);
}

/** A model that is rolled back or removed while it is loaded. */
async function moving(api: Client, { runsDir }: TestServer, directory: string): Promise<void> {
  const text = async (name: string) =>
    (await api.expect(200, "POST", "/v1/completions", {
      model: name,
      prompt: PROMPT,
      temperature: 0,
      logprobs: 0,
    }))
      .choices[0].logprobs.token_logprobs;
  await api.expect(201, "POST", "/runs", { id: "moving", ...sftRun(directory, { max_steps: 3000 }) });
  await api.until("moving", ({ step }) => step > 40);
  const paused = await api.expect(200, "POST", "/runs/moving/pause?wait=30");
  await api.expect(200, "POST", "/runs/moving/checkpoint?wait=30");
  const at = paused.request.step, before = await text("moving"), early = await text("moving@20");
  assert.deepEqual(await text(`moving/sft@${at}`), before);
  assert.notDeepEqual(early, before);
  await api.expect(200, "POST", "/runs/moving/roll_back?wait=30", { step: 20 });
  assert.deepEqual(await text("moving"), early);
  await api.expect(404, "POST", "/v1/completions", { model: `moving@${at}`, prompt: PROMPT });
  // Another checkpoint in the place of one that is loaded.
  const [from, to] = [join(runsDir, "whole/sft/model"), join(runsDir, "moving/checkpoints/step-20")];
  Deno.copyFileSync(join(from, "model.safetensors"), join(to, "other"));
  Deno.renameSync(join(to, "other"), join(to, "model.safetensors"));
  assert.deepEqual(await text("moving@20"), await text("whole/sft"));
  Deno.writeTextFileSync(join(to, "model.safetensors"), "damaged");
  const { error } = await api.expect(422, "POST", "/v1/completions", { model: "moving@20", prompt: PROMPT });
  assert.deepEqual(error.fields.map(({ path }: { path: string }) => path), ["model"]);
  await api.expect(200, "POST", "/runs/moving/kill");
  await until("it is dead", async () => (await api.expect(200, "GET", "/runs/moving")).pid === null);
  await api.expect(204, "DELETE", "/runs/moving");
  await api.expect(404, "POST", "/v1/completions", { model: "moving", prompt: PROMPT });
  await text("whole");
}
