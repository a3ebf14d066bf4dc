/** Thousands of requests that nobody would think of: each gets an answer that the document knows. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { createServer } from "../../serve/server.ts";
import { openStore } from "../../src/run/store.ts";
import { withDirectory } from "../assets.ts";
import { random } from "../kernels/helpers.ts";
import { Account, client } from "./server.ts";

const REQUESTS = 3000;

/** A finished run without a process. */
function makeRun(dir: string): void {
  Deno.mkdirSync(join(dir, "checkpoints", "step-2"), { recursive: true });
  const config = {
    keel: "0",
    stages: ["sft"],
    command: "sft",
    seed: 1,
    adapter: "a",
    driver: "d",
    options: { maxSteps: 3 },
  };
  Deno.writeTextFileSync(join(dir, "config.json"), JSON.stringify(config));
  Deno.writeTextFileSync(join(dir, "done.json"), '{"step": 3}');
  const store = openStore(join(dir, "run.db"));
  for (let step = 1; step <= 3; step++) {
    store.appendMetrics("sft", step, { loss: step === 2 ? NaN : 1 / step, grad_norm: Infinity });
    store.appendSamples("sft", step, [{
      prompt: "a",
      completion: "b\u2603",
      tokens: 1,
      rewards: { gold: -Infinity },
    }]);
  }
  store.turnKnobs("sft", 2, { learning_rate: 0.5 }, { who: "test" });
  store.ask({ who: "test", kind: "pause" });
  store.close();
}

Deno.test("random requests over the whole document end in no error of the server and no status that it does not name", async () => {
  await withDirectory(async (directory) => {
    makeRun(join(directory, "mine"));
    const server = createServer({ runsDir: directory, rate: { perSecond: 1e6, burst: 1e6 }, say: () => {} });
    const { below } = random(20_26);
    const one = <T>(values: readonly T[]) => values[below(values.length)];
    const document = await (await server.fetch(new Request("http://localhost/openapi.json"))).json();
    const account = new Account(document), api = client(server.fetch, { account });
    const word = () =>
      one([
        "mine",
        "",
        "0",
        "-1",
        "1",
        "2",
        "1e9",
        "999999999999999",
        "9999999999999999",
        "NaN",
        "\u2603",
        "%",
        "a b",
        "..",
        "sft",
        "ppo",
        "json",
        "csv",
        "true",
        "null",
        "'",
        "loss",
        "step",
        "config.json",
      ]);
    const value = (depth = 0): unknown =>
      one<() => unknown>([
        word,
        word,
        () => below(7) - 3,
        () => 1e308,
        () => 0.5,
        () => null,
        () => one([true, false]),
        () => depth > 2 ? [] : Array.from({ length: below(3) }, () => value(depth + 1)),
        () => depth > 2 ? {} : object(depth + 1),
      ])();
    const object = (depth = 0): Record<string, unknown> =>
      Object.fromEntries(Array.from({ length: below(5) }, () => [
        one([
          "stage",
          "step",
          "id",
          "options",
          "queue",
          "learning_rate",
          "save_steps",
          "max_grad_norm",
          "model",
          "prompt",
          "messages",
          "rows",
          "stop",
          "max_tokens",
          "__proto__",
          word(),
        ]),
        value(depth),
      ]));
    const names = [
      "stage",
      "name",
      "from_step",
      "to_step",
      "max_points",
      "format",
      "split",
      "search",
      "limit",
      "offset",
      "after_row",
      "after",
      "tail",
      "state",
      "name",
    ];
    // Streams do not end, and the others start processes or remove the run that all is about.
    const operations = account.operations().filter(({ method, template }) =>
      method !== "DELETE" && !/stream|roll_back/.test(template)
    );
    try {
      for (let i = 0; i < REQUESTS; i++) {
        const { method, template } = one(operations);
        const path = template.replaceAll(
          /\{(\w+)\}/g,
          (_, name) => name === "id" && below(5) ? "mine" : encodeURIComponent(word()) || "x",
        );
        const query = new URLSearchParams(Array.from({ length: below(4) }, () => [one(names), word()]));
        const body = method === "GET" ? undefined : below(5) ? object() : value();
        const sent = {
          body,
          headers: one<Record<string, string>>([{}, {
            range: `bytes=${encodeURIComponent(word())}-${below(9)}`,
          }]),
        };
        const { status, text } = await api.call(method, `${path}?${query}`, sent);
        assert.ok(status < 500, `${method} ${path}?${query} ${JSON.stringify(body)}: ${status} ${text}`);
      }
      assert.equal((await api.expect(200, "GET", "/runs/mine")).state, "finished");
      assert.ok(account.seen.size > 45, String(account.seen.size));
    } finally {
      await server.close();
    }
  });
});
