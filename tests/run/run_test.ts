import assert from "node:assert/strict";
import { join } from "node:path";
import { openRun, type OpenRunOptions } from "../../src/run/run.ts";
import { fromJson } from "../../src/run/json.ts";
import { withDirectory } from "../assets.ts";
import { numbers } from "./numbers.ts";

const config = (options: Record<string, unknown> = {}): OpenRunOptions["config"] => ({
  command: "sft",
  seed: 7,
  adapter: "a software adapter",
  driver: "a driver",
  options: { learningRate: 0.1, saveTotalLimit: undefined, ...options },
});

const files = (step: number) => ({ model: { w: { shape: [3], data: numbers(step, 3) } } });

/** A run that was stopped after step `last`, with checkpoints at the steps given. */
function stoppedRun(dir: string, last: number, checkpoints: number[]): void {
  const run = openRun(dir, { config: config() });
  const stage = run.stage("sft");
  for (let step = 1; step <= last; step++) {
    stage.log(step, { loss: step });
    if (checkpoints.includes(step)) stage.checkpoint(step, files(step), { step });
  }
  run.close();
}

Deno.test("config.json holds every setting, also those without a value", () =>
  withDirectory((dir) => {
    openRun(dir, { config: config() }).close();
    const written = fromJson(Deno.readTextFileSync(join(dir, "config.json"))) as Record<string, unknown>;
    assert.deepEqual(written.options, { learningRate: 0.1, saveTotalLimit: null });
    assert.deepEqual(
      [written.command, written.seed, written.adapter, written.driver, written.stages],
      ["sft", 7, "a software adapter", "a driver", ["sft"]],
    );
    assert.match(written.keel as string, /^\d+\.\d+\.\d+/);
  }));

Deno.test("a directory with a run is refused with the ways out, and nothing is changed", () =>
  withDirectory((dir) => {
    stoppedRun(dir, 3, [2]);
    assert.throws(
      () => openRun(dir, { config: config() }),
      /already holds a run of sft\. Continue it with --resume, choose another --output_dir, or replace it with --overwrite_output_dir/,
    );
    // The refusal gave the lock back.
    const run = openRun(dir, { config: config(), resume: true });
    assert.equal(run.stage("sft").newest()?.step, 2);
    run.close();
  }));

Deno.test("resuming starts at the newest checkpoint and drops what was logged after it", () =>
  withDirectory((dir) => {
    stoppedRun(dir, 5, [2, 4]);
    const run = openRun(dir, { config: config(), resume: true });
    const stage = run.stage("sft");
    const saved = stage.newest();
    assert.deepEqual([saved?.step, saved?.state, saved?.files], [4, { step: 4 }, files(4)]);
    assert.deepEqual(run.store.metrics("sft").map(({ step }) => step), [1, 2, 3, 4]);
    assert.deepEqual(run.notes, []);
    run.close();
  }));

Deno.test("resuming without a checkpoint starts from the beginning", () =>
  withDirectory((dir) => {
    stoppedRun(dir, 3, []);
    const run = openRun(dir, { config: config(), resume: true });
    assert.equal(run.stage("sft").newest(), undefined);
    assert.deepEqual(run.store.metrics(), []);
    run.close();
  }));

Deno.test("--resume in an empty directory starts a run", () =>
  withDirectory((dir) => {
    const run = openRun(join(dir, "new"), { config: config(), resume: true });
    assert.equal(run.stage("sft").newest(), undefined);
    run.close();
  }));

Deno.test("a torn checkpoint is passed over and noted", () =>
  withDirectory((dir) => {
    stoppedRun(dir, 4, [2, 4]);
    Deno.truncateSync(join(dir, "checkpoints/step-4/model.safetensors"), 10);
    const run = openRun(dir, { config: config(), resume: true });
    assert.equal(run.stage("sft").newest()?.step, 2);
    assert.match(run.notes[0], /step-4: model\.safetensors has 10 bytes.*passed over/);
    assert.ok(run.store.events().some(({ kind }) => kind === "checkpoint_skipped"));
    run.close();
  }));

Deno.test("starting from an earlier checkpoint of the run moves later ones aside", () =>
  withDirectory((dir) => {
    stoppedRun(dir, 6, [2, 4, 6]);
    const run = openRun(dir, { config: config(), resumeFromCheckpoint: join(dir, "checkpoints/step-2") });
    const stage = run.stage("sft");
    assert.equal(stage.newest()?.step, 2);
    assert.deepEqual(run.store.metrics("sft").map(({ step }) => step), [1, 2]);
    assert.match(run.notes[0], /Moved aside/);
    stage.checkpoint(3, files(3), {});
    assert.equal(stage.newest()?.step, 3);
    run.close();
  }));

