/** The OpenAPI document is enough for a stock generator: its client does all that a person would write requests for. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { createServer } from "../../serve/server.ts";
import { withDirectory } from "../assets.ts";
import { python, pythonTest } from "../python.ts";
import { sftRun, startServer } from "./server.ts";

const STORY = new URL("../python/generated_client.py", import.meta.url).pathname;

Deno.test("every operation of the document has a name for the functions of a client, and no two the same", async () => {
  await withDirectory(async (directory) => {
    const server = createServer({ runsDir: directory, say: () => {} });
    const { paths } = await (await server.fetch(new Request("http://localhost/openapi.json"))).json();
    const names = Object.entries<Record<string, { operationId?: string }>>(paths).flatMap((
      [path, operations],
    ) => Object.entries(operations).map(([method, { operationId }]) => operationId ?? `${method} ${path}`));
    await server.close();
    assert.deepEqual(names.filter((name) => !/^[a-z]\w*$/i.test(name)), []);
    assert.equal(new Set(names).size, names.length);
  });
});

pythonTest("a client made by openapi-python-client makes a run, steers it and reads it", async () => {
  await withDirectory(async (directory) => {
    const server = await startServer(join(directory, "runs"));
    try {
      const source = ["--url", `${server.url}/openapi.json`, "--output-path", join(directory, "keel_client")];
      await python([
        "-m",
        "openapi_python_client",
        "generate",
        "--meta",
        "none",
        "--fail-on-warning",
        ...source,
      ]);
      const run = JSON.stringify({ id: "generated", ...sftRun(directory, { max_steps: 4000 }) });
      const said = await python([STORY, server.url, run], { env: { PYTHONPATH: directory } });
      const { points, ...seen } = JSON.parse(said);
      assert.deepEqual(seen, {
        refused: ["options.dataset_name", "options.model_name_or_path", "options.seed"],
        made: ["generated", "sft", "going"],
        listed: ["generated"],
        paused: ["paused", "done"],
        from_step: 1,
        journal: [["learning_rate", 0.002]],
        resumed: "going",
        learning_rate: true,
        newest: true,
        config: "llama",
        samples: [],
        missing: "no_such_checkpoint",
      });
      assert.ok(points.length >= 3);
      assert.deepEqual(points, points.map((_: unknown, i: number) => ["loss", i + 1, true]));
    } finally {
      await server.stop();
    }
  });
});
