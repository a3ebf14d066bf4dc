/** schemathesis, which reads the OpenAPI document and sends what it allows and what it does not, against a real server. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { withDirectory } from "../assets.ts";
import { python, pythonTest } from "../python.ts";
import { bits, client, sftRun, startServer } from "./server.ts";

const CONFIG = new URL("schemathesis.toml", import.meta.url).pathname;

pythonTest(
  "thousands of requests of schemathesis get what the document says, and change no bit of a run that goes",
  async () => {
    await withDirectory(async (directory) => {
      const runsDir = join(directory, "runs"), server = await startServer(runsDir), api = client(server.url);
      const make = (id: string, steps: number) =>
        api.expect(201, "POST", "/runs", { id, ...sftRun(directory, { max_steps: steps }) });
      try {
        await make("mine", 1);
        await make("whole", 450);
        await api.until("whole", "finished");
        await make("watched", 450);
        // What schemathesis makes waits behind it.
        await make("last", 1_000_000);
        const paused = api.until("last", ({ step }) => step > 0)
          .then(() => api.expect(200, "POST", "/runs/last/pause?wait=30"));

        const report = join(directory, "report.json");
        const given = [`${server.url}/openapi.json`, "--url", server.url, "--seed", "1", "--no-color"];
        const reports = ["--report", "json", "--report-json-path", report];
        await python(["-m", "schemathesis.cli", "--config-file", CONFIG, "run", ...given, ...reports], {
          cwd: directory,
        });
        const { operations, test_cases, failures, errors } = JSON.parse(Deno.readTextFileSync(report));
        assert.deepEqual([failures, errors, operations.errored, operations.skipped], [[], [], 0, 0]);
        assert.equal(operations.tested, operations.total);
        assert.ok(test_cases.generated > 3000, `${test_cases.generated} requests`);

        await paused;
        const { state, pending } = await api.expect(200, "GET", "/runs/watched");
        assert.deepEqual([state, pending], ["finished", []]);
        assert.deepEqual((await api.expect(200, "GET", "/runs/watched/requests")).requests, []);
        assert.deepEqual(bits(join(runsDir, "watched"), ["sft"]), bits(join(runsDir, "whole"), ["sft"]));
        assert.doesNotMatch(server.said(), /^\s+at /m, server.said());
      } finally {
        const { runs } = await api.expect(200, "GET", "/runs?state=queued&limit=500");
        for (const { id } of runs) await api.call("POST", `/runs/${id}/stop`);
        await api.call("POST", "/runs/last/kill");
        await server.stop();
      }
    });
  },
);
