/** What README.md says to a server, line by line, against a real one: only the address and the size of the runs are others. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { withDirectory } from "../assets.ts";
import { SMALL_TRAIN } from "../cli/keel.ts";
import { python, pythonTest } from "../python.ts";
import { client, startServer, type TestServer, until } from "../serve/server.ts";

const README = Deno.readTextFileSync(new URL("../../README.md", import.meta.url));

/** The commands that stand there, indented. */
const COMMANDS = Array.from(README.matchAll(/^ {4}(.+)$/gm), ([, line]) => line);

/** As README.md writes the options of its run, and a run of the same that takes seconds. */
const OPTIONS = '"options": {"kl_coef": 0}';
const SMALL = {
  ...SMALL_TRAIN,
  ppo_steps: 39,
  ppo_batch_size: 24,
  save_steps: 20,
  eval_steps: 4,
  kl_coef: 0,
};

function adapted(text: string, server: TestServer): string {
  return text.replaceAll("http://127.0.0.1:8686", server.url)
    .replaceAll(OPTIONS, `"options": ${JSON.stringify(SMALL)}`);
}

async function isThere(program: string): Promise<boolean> {
  try {
    return (await new Deno.Command(program, { args: ["--version"], stdout: "null", stderr: "null" }).output())
      .success;
  } catch {
    return false;
  }
}

const curl = await isThere("curl");

Deno.test({
  name: `the lines with curl start a run, follow it, turn a knob, roll back and ask the policy${
    curl ? "" : " (skipped: no curl)"
  }`,
  ignore: !curl,
  fn: () =>
    withDirectory(async (directory) => {
      const server = await startServer(directory), api = client(server.url);
      const names = COMMANDS.find((line) => line.startsWith("json="))!;
      const shell = (line: string) =>
        new Deno.Command("sh", {
          args: ["-c", adapted(`${names}\n${line}`, server)],
          stdout: "piped",
          stderr: "null",
        });
      const say = async (line: string) =>
        JSON.parse(new TextDecoder().decode((await shell(line).output()).stdout));
      const lines = COMMANDS.filter((line) => line.startsWith("curl "));
      const [create, follow, turn, rollBack, complete] = lines;
      try {
        assert.equal(lines.length, 5, lines.join("\n"));
        const made = await say(create);
        assert.deepEqual([made.id, made.state, made.method], ["mine", "going", "train"]);

        const following = shell(follow).spawn();
        let told = "";
        for await (const text of following.stdout.pipeThrough(new TextDecoderStream())) {
          told += text;
          if (/^event: metrics\ndata: .*"stage":"ppo"/m.test(told)) break;
        }
        following.kill();
        await following.status;

        assert.deepEqual((await say(turn)).request.detail, { kl_coef: 0.3 });
        await until("a checkpoint of step 20", async () => {
          const { checkpoints } = await api.expect(200, "GET", "/runs/mine/checkpoints");
          return checkpoints.some(({ stage, step }: { stage: string; step: number }) =>
            stage === "ppo" && step === 20
          );
        });
        const back = await say(rollBack);
        assert.ok(["going", "queued"].includes(back.state), JSON.stringify(back));
        await api.until("mine", "finished");
        const { events } = await api.expect(200, "GET", "/runs/mine/events");
        assert.ok(events.some(({ kind }: { kind: string }) => kind === "rolled_back"));
        const { stages } = await api.expect(200, "GET", "/runs/mine/knobs");
        assert.deepEqual(stages[2].journal.map(({ value }: { value: number }) => value), [0.3]);
        assert.match((await say(complete)).choices[0].text, /\w/);
      } finally {
        await server.stop();
      }
    }),
});

pythonTest("the lines of Python steer a run from a notebook, and with a generated client", async () => {
  await withDirectory(async (directory) => {
    const server = await startServer(join(directory, "runs")), api = client(server.url);
    const [notebook, generated] = Array.from(
      README.matchAll(/^```python\n([^]*?)^```/gm),
      ([, code]) => code,
    );
    assert.equal(notebook.trim().split("\n").length, 10);
    const show = 'print(json.dumps([made["id"], metrics[["eval/proxy", "gold/reward"]].dropna().shape]))';
    try {
      const said = await python(["-c", adapted(notebook + show, server)], { env: { MPLBACKEND: "agg" } });
      const [id, shape] = JSON.parse(said);
      assert.ok(shape[0] >= 5 && shape[1] === 2, `${shape}`);
      const { stages } = await api.expect(200, "GET", `/runs/${id}/knobs`);
      assert.deepEqual(
        stages[2].journal.map(({ name, value }: Record<string, unknown>) => [name, value]),
        [["kl_coef", 0.7]],
      );
      await api.until(id, "finished");

      await api.expect(201, "POST", "/runs", {
        id: "mine",
        method: "train",
        options: { ...SMALL, ppo_steps: 2000 },
      });
      const generate = COMMANDS.find((line) => line.includes("openapi-python-client generate"))!;
      const [, args] = adapted(generate, server).split("&& openapi-python-client ");
      await python(["-m", "openapi_python_client", ...args.split(" ")], { cwd: directory });
      await api.until("mine", ({ stage, step }) => stage === "ppo" && step > 0);
      const env = { PYTHONPATH: join(directory, "keel-client") };
      await python(["-c", adapted(generated, server)], { env });
      await until("β is turned", async () => {
        const { stages } = await api.expect(200, "GET", "/runs/mine/knobs");
        return stages[2].journal[0]?.value === 0.3;
      });
      await api.expect(200, "POST", "/runs/mine/kill");
    } finally {
      await server.stop();
    }
  });
});
