/** The files of trackers as the tools themselves read them: TensorBoard's loader, and `wandb sync`. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openRun, type Run, type StageRun } from "../../../src/run/run.ts";
import { TRACKERS } from "../../../src/run/trackers/tracker.ts";
import { withDirectory } from "../../assets.ts";
import { python, pythonTest } from "../../python.ts";
import { filesIn } from "./readers.ts";

const READER = fileURLToPath(new URL("../../python/read_trackers.py", import.meta.url));

/** A run whose settings and samples are longer than a block of W&B's log. */
function longRun(dir: string): { run: Run; stage: StageRun } {
  const run = openRun(dir, {
    config: { command: "sft", seed: 0, adapter: "", driver: "", options: {} },
    report: {
      to: [...TRACKERS],
      settings: { learning_rate: 1e-3, notes: "ä".repeat(40_000), max_length: null },
    },
  });
  return { run, stage: run.stage("sft") };
}

const metricsOf = (step: number, scale = 1) => ({
  loss: step === 3 ? NaN : scale / step,
  "objective/kl": step === 4 ? Infinity : step,
  ...(step % 2 ? {} : { eval_loss: 2 / step }),
});

/** Step and value of a series as TensorBoard has it, in float32. */
const expected = (steps: number[], value: (step: number) => number) =>
  steps.map((step) => [step, String(Math.fround(value(step)))]);

/** Python's names of numbers as JavaScript's. */
const unnamed = (text: string) =>
  String({ nan: NaN, inf: Infinity, "-inf": -Infinity }[text] ?? Number(text));

const range = (to: number) => Array.from({ length: to }, (_, i) => i + 1);

pythonTest(
  "TensorBoard reads scalars and texts, and follows a roll-back while it watches",
  () =>
    withDirectory(async (directory) => {
      const dir = join(directory, "run"), before = join(directory, "before");
      const { run, stage } = longRun(dir);
      for (const step of range(12)) {
        stage.log(step, metricsOf(step));
        if (step === 5) stage.checkpoint(5, { model: { w: { shape: [1], data: new Float32Array(1) } } }, {});
      }
      stage.samples(12, [{ prompt: "p", completion: "c", tokens: 1, rewards: { score: 1 } }]);
      Deno.mkdirSync(before);
      for (const name of filesIn(join(dir, "tb"))) {
        Deno.copyFileSync(join(dir, "tb", name), join(before, name));
      }
      run.store.ask({ who: "test", kind: "roll_back", detail: { step: 5 } });
      await stage.listen(12, { check: () => undefined, checkpoint: async () => {} });
      for (let step = 6; step <= 8; step++) stage.log(step, metricsOf(step, 10));
      run.close();

      type Series = Record<string, [step: number, time: number, value: string][]>;
      const { first, second, watched } = JSON.parse(
        await python([READER, before, join(dir, "tb")]),
      ) as Record<
        string,
        Series
      >;
      const series = (from: Series, tag: string) =>
        from[tag].map(([step, _, value]) => [step, unnamed(value)]);
      const tags = ["args/text_summary", "eval/loss", "train/loss", "train/objective/kl"];
      assert.deepEqual(Object.keys(first).sort(), [
        tags[0],
        tags[1],
        "samples/train/text_summary",
        ...tags.slice(2),
      ]);
      assert.deepEqual(series(first, "train/loss"), expected(range(12), (step) => metricsOf(step).loss));
      assert.deepEqual(
        series(first, "train/objective/kl"),
        expected(range(12), (step) => metricsOf(step)["objective/kl"]),
      );
      assert.equal(first["samples/train/text_summary"][0][2].split("\n").at(-1), "| p | c | score 1 |");
      assert.equal(JSON.parse(first["args/text_summary"][0][2]).learning_rate, 1e-3);
      assert.deepEqual(Object.keys(second).sort(), tags);
      assert.deepEqual(
        series(second, "train/loss"),
        expected(range(8), (step) => metricsOf(step, step > 5 ? 10 : 1).loss),
      );
      for (const tag of tags) assert.deepEqual(watched[tag], second[tag], `${tag}, for one that watches`);
      assert.deepEqual(watched["samples/train/text_summary"], []);
    }),
);

/** What a server of W&B's would have been told. */
interface Uploaded {
  runs: Record<string, unknown>[];
  history: Record<string, unknown>[];
  complete: boolean;
}

