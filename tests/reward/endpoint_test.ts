/** Rewards over HTTP, with a server that a test starts. */
import assert from "node:assert/strict";
import { endpointReward } from "../../src/reward/endpoint.ts";
import { batchOf } from "./batches.ts";
import { startServer, type TestServer } from "./servers.ts";

/** OpenRLHF's answer for texts, by their length. */
function byLength(body: unknown): unknown {
  const { query } = body as { query: string[] };
  return {
    rewards: query.map(({ length }) => length / 2),
    scores: query.map(() => 0.5),
    extra_logs: { dummy: query.map(({ length }) => length), one: 3, "bad name": 1, text: "x" },
  };
}

async function withServer(use: (server: TestServer) => Promise<void>): Promise<void> {
  const server = startServer(byLength);
  try {
    await use(server);
  } finally {
    await server.close();
  }
}

const sourceOf = (url: string, labelColumn?: string) =>
  endpointReward({
    url: `${url}/get_reward?key=hidden`,
    timeout: 300,
    retries: 2,
    seed: 1,
    labelColumn,
    decode: (ids) => `<${ids.join(" ")}>`,
    wait: () => Promise.resolve(),
  });

Deno.test("queries, prompts and labels go out, rewards come back, further numbers become metrics", () =>
  withServer(async (server) => {
    const source = sourceOf(server.url, "answer");
    const batch = batchOf({
      prompts: ["p", [{ role: "user", content: "q" }]],
      completions: ["a", [{ role: "assistant", content: "b" }]],
      promptIds: [[1], [1, 2]],
      completionIds: [[3, 0], [4]],
      columns: { answer: ["x", null], other: [1, 2] },
    });
    assert.deepEqual(await source.score(batch), [3.5, 3.5]);
    assert.deepEqual(server.seen, [
      { query: ["<1 3 0>", "<1 2 4>"], prompts: ["p", "<1 2>"], labels: ["x", null] },
    ]);
    assert.deepEqual(source.metrics!(), { "reward_url/dummy": 7, "reward_url/one": 3 });
    await sourceOf(server.url).score(batch);
    assert.ok(!("labels" in server.seen[1]));
    await assert.rejects(
      sourceOf(server.url, "solution").score(batch),
      /has no column "solution", which reward_label_column names. It has answer, other/,
    );
  }));

Deno.test("a server that stumbles is asked again, one that answers nonsense is named", () =>
  withServer(async (server) => {
    const batch = batchOf({ completions: ["a", "b"] });
    server.interfere = (number) => number < 3 ? new Response("", { status: 503 }) : undefined;
    assert.equal((await sourceOf(server.url).score(batch)).length, 2);
    assert.equal(server.seen.length, 3);
    const where = `${server.url}/get_reward`;
    const nonsense: [BodyInit, string][] = [
      ["<html>", `${where} answers with "<html>", which is not JSON. Expected {"rewards": [...]}.`],
      ["[1, 2]", `${where} answers without "rewards". Expected {"rewards": [...]}.`],
      ['{"rewards": [1]}', `The server at ${where} returned 1 values for 2 completions. Expected 2.`],
      [
        '{"rewards": 3}',
        `The server at ${where} returned 3. Expected a list of 2 numbers, one per completion, or null.`,
      ],
      ['{"rewards": [1, "a"]}', `The server at ${where} returned "a" for completion 1.`],
      ['{"rewards": [1, 1e999]}', `The server at ${where} returned Infinity for completion 1.`],
    ];
    for (const [body, message] of nonsense) {
      server.interfere = () => new Response(body);
      await assert.rejects(sourceOf(server.url).score(batch), (error: Error) => {
        assert.ok(error.message.startsWith(message), error.message);
        return true;
      });
    }
    server.interfere = () => new Response('{"rewards": [null, 2]}');
    assert.deepEqual(await sourceOf(server.url).score(batch), [null, 2]);
    const never = Promise.withResolvers<Response>();
    server.interfere = () => never.promise;
    await assert.rejects(
      sourceOf(server.url).score(batch),
      new RegExp(`^Error: ${where} gives no answer within 0.3 s, after 3 attempts.$`),
    );
    never.resolve(new Response());
  }));
