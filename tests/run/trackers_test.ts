import assert from "node:assert/strict";
import { basename, join } from "node:path";
import { randomStream } from "../../src/random/stream.ts";
import type { SavedCheckpoint } from "../../src/run/checkpoint.ts";
import { openRun, type OpenRunOptions, type Run, type StageRun } from "../../src/run/run.ts";
import { openStore, type RunStore } from "../../src/run/store.ts";
import { type TrackerName, TRACKERS } from "../../src/run/trackers/tracker.ts";
import { withDirectory } from "../assets.ts";
import { mount, mountable } from "../mount.ts";
import { smallRun } from "../train/small.ts";
import { asText, at, filesIn, readEvents, readWandb, wandbHistory, wandbItems } from "./trackers/readers.ts";

const SETTINGS = { learning_rate: 1e-3, max_length: null, report_to: [...TRACKERS], seed: 5 };

function open(dir: string, more: Partial<OpenRunOptions> = {}): Run {
  return openRun(dir, {
    config: { command: "sft", seed: 7, adapter: "", driver: "", options: {} },
    report: { to: [...TRACKERS], settings: SETTINGS },
    ...more,
  });
}

const weights = (step: number) => ({ model: { w: { shape: [1], data: Float32Array.of(step) } } });

/** Metrics of a step that no other step has; some of them are not finite. */
const metricsOf = (step: number) => ({
  loss: step === 3 ? NaN : 1 / step,
  "objective/kl": step === 4 ? Infinity : step === 2 ? -0 : -step,
  num_tokens: step * 2 ** 21,
  ...(step % 2 ? {} : { eval_loss: 2 / step }),
});

function steps(stage: StageRun, from: number, to: number): void {
  for (let step = from; step <= to; step++) stage.log(step, metricsOf(step));
}

/** Paths of what trackers have in a stage's folder. */
function paths(dir: string): Record<TrackerName, string> {
  const only = (folder: string, pattern: RegExp) => {
    const all = filesIn(join(dir, folder)).map((path) => join(dir, folder, path));
    const found = all.filter((path) => Deno.statSync(path).size > 0);
    assert.ok(all.length <= found.length + 1, `more than the last file was left, emptied: ${all}`);
    assert.equal(found.length, 1, `${folder}: ${found}`);
    assert.match(found[0].slice(join(dir, folder).length + 1), pattern);
    return found[0];
  };
  return {
    tensorboard: only("tb", /^events\.out\.tfevents\.\d{10}\..+\.keel$/),
    jsonl: join(dir, "metrics.jsonl"),
    wandb: only("wandb", /^offline-run-\d{8}_\d{6}-(keel[0-9a-f]{8})\/run-\1\.wandb$/),
  };
}

const jsonLines = (path: string): Record<string, unknown>[] =>
  Deno.readTextFileSync(path).trimEnd().split("\n").filter(Boolean).map((line) => JSON.parse(line));

/** A number, or its name; in JSON there is no −0. */
const plain = (value: number) => Number.isFinite(value) ? value + 0 : String(value);

/** Checks that every tracker shows each step of the database once, in order, and nothing else. */
function assertTracked(dir: string, store: RunStore, stage = "sft"): number {
  const rows = store.metrics(stage).map(({ step, name, value, time }) => ({ step, name, value, time }));
  const found = paths(dir);
  const at = new Map(rows.map(({ step, time }) => [step, time]));

  const lines = jsonLines(found.jsonl);
  assert.deepEqual(
    lines.map(({ step, stage, time }) => [step, stage, time]),
    [...at].map(([step, time]) => [
      step,
      stage,
      time,
    ]),
  );
  assert.deepEqual(
    lines.flatMap(({ step, stage: _, time, ...metrics }) =>
      Object.entries(metrics).map(([name, value]) => ({ step, name, value, time }))
    ),
    rows.map((row) => ({ ...row, value: plain(row.value) })),
  );

  const tagged = (name: string) => /^eval[_/]/.test(name) ? `eval/${name.slice(5)}` : `train/${name}`;
  assert.deepEqual(
    readEvents(found.tensorboard).scalars,
    rows.map(({ step, name, value, time }) => ({ step, time, tag: tagged(name), value: Math.fround(value) })),
  );

  const history = wandbHistory(found.wandb);
  assert.deepEqual(
    history.map(({ step, _step }) => [step, _step]),
    [...at.keys()].map((step) => [step, step]),
  );
  assert.deepEqual(
    history.flatMap(({ step: _, _step, _runtime, _timestamp, "train/global_step": step, ...values }) =>
      Object.entries(values).map(([tag, value]) => ({ step, time: _timestamp, tag, value }))
    ),
    rows.map(({ step, name, value, time }) => ({ step, time, tag: tagged(name), value: value + 0 })),
  );
  return at.size;
}