/** A server that answers as much as `wandb sync` needs, on this machine. */
function wandbServer(): { url: string; uploaded: Uploaded; close(): Promise<void> } {
  const uploaded: Uploaded = { runs: [], history: [], complete: false };
  const lines: string[] = [];
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const { pathname } = new URL(request.url);
    const stream = request.headers.get("content-encoding") === "gzip"
      ? request.body!.pipeThrough(new DecompressionStream("gzip"))
      : request.body;
    const body = await new Response(stream).text();
    if (pathname.endsWith("/file_stream")) {
      const { files = {}, complete = false } = JSON.parse(body);
      const { offset = 0, content = [] } = files["wandb-history.jsonl"] ?? {};
      content.forEach((line: string, i: number) => lines[offset + i] = line);
      uploaded.complete ||= complete;
      // Numbers that JSON does not know stand bare in it.
      uploaded.history = lines.map((line) => JSON.parse(line.replaceAll(/:(NaN|-?Infinity)/g, ':"$1"')));
      return Response.json({});
    }
    if (pathname !== "/graphql") return Response.json({});
    const { query, variables } = JSON.parse(body);
    if (query.includes("upsertBucket")) {
      uploaded.runs.push(variables);
      const project = { id: "p", name: "keel", entity: { id: "e", name: "someone" } };
      const bucket = { id: "b", name: variables.name, config: "{}", project, historyLineCount: null };
      return Response.json({ data: { upsertBucket: { bucket, inserted: true } } });
    }
    if (query.includes("createRunFiles")) {
      const files = variables.files.map((name: string) => ({
        name,
        uploadUrl: new URL(`/${name}`, request.url),
      }));
      return Response.json({ data: { createRunFiles: { runID: "b", uploadHeaders: [], files } } });
    }
    return Response.json({ data: {} });
  });
  return { url: `http://127.0.0.1:${server.addr.port}`, uploaded, close: () => server.shutdown() };
}

pythonTest(
  "wandb sync uploads a run with its settings and each step once, and once more after it went on",
  () =>
    withDirectory(async (directory) => {
      const dir = join(directory, "run"), server = wandbServer();
      const sync = () =>
        python([
          "-m",
          "wandb",
          "sync",
          ...Array.from(Deno.readDirSync(join(dir, "wandb")), ({ name }) => join(dir, "wandb", name)),
        ], {
          cwd: directory,
          env: {
            HOME: directory,
            WANDB_BASE_URL: server.url,
            WANDB_API_KEY: "0".repeat(40),
            WANDB_ERROR_REPORTING: "false",
          },
        });
      const rows = (to: number) =>
        range(to).map((step) => {
          const { loss, eval_loss } = metricsOf(step) as Record<string, number>;
          return [step, step, Number.isFinite(loss) ? loss : String(loss), eval_loss];
        });
      const told = () =>
        server.uploaded.history.map((
          row,
        ) => [row._step, row["train/global_step"], row["train/loss"], row["eval/loss"]]);
      try {
        const { run, stage } = longRun(dir);
        for (const step of range(6)) stage.log(step, metricsOf(step));
        run.close();
        await sync();
        assert.deepEqual(told(), rows(6));
        const { name, displayName, jobType, project, config } = server.uploaded.runs[0];
        assert.match(name as string, /^keel[0-9a-f]{8}$/);
        assert.deepEqual([displayName, jobType, project], ["run", "sft", "keel"]);
        const settings = JSON.parse(config as string);
        assert.deepEqual([settings.learning_rate.value, settings.max_length.value], [1e-3, null]);
        assert.equal(settings.notes.value.length, 40_000);

        // As if it was killed: everything is made again, and more; what was uploaded is no reason to leave it out.
        const again = openRun(dir, {
          config: { command: "sft", seed: 0, adapter: "", driver: "", options: {} },
          report: { to: ["wandb"] },
          resume: true,
        });
        const second = again.stage("sft");
        for (const step of range(9)) second.log(step, metricsOf(step));
        second.finish(9);
        again.close();
        await sync();
        assert.deepEqual(told(), rows(9));
        assert.ok(server.uploaded.complete);
        assert.equal(new Set(server.uploaded.runs.map((one) => one.name)).size, 1);
      } finally {
        await server.close();
      }
    }),
);
