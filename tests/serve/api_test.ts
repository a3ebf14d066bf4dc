/** Every path, method and status of the OpenAPI document, with a real server and real runs. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { createServer } from "../../serve/server.ts";
import { withDirectory } from "../assets.ts";
import { computing, ending, knobs, making, reading, steering } from "./api_story.ts";
import { Account, client, startServer } from "./server.ts";
import { slowRequest } from "./raw_request.ts";

Deno.test("a run is made, steered in every way, read and deleted, and every answer of the document has been seen", async () => {
  await withDirectory(async (directory) => {
    const runsDir = join(directory, "runs");
    const server = await startServer(runsDir);
    const document = await (await fetch(`${server.url}/openapi.json`)).json();
    assert.equal(document.openapi, "3.1.0");
    const account = new Account(document);
    const api = client(server.url, { account });
    try {
      // They take seconds, so they are on their way while the rest is tested.
      const slow = slowBodies(server.url, account);
      slow.catch(() => {});
      await unguarded(account, directory);
      await wrongBodies(api, account);

      await api.expect(200, "GET", "/healthz");
      await api.expect(200, "GET", "/readyz");
      const { methods } = await api.expect(200, "GET", "/methods");
      assert.equal(methods.ppo.properties.kl_coef.default, 0.05);
      assert.ok(!("output_dir" in methods.train.properties));
      assert.ok(methods.sft.required.includes("dataset_name"));

      await making(api, directory);
      await steering(api, runsDir);
      await reading(api, runsDir);
      await knobs(api);
      await ending(api, runsDir);
      await computing(api, runsDir);

      const system = await api.expect(200, "GET", "/system");
      assert.match(system.adapter, /\w/);
      const { text } = await api.call("GET", "/metrics");
      assert.match(text, /^keel_runs\{state="finished"\} 1$/m);
      assert.match(text, /^keel_run_metric\{run="whole",stage="ppo",metric="objective\/kl"\} /m);
      assert.match(
        text,
        /^keel_http_requests_total\{method="POST",route="\/runs\/:id\/pause",status="200"\} \d+$/m,
      );
      await slow;
      assert.deepEqual(account.expected().filter((name) => !account.seen.has(name)), []);
    } finally {
      assert.equal(await server.stop(), 0);
    }
    assert.doesNotMatch(server.said(), /^\s+at /m, server.said());
  });
});

type Api = ReturnType<typeof client>;

/** Statuses that stand before every route, from a server without a network. */
async function unguarded(account: Account, directory: string): Promise<void> {
  const said: string[] = [];
  const runsDir = join(directory, "guarded");
  const guarded = createServer({ runsDir, token: true, say: (line) => said.push(line) });
  const token = /: (\S{43})$/.exec(said[0])![1];
  const narrow = createServer({
    runsDir: join(directory, "narrow"),
    rate: { perSecond: 0.001, burst: 0 },
    say: () => {},
  });
  const anybody = client(guarded.fetch, { account }), trusted = client(guarded.fetch, { account, token });
  const hurried = client(narrow.fetch, { account });
  for (const { method, path, responses } of account.operations()) {
    const status = async (api: Api, headers?: Record<string, string>) =>
      (await api.call(method, path, { headers, ...(method === "POST" ? { body: {} } : {}) })).status;
    if (responses.includes("401")) {
      assert.equal(await status(anybody), 401, path);
      assert.equal(await status(anybody, { authorization: `Bearer ${token}x` }), 401, path);
      assert.notEqual(await status(trusted), 401, path);
    }
    if (responses.includes("403")) {
      assert.equal(await status(trusted, { origin: "http://evil.example" }), 403, path);
      assert.equal(await status(trusted, { host: "evil.example:8686" }), 403, path);
    }
    if (responses.includes("429")) assert.equal(await status(hurried), 429, path);
    if (responses.includes("405")) throw new Error("405 is of no documented method");
  }
  const own = await trusted.call("GET", "/runs", {
    headers: { origin: "http://localhost", host: "localhost" },
  });
  assert.equal(own.status, 200);
  assert.equal((await trusted.call("PUT", "/runs")).headers.get("allow"), "GET, POST");
  assert.equal((await trusted.call("GET", "/nothing")).status, 404);
  Deno.removeSync(runsDir, { recursive: true });
  assert.equal((await trusted.call("GET", "/readyz")).status, 503);
  await guarded.close();
  await narrow.close();
}

/** Routes that take a body. */
const bodies = (account: Account) =>
  account.operations().filter(({ responses }) => responses.includes("413"));

async function wrongBodies(api: Api, account: Account): Promise<void> {
  const type = { "content-type": "application/json" };
  const bad = new Uint8Array([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]);
  for (const { method, path } of bodies(account)) {
    const status = async (raw: BodyInit, headers: Record<string, string> = type) =>
      (await api.call(method, path, { raw, headers })).status;
    assert.equal(await status(bad), 400, "invalid UTF-8");
    assert.equal(await status("{"), 400, "cut off");
    assert.equal(await status("a=1", { "content-type": "application/x-www-form-urlencoded" }), 415);
    assert.equal(await status(" ".repeat(2 << 20)), 413);
  }
}

async function slowBodies(url: string, account: Account): Promise<void> {
  await Promise.all(
    bodies(account).map(async ({ method, path }) => {
      const text = await slowRequest(url, method, path);
      assert.match(text, /^HTTP\/1.1 408 /);
      account.note(method, path, { status: 408, headers: new Headers(), text, body: undefined });
    }),
  );
}