Deno.test("every tracker shows each step once, with transformers' names, and the settings", () =>
  withDirectory((dir) => {
    const run = open(dir), stage = run.stage("sft");
    stage.log(0, { "eval/kl": 0, "gold/reward": 0.5 });
    steps(stage, 1, 5);
    stage.samples(5, [
      { prompt: "a | b\nc", completion: "yes", tokens: 1, rewards: { score: 1.23456, kl: 0 } },
      { prompt: "q", completion: "no", tokens: 1, rewards: {}, split: "eval" },
    ]);
    stage.finish(5);
    assert.equal(assertTracked(dir, run.store), 6);

    const { tensorboard, wandb } = paths(dir), events = readEvents(tensorboard);
    assert.deepEqual([events.version, events.starts], ["brain.Event:2", true]);
    assert.deepEqual(events.texts.map(({ step, tag }) => [step, tag]), [
      [0, "args/text_summary"],
      [5, "samples/train/text_summary"],
      [5, "samples/eval/text_summary"],
    ]);
    assert.deepEqual(JSON.parse(events.texts[0].text), SETTINGS);
    assert.match(events.texts[1].text, /^\| a \\\| b<br>c \| yes \| score 1\.235, kl 0 \|$/m);

    const records = readWandb(wandb);
    assert.deepEqual(records.map((record) => record.get(1)![0]), records.map((_, i) => i + 1));
    const started = records[1].get(17)![0] as Uint8Array;
    assert.deepEqual(wandbItems(at(started, 4) as Uint8Array, 1), SETTINGS);
    assert.deepEqual([asText(at(started, 3)), asText(at(started, 8))], ["keel", basename(dir)]);
    assert.ok(wandb.includes(asText(at(started, 1))));
    const { _runtime, _timestamp } = wandbHistory(wandb)[0] as Record<string, number>;
    assert.ok(_runtime >= 0 && Math.abs((at(started, 17, 1) as number) + _runtime - _timestamp) < 1e-3);
    assert.deepEqual([...records.at(-1)!.keys()], [1, 18]);
    const summaries = records.filter((record) => record.has(3)).map((record) => record.get(3)![0]);
    assert.equal(wandbItems(summaries.at(-1) as Uint8Array, 1)["train/loss"], 1 / 5);
    assert.ok(filesIn(dir).every((path) => !path.includes(".tmp")));
    run.close();
  }));

Deno.test("files that are made anew have the bytes they had; TensorBoard's has a later name", () =>
  withDirectory((dir) => {
    const first = open(dir), stage = first.stage("sft");
    steps(stage, 1, 6);
    stage.checkpoint(6, weights(6), {});
    stage.finish(6);
    first.close();
    const before = paths(dir), read = (path: string) => Deno.readFileSync(path);
    const bytes = { jsonl: read(before.jsonl), wandb: read(before.wandb) };
    Deno.writeTextFileSync(`${before.wandb}.synced`, "");
    const second = open(dir, { resume: true });
    second.stage("sft");
    const after = paths(dir);
    assert.deepEqual([after.jsonl, after.wandb], [before.jsonl, before.wandb]);
    assert.deepEqual({ jsonl: read(after.jsonl), wandb: read(after.wandb) }, bytes);
    assert.ok(after.tensorboard > before.tensorboard, `${after.tensorboard} after ${before.tensorboard}`);
    assert.equal(assertTracked(dir, second.store), 6);
    second.close();
  }));

Deno.test("resuming shows no step that is about to be made again, and then each once", () =>
  withDirectory((dir) => {
    const first = open(dir), before = first.stage("sft");
    steps(before, 1, 4);
    before.checkpoint(4, weights(4), {});
    steps(before, 5, 7);
    assert.equal(assertTracked(dir, first.store), 7);
    first.close();
    const second = open(dir, { resume: true }), stage = second.stage("sft");
    assert.equal(assertTracked(dir, second.store), 4);
    steps(stage, 5, 9);
    assert.equal(assertTracked(dir, second.store), 9);
    second.close();
    const third = open(dir, { resumeFromCheckpoint: join(dir, "checkpoints/step-4") });
    third.stage("sft");
    assert.equal(assertTracked(dir, third.store), 4);
    third.close();
  }));