Deno.test("starting from a checkpoint of one stage moves the stages after it aside", () =>
  withDirectory((dir) => {
    const stages = ["sft", "reward", "ppo"];
    const first = openRun(dir, { config: config(), stages });
    for (const name of stages) {
      const stage = first.stage(name);
      for (const step of [1, 2]) {
        stage.log(step, { loss: step });
        stage.checkpoint(step, files(step), {});
      }
      stage.finish(2);
    }
    first.close();
    const from = join(dir, "reward/checkpoints/step-1");
    const run = openRun(dir, { config: config(), stages, resumeFromCheckpoint: from });
    assert.equal(run.stage("sft").finished(), 2);
    assert.equal(run.stage("reward").finished(), undefined);
    assert.equal(run.stage("reward").newest()?.step, 1);
    assert.equal(run.stage("ppo").finished(), undefined);
    assert.equal(run.stage("ppo").newest(), undefined);
    assert.deepEqual(run.store.metrics().map(({ stage, step }) => `${stage} ${step}`), [
      "reward 1",
      "sft 1",
      "sft 2",
    ]);
    assert.match(run.notes.join(), /Moved aside, being made from what comes before: .*ppo/);
    run.close();
    const elsewhere = { config: config(), stages, resumeFromCheckpoint: join(dir, "step-1") };
    assert.throws(
      () => openRun(dir, elsewhere),
      /lies in none of their folders. Expected a folder .*ppo.checkpoints/,
    );
  }));

Deno.test("starting from another run's checkpoint uses it until there is a later one", () =>
  withDirectory((dir) => {
    stoppedRun(join(dir, "old"), 4, [4]);
    const path = join(dir, "old/checkpoints/step-4");
    const run = openRun(join(dir, "new"), { config: config(), resumeFromCheckpoint: path });
    const stage = run.stage("sft");
    assert.equal(stage.newest()?.path, path);
    stage.checkpoint(5, files(5), {});
    assert.equal(stage.newest()?.step, 5);
    run.close();
  }));

Deno.test("a changed setting is noted when a run is resumed", () =>
  withDirectory((dir) => {
    stoppedRun(dir, 2, [2]);
    const run = openRun(dir, { config: config({ learningRate: 0.2, resume: true }), resume: true });
    assert.deepEqual(run.notes, [
      "These settings differ from those of the run that is resumed: learningRate was 0.1 and is 0.2.",
    ]);
    run.close();
  }));

Deno.test("a directory whose config.json is not a run's is refused, even for overwriting", () =>
  withDirectory((dir) => {
    for (const text of ['{"architectures": ["LlamaForCausalLM"]}', "null", "[]"]) {
      Deno.writeTextFileSync(join(dir, "config.json"), text);
      for (const options of [{}, { resume: true }, { overwriteOutputDir: true }]) {
        assert.throws(
          () => openRun(dir, { config: config(), ...options }),
          /Cannot use .* for a run: its config\.json is not a run's/,
        );
        assert.equal(Deno.readTextFileSync(join(dir, "config.json")), text);
      }
    }
  }));

Deno.test("overwriting removes the run and nothing else", () =>
  withDirectory((dir) => {
    stoppedRun(dir, 2, [2]);
    Deno.writeTextFileSync(join(dir, "notes.txt"), "mine");
    const run = openRun(dir, { config: config(), overwriteOutputDir: true });
    assert.equal(run.stage("sft").newest(), undefined);
    assert.deepEqual(run.store.metrics(), []);
    assert.equal(Deno.readTextFileSync(join(dir, "notes.txt")), "mine");
    run.close();
  }));

Deno.test("stages of one run have folders of their own and are resumed on their own", () =>
  withDirectory((dir) => {
    const options = { config: { ...config(), command: "train" }, stages: ["sft", "ppo"] };
    const first = openRun(dir, options);
    const sft = first.stage("sft");
    sft.log(1, { loss: 1 });
    sft.checkpoint(1, files(1), {});
    sft.finish(1);
    const ppo = first.stage("ppo");
    ppo.log(0, { reward: 0 });
    ppo.log(1, { reward: 1 });
    first.close();
    assert.equal(ppo.dir, join(dir, "ppo"));

    const second = openRun(dir, { ...options, resume: true });
    assert.equal(second.stage("sft").finished(), 1);
    assert.equal(second.stage("ppo").finished(), undefined);
    assert.deepEqual(second.store.metrics().map(({ stage, step }) => [stage, step]), [["sft", 1]]);
    assert.throws(() => second.stage("dpo"), /no stage "dpo"\. Expected sft, ppo/);
    second.close();
    assert.throws(() => openRun(dir, { config: config(), resume: true }), /holds a run of train/);
  }));

Deno.test("an event stands at its own step or at the one that was logged last", () =>
  withDirectory((dir) => {
    const run = openRun(dir, { config: config() });
    const stage = run.stage("sft");
    stage.log(4, { loss: 1 });
    stage.event("note");
    stage.event("non_finite", { step: 5 });
    assert.deepEqual(run.store.events("sft").map(({ step, kind }) => [step, kind]), [[4, "note"], [
      5,
      "non_finite",
    ]]);
    run.close();
  }));

Deno.test("half-written checkpoints of a killed process are removed", () =>
  withDirectory((dir) => {
    stoppedRun(dir, 2, [2]);
    Deno.mkdirSync(join(dir, "checkpoints/step-3.tmp-12345"));
    const run = openRun(dir, { config: config(), resume: true });
    run.stage("sft");
    assert.deepEqual(Array.from(Deno.readDirSync(join(dir, "checkpoints")), ({ name }) => name), ["step-2"]);
    run.close();
  }));
