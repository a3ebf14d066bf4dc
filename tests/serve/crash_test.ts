/** Runs and servers that are killed. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { openState } from "../../serve/state.ts";
import { withDirectory } from "../assets.ts";
import { startKeel } from "../cli/keel.ts";
import { bits, client, sftRun, startServer, until } from "./server.ts";

const NAMES = ["one", "two", "three"];

Deno.test("a run that is killed is reported with its last events, and resumed it ends with the bits of one that was not", async () => {
  await withDirectory(async (directory) => {
    const runsDir = join(directory, "runs"), server = await startServer(runsDir);
    try {
      const api = client(server.url);
      await api.expect(201, "POST", "/runs", { id: "killed", ...sftRun(directory) });
      const { pid, step } = await api.until("killed", (run) => run.step > 30);
      Deno.kill(pid, "SIGKILL");
      const failed = await api.until("killed", "failed");
      assert.equal(failed.failure.signal, "SIGKILL");
      assert.ok(failed.step >= step);
      assert.equal(failed.events.at(-1).kind, "started");

      // A run that cannot begin says why, and the server goes on.
      const missing = {
        ...sftRun(directory, { model_name_or_path: join(directory, "nowhere") }),
        id: "wrong",
      };
      await api.expect(201, "POST", "/runs", missing);
      const wrong = await api.until("wrong", "failed");
      assert.equal(wrong.failure.code, 1);
      assert.match(wrong.failure.message, /exit code 1 .*nowhere/);

      await api.expect(202, "POST", "/runs/killed/resume");
      await api.until("killed", "finished");
      await api.expect(201, "POST", "/runs", { id: "whole", ...sftRun(directory) });
      await api.until("whole", "finished");
      assert.deepEqual(bits(join(runsDir, "killed"), ["sft"]), bits(join(runsDir, "whole"), ["sft"]));
    } finally {
      await server.stop();
    }
  });
});

Deno.test("a run that was started by hand is found, steered, and resumed with the settings that it had", async () => {
  await withDirectory(async (directory) => {
    const runsDir = join(directory, "runs"), server = await startServer(runsDir);
    try {
      const api = client(server.url);
      const { options } = sftRun(directory, { max_steps: 2000, max_length: 12 }) as { options: object };
      const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, `${value}`]);
      const child = startKeel(["sft", ...flags, "--output_dir", join(runsDir, "by-hand")]);
      const status = child.output();
      await until("it is found", async () => (await api.call("GET", "/runs/by-hand")).status === 200);
      await api.until("by-hand", (run) => run.step > 2);
      const stopped = await api.expect(200, "POST", "/runs/by-hand/stop?wait=30");
      assert.equal((await status).code, 130);
      const run = await api.until("by-hand", "stopped");
      assert.equal(run.step, stopped.request.step);
      await api.expect(202, "POST", "/runs/by-hand/resume");
      await api.until("by-hand", (run) => run.step > stopped.request.step);
      const { config, failure } = await api.expect(200, "GET", "/runs/by-hand");
      assert.deepEqual([config.options.maxSteps, config.options.maxLength, failure], [2000, 12, null]);
      const { events } = await api.expect(200, "GET", "/runs/by-hand/events");
      assert.ok(events.every(({ kind }: { kind: string }) => kind !== "settings_changed"));
      await api.expect(200, "POST", "/runs/by-hand/kill");
    } finally {
      await server.stop();
    }
  });
});

Deno.test("a server that is killed in the middle of its queue, again and again, starts every run once and loses none", async () => {
  await withDirectory(async (directory) => {
    const runsDir = join(directory, "runs");
    let server = await startServer(runsDir);
    let api = client(server.url);
    for (const id of NAMES) {
      await api.expect(201, "POST", "/runs", { id, ...sftRun(directory, { max_steps: 150 }) });
    }
    const again = async () => {
      await server.kill();
      server = await startServer(runsDir);
      api = client(server.url);
    };
    try {
      assert.deepEqual(
        await Promise.all(NAMES.map(async (id) => (await api.expect(200, "GET", `/runs/${id}`)).state)),
        [
          "going",
          "queued",
          "queued",
        ],
      );
      await again();
      const found = await api.until("one", ({ state }) => state !== "queued");
      assert.notEqual(found.state, "failed");

      // The process was started, but the server was killed before it had noted that.
      const { pid } = await api.until("two", ({ step }) => step > 0);
      await api.expect(200, "POST", "/runs/two/pause?wait=30");
      await server.kill();
      const state = openState(join(runsDir, "serve.db"));
      const process = state.process("two");
      state.enqueue({ run: "two" });
      state.close();
      server = await startServer(runsDir);
      api = client(server.url);
      const two = await api.expect(200, "GET", "/runs/two");
      assert.equal(process!.pid, pid);
      assert.deepEqual([two.state, two.pid], ["paused", pid]);
      assert.ok(two.journal.some(({ what }: { what: string }) => what === "found"));
      await api.expect(200, "POST", "/runs/two/resume?wait=30");

      // Killed at other moments, until all is done.
      for (let kills = 0; kills < 3; kills++) {
        await again();
        await new Promise((resolve) => setTimeout(resolve, 150 * kills));
      }
      for (const id of NAMES) await api.until(id, "finished");
      const results = NAMES.map((id) => bits(join(runsDir, id), ["sft"]));
      assert.deepEqual(results[1], results[0]);
      assert.deepEqual(results[2], results[0]);
      for (const id of NAMES) {
        const log = Deno.readTextFileSync(join(runsDir, id, "log.txt"));
        assert.doesNotMatch(log, /is using it/, `${id} was started twice`);
      }
      const said = await startServer(runsDir).then(() => "", (error) => String(error.message));
      assert.match(said, /Cannot serve .*runs: process \d+ .* serves it already/);
      const { port } = new URL(server.url);
      const elsewhere = await startServer(join(directory, "other"), "--port", port)
        .then(() => "", (error) => String(error.message));
      assert.match(elsewhere, new RegExp(`Cannot listen at 127.0.0.1:${port}: .*--port`));
    } finally {
      await server.stop();
    }
  });
});

Deno.test("a server that is killed while it is asked for things leaves each of them asked once or not at all", async () => {
  await withDirectory(async (directory) => {
    const runsDir = join(directory, "runs");
    let server = await startServer(runsDir);
    let api = client(server.url);
    await api.expect(201, "POST", "/runs", { id: "mine", ...sftRun(directory, { max_steps: 1500 }) });
    const { pid } = await api.until("mine", (run) => run.step > 20);
    const rates = [1e-4, 2e-4, 3e-4, 4e-4];
    try {
      for (const learning_rate of rates) {
        const asked = [
          api.call("PATCH", "/runs/mine/knobs", { body: { learning_rate } }),
          api.call("POST", "/runs/mine/checkpoint"),
          api.call("POST", "/runs/mine/roll_back", { body: { step: 20 } }),
        ].map((answer) => answer.then(({ status }) => status, () => 0));
        await Promise.race(asked);
        await server.kill();
        const statuses = await Promise.all(asked);
        server = await startServer(runsDir);
        api = client(server.url);
        const { requests } = await api.expect(200, "GET", "/runs/mine/requests");
        const known = statuses.filter((status) => status === 202).length;
        assert.ok(requests.length >= known, `${requests.length} of ${known}`);
      }
      const { requests } = await api.expect(200, "GET", "/runs/mine/requests");
      for (const rate of rates) {
        const same = requests.filter(({ detail }: { detail: Record<string, number> }) =>
          detail.learning_rate === rate
        );
        assert.ok(same.length <= 1);
      }
      const run = await api.until("mine", ({ pending }) => pending.length === 0);
      assert.deepEqual([run.state, run.pid, run.failure], ["going", pid, null]);
      await api.expect(200, "POST", "/runs/mine/kill");
    } finally {
      await server.stop();
    }
  });
});

Deno.test("Ctrl-C of the server leaves its runs going and says how to come back", async () => {
  await withDirectory(async (directory) => {
    const runsDir = join(directory, "runs");
    let server = await startServer(runsDir);
    let api = client(server.url);
    await api.expect(201, "POST", "/runs", { id: "mine", ...sftRun(directory) });
    await api.until("mine", (run) => run.step > 2);
    assert.equal(await server.stop(), 0);
    assert.match(
      server.said(),
      /The server has ended; mine goes on\. keel serve --runs_dir \S+ finds it again\./,
    );
    server = await startServer(runsDir);
    api = client(server.url);
    try {
      const done = await api.until("mine", "finished");
      assert.equal(done.journal.filter(({ what }: { what: string }) => what === "started").length, 1);
    } finally {
      await server.stop();
    }
  });
});
