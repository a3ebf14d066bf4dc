/** Ctrl-C and a full disk in the middle of a run: what is said, and that nothing is lost. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { openStore } from "../../src/run/store.ts";
import { withDirectory } from "../assets.ts";
import { mount, mountable } from "../mount.ts";
import { flags, keel, spawnKeel, startKeel, writeLines } from "./keel.ts";

const BASE = new URL("../../src/parrot/base", import.meta.url).pathname;

const ROWS = Array.from({ length: 24 }, (_, i) => {
  const prompt = `<user> ${i % 9} ${(i * 5) % 8} <bot>`;
  return { prompt, completion: ` ${i % 17}`, chosen: ` ${i % 17}`, rejected: ` ${(i + 3) % 17} 2` };
});

/** Steps that take a second or two: long enough to be stopped in their middle. */
const STEPS: Record<string, number> = { sft: 200, reward: 250, ppo: 20 };

/** A run of a method. */
function command(
  method: string,
  directory: string,
  output_dir: string,
  more: Record<string, unknown> = {},
): string[] {
  const rows = writeLines(
    directory,
    `${method}.jsonl`,
    ROWS.map(({ prompt, completion, chosen, rejected }) =>
      method === "sft"
        ? { prompt, completion }
        : method === "reward"
        ? { prompt, chosen, rejected }
        : { prompt }
    ),
  );
  return [
    method,
    ...flags({
      model: BASE,
      dataset: rows,
      output_dir,
      max_steps: STEPS[method],
      learning_rate: 1e-3,
      per_device_train_batch_size: 4,
      logging_steps: 1,
      ...(method === "ppo" ? { reward_model: BASE, response_length: 6, stop_token: "eos" } : {}),
      ...more,
    }),
  ];
}

/** What must be equal where two runs are. */
function result(dir: string, method: string) {
  const store = openStore(join(dir, "run.db"));
  const metrics = store.metrics(method).map(({ step, name, value }) => [step, name, value]);
  const samples = store.samples();
  store.close();
  const weights = createHash("sha256").update(Deno.readFileSync(join(dir, "model", "model.safetensors")));
  return { metrics, samples, weights: weights.digest("hex") };
}

for (const method of ["sft", "reward", "ppo"]) {
  Deno.test({
    name: `Ctrl-C in keel ${method}: the step is finished, saved, and what is said goes on to the same bits`,
    ignore: Deno.build.os === "windows",
    fn: () =>
      withDirectory(async (directory) => {
        const steps = STEPS[method], stopped = join(directory, "stopped"), whole = join(directory, "whole");
        const child = startKeel(command(method, directory, stopped));
        let err = "", asked = false;
        for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream())) {
          err += chunk;
          if (asked || !err.includes(`${method} 2/${steps}`)) continue;
          asked = true;
          child.kill("SIGINT");
        }
        const { code } = await child.status;
        await child.stdout.cancel();
        assert.equal(code, 130, err);
        assert.match(err, /Stopping after this step and its checkpoint/);
        const line = new RegExp(`Go on with: keel ${method} (--output_dir \\S+ --resume)`).exec(err);
        assert.ok(line, err);
        assert.doesNotMatch(err, /^\s+at /m);
        const last = Number([...err.matchAll(new RegExp(`${method} (\\d+)/${steps}`, "g"))].at(-1)![1]);
        assert.ok(last < steps, "it was not stopped in its middle");
        const saved = [...Deno.readDirSync(join(stopped, "checkpoints"))].map(({ name }) => name);
        assert.deepEqual(saved, [`step-${last}`]);

        const again = await keel(...command(method, directory, stopped), "--resume");
        assert.equal(again.code, 0, again.err);
        assert.match(again.err, new RegExp(`${method} ${last + 1}/${steps}`));
        assert.doesNotMatch(again.err, new RegExp(`${method} ${last}/${steps}`));
        const undisturbed = await keel(...command(method, directory, whole));
        assert.equal(undisturbed.code, 0, undisturbed.err);
        assert.deepEqual(result(stopped, method), result(whole, method));
        // Once more, when all is done: nothing is computed, and the result is named again.
        const third = await keel(...command(method, directory, stopped), "--resume");
        assert.deepEqual([third.code, third.out], [0, join(stopped, "model") + "\n"]);
        assert.deepEqual(result(stopped, method), result(whole, method));
      }),
  });
}

Deno.test("a tracker whose file cannot be written is told of once, and the run ends well without it", () =>
  withDirectory(async (directory) => {
    const run = join(directory, "run");
    Deno.mkdirSync(run);
    Deno.writeTextFileSync(join(run, "wandb"), "something else");
    const { code, out, err } = await keel(
      ...command("sft", directory, run, { max_steps: 3, report_to: "all" }),
    );
    assert.deepEqual([code, out], [0, join(run, "model") + "\n"], err);
    assert.equal(err.split("Cannot write the files of wandb").length, 2, err);
    assert.match(
      err,
      /The run goes on without them; its metrics are in run\.db, and --resume makes the files anew/,
    );
    assert.equal(Deno.readTextFileSync(join(run, "metrics.jsonl")).split("\n").length, 4);
    assert.equal(Deno.readTextFileSync(join(run, "wandb")), "something else");
    // The run is done, but resuming makes what is missing.
    Deno.removeSync(join(run, "wandb"));
    const again = await keel(
      ...command("sft", directory, run, { max_steps: 3, report_to: "all" }),
      "--resume",
    );
    assert.deepEqual([again.code, again.out], [0, out], again.err);
    assert.equal([...Deno.readDirSync(join(run, "wandb"))].length, 1);
  }));

Deno.test({
  name:
    `a full disk stops the run, names the last good checkpoint, and with more room it goes on to the same bits${
      mountable ? "" : " (skipped: no right to mount)"
    }`,
  ignore: !mountable,
  fn: () =>
    withDirectory(async (directory) => {
      const disk = join(directory, "disk"), whole = join(directory, "whole"), run = join(disk, "run");
      Deno.mkdirSync(disk);
      // A checkpoint has 3.6 MB: the third does not fit.
      assert.ok(await mount("-t", "tmpfs", "-o", "size=9m", "tmpfs", disk));
      try {
        const more = { max_steps: 6, save_steps: 2 };
        const { code, err, out } = await spawnKeel(command("sft", directory, run, more));
        assert.deepEqual([code, out], [1, ""], err);
        assert.match(err, /Cannot write the checkpoint of step 6: No space left on device/);
        assert.match(err, /The last good checkpoint is .*step-4; make room and run again with --resume/);
        assert.doesNotMatch(err, /^\s+at /m);
        assert.deepEqual(
          [...Deno.readDirSync(join(run, "checkpoints"))].map(({ name }) => name).sort(),
          ["step-2", "step-4"],
        );
        assert.ok(await mount("-o", "remount,size=60m", disk));
        const again = await keel(...command("sft", directory, run, more), "--resume");
        assert.equal(again.code, 0, again.err);
        assert.equal((await keel(...command("sft", directory, whole, more))).code, 0);
        assert.deepEqual(result(run, "sft"), result(whole, "sft"));
      } finally {
        await new Deno.Command("umount", { args: [disk] }).output();
      }
    }),
});