Deno.test("trackers follow a roll-back while the run goes", () =>
  withDirectory(async (dir) => {
    const run = open(dir), stage = run.stage("sft");
    steps(stage, 1, 3);
    stage.checkpoint(3, weights(3), {});
    steps(stage, 4, 8);
    stage.samples(8, [{ prompt: "p", completion: "c", tokens: 1, rewards: {} }]);
    const before = paths(dir).tensorboard;
    run.store.ask({ who: "test", kind: "roll_back", detail: { step: 3 } });
    const { rollBack } = await stage.listen(8, { check: () => undefined, checkpoint: async () => {} });
    assert.equal((rollBack as SavedCheckpoint).step, 3);
    assert.equal(assertTracked(dir, run.store), 3);
    const events = readEvents(paths(dir).tensorboard);
    assert.deepEqual(events.texts.map(({ tag }) => tag), ["args/text_summary"]);
    assert.ok(paths(dir).tensorboard > before);
    steps(stage, 4, 6);
    assert.equal(assertTracked(dir, run.store), 6);
    run.close();
  }));

Deno.test("each stage of a run has its own files, and nothing is written where nothing was asked for", () =>
  withDirectory((dir) => {
    const stages = ["sft", "ppo"], run = open(join(dir, "both"), { stages });
    for (const name of stages) {
      steps(run.stage(name), 1, 3);
      assert.equal(assertTracked(join(dir, "both", name), run.store, name), 3);
      const started = readWandb(paths(join(dir, "both", name)).wandb)[1].get(17)![0] as Uint8Array;
      assert.deepEqual([6, 7, 8].map((field) => asText(at(started, field))), ["both", name, `both/${name}`]);
    }
    run.close();
    const one = open(join(dir, "one"), { report: { to: ["jsonl"] } });
    steps(one.stage("sft"), 1, 2);
    one.close();
    const none = open(join(dir, "none"), { report: undefined });
    steps(none.stage("sft"), 1, 2);
    none.close();
    const usual = ["config.json", "lock", "run.db"];
    assert.deepEqual(filesIn(join(dir, "one")), [...usual.slice(0, 2), "metrics.jsonl", "run.db"]);
    assert.deepEqual(filesIn(join(dir, "none")), usual);
  }));

Deno.test("overwriting removes the trackers' files and nothing else beside them", () =>
  withDirectory((dir) => {
    const first = open(dir);
    steps(first.stage("sft"), 1, 2);
    first.close();
    const foreign = [
      "tb/events.out.tfevents.1.host",
      "wandb/offline-run-20200101_000000-abcdefgh/run-abcdefgh.wandb",
    ];
    for (const path of foreign) {
      Deno.mkdirSync(join(dir, path, ".."), { recursive: true });
      Deno.writeTextFileSync(join(dir, path), "mine");
    }
    const tidy = () => filesIn(dir).filter((path) => /^(tb|wandb|metrics)/.test(path));
    open(dir, { overwriteOutputDir: true, report: { to: [] } }).close();
    assert.deepEqual(tidy(), foreign);
    for (const path of foreign) Deno.removeSync(join(dir, path));
    open(dir, { overwriteOutputDir: true }).close();
    open(dir, { overwriteOutputDir: true, report: { to: [] } }).close();
    assert.deepEqual(tidy(), []);
  }));

Deno.test("a file that cannot be written is told of once, the run goes on, and resuming makes it", () =>
  withDirectory((dir) => {
    const failures = (run: Run) => run.store.events().filter(({ kind }) => kind === "tracker_failed");
    // From the beginning: something else has its name.
    Deno.mkdirSync(join(dir, "metrics.jsonl", "in the way"), { recursive: true });
    const first = open(dir), stage = first.stage("sft");
    steps(stage, 1, 4);
    stage.checkpoint(4, weights(4), {});
    assert.equal(failures(first).length, 1);
    assert.equal(failures(first)[0].detail.tracker, "jsonl");
    assert.match(
      first.notes.join("\n"),
      /^Cannot write the files of jsonl: .*metrics\.jsonl.*--resume makes/,
    );
    assert.equal(wandbHistory(paths(dir).wandb).length, 4);
    // In the middle: the file is gone, as on a disk that was taken away.
    Deno.removeSync(paths(dir).wandb);
    steps(stage, 5, 8);
    assert.deepEqual(failures(first).map(({ step, detail }) => [step, detail.tracker]), [[0, "jsonl"], [
      5,
      "wandb",
    ]]);
    assert.equal(first.notes.length, 2);
    assert.equal(first.store.metrics("sft", "loss").length, 8);
    assert.equal(new Set(readEvents(paths0(dir)).scalars.map(({ step }) => step)).size, 8);
    first.close();

    Deno.removeSync(join(dir, "metrics.jsonl"), { recursive: true });
    const second = open(dir, { resume: true });
    second.stage("sft");
    assert.equal(assertTracked(dir, second.store), 4);
    assert.deepEqual(second.notes, []);
    second.close();
  }));

/** TensorBoard's file, where the others need not be. */
const paths0 = (dir: string) => join(dir, "tb", filesIn(join(dir, "tb")).at(-1)!);

Deno.test({
  name: `a full disk takes a tracker and not the run, and with more room resuming makes its file${
    mountable ? "" : " (skipped: no right to mount)"
  }`,
  ignore: !mountable,
  fn: () =>
    withDirectory(async (dir) => {
      const disk = join(dir, "tb");
      Deno.mkdirSync(disk);
      assert.ok(await mount("-t", "tmpfs", "-o", "size=4096", "tmpfs", disk));
      try {
        const run = open(dir), stage = run.stage("sft");
        steps(stage, 1, 40);
        assert.match(run.notes.join("\n"), /^Cannot write the files of tensorboard: No space left on device/);
        assert.equal(run.notes.length, 1);
        assert.equal(run.store.metrics("sft", "loss").length, 40);
        assert.equal(wandbHistory(paths(dir).wandb).length, 40);
        stage.checkpoint(40, weights(40), {});
        run.close();
        assert.ok(await mount("-o", "remount,size=1m", disk));
        const again = open(dir, { resume: true });
        again.stage("sft");
        assert.equal(assertTracked(dir, again.store), 40);
        again.close();
      } finally {
        await new Deno.Command("umount", { args: [disk] }).output();
      }
    }),
});

const LOOP = new URL("trackers/tracked_loop.ts", import.meta.url).href;

Deno.test("a run killed at twelve random moments leaves files that show each step once", () =>
  withDirectory(async (dir) => {
    const rng = randomStream(Number(Deno.env.get("KEEL_TEST_SEED") ?? 1), "trackers");
    const seen: string[] = [];
    for (let kills = 0;;) {
      const child = new Deno.Command(Deno.execPath(), {
        args: [
          "run",
          "--quiet",
          "--no-check",
          "--allow-read",
          "--allow-write",
          "--allow-sys=hostname",
          LOOP,
          dir,
        ],
        stdout: "piped",
      }).spawn();
      let left = kills < 12 ? 1 + rng.integer(9) : Infinity;
      for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
        seen.push(...text.trim().split("\n"));
        left -= text.trim().split("\n").length;
        if (left <= 0) child.kill("SIGKILL");
      }
      const { code, signal } = await child.status;
      if (signal === null) {
        assert.equal(code, 0);
        break;
      }
      kills++;
    }
    assert.ok(seen.length > new Set(seen).size, "no step was made again");
    const store = openStore(join(dir, "run.db"));
    for (const stage of ["sft", "ppo"]) {
      assert.equal(assertTracked(join(dir, stage), store, stage), 30);
      const { texts } = readEvents(paths(join(dir, stage)).tensorboard);
      assert.deepEqual(texts.slice(1).map(({ step }) => step), Array.from({ length: 30 }, (_, i) => i + 1));
    }
    store.close();
  }));

Deno.test("the bits of a run are the same with trackers and without", () =>
  withDirectory(async (dir) => {
    const options = { maxSteps: 3 };
    const without = await smallRun(join(dir, "without"), { method: "ppo", options });
    const report = { to: [...TRACKERS] };
    const tracked = await smallRun(join(dir, "tracked"), { method: "ppo", options }, { report });
    const bits = ({ hashes, state, samples }: typeof tracked) => ({ hashes, state, samples });
    assert.deepEqual(bits(tracked), bits(without));
    const [rows, others] = ["without", "tracked"].map((name) => {
      const store = openStore(join(dir, name, "run.db"));
      if (name === "tracked") assertTracked(join(dir, name), store, "ppo");
      const metrics = store.metrics().map(({ time: _, ...row }) => row);
      store.close();
      return metrics;
    });
    assert.deepEqual(others, rows);
  }));
