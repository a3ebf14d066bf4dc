import assert from "node:assert/strict";
import { join } from "node:path";
import {
  bestStep,
  newestCheckpoint,
  readCheckpoint,
  removeUnfinished,
  supersedeAfter,
  writeCheckpoint,
} from "../../src/run/checkpoint.ts";
import { withDirectory } from "../assets.ts";
import { numbers } from "./numbers.ts";

const WRITER = new URL("checkpoint_writer.ts", import.meta.url).href;

/** Kills of a process that writes checkpoints. */
const KILLS = 12;

function parts(step: number, size = 35) {
  return {
    files: {
      model: { "a.weight": { shape: [5, size / 5], data: numbers(step, size) } },
      optimizer: { m: { shape: [size], data: numbers(-step, size) } },
    },
    state: { step, loss: NaN, cursor: { epoch: 1, row: 7 } },
  };
}

function names(directory: string): string[] {
  return Array.from(Deno.readDirSync(directory), ({ name }) => name).sort();
}

Deno.test("a checkpoint comes back with the same bits", () =>
  withDirectory((directory) => {
    const written = parts(3);
    const path = writeCheckpoint(directory, 3, written);
    assert.equal(path, join(directory, "step-3"));
    const saved = readCheckpoint(path);
    assert.equal(saved.step, 3);
    assert.deepEqual(saved.state, written.state);
    assert.deepEqual(saved.files, written.files);
  }));

Deno.test("the newest checkpoints and the best one stay", () =>
  withDirectory((directory) => {
    for (let step = 1; step <= 6; step++) {
      writeCheckpoint(directory, step, parts(step), { saveTotalLimit: 2, best: step === 2 });
    }
    assert.deepEqual(names(directory), ["best.json", "step-2", "step-5", "step-6"]);
    assert.equal(bestStep(directory), 2);
    writeCheckpoint(directory, 7, parts(7), { saveTotalLimit: 1, best: true });
    assert.deepEqual(names(directory), ["best.json", "step-7"]);
  }));

Deno.test("steps are ordered as numbers", () =>
  withDirectory((directory) => {
    for (const step of [9, 10, 100]) writeCheckpoint(directory, step, parts(step));
    assert.equal(newestCheckpoint(directory).checkpoint?.step, 100);
  }));

Deno.test("a damaged checkpoint is passed over with the reason", () =>
  withDirectory((directory) => {
    for (let step = 1; step <= 5; step++) writeCheckpoint(directory, step, parts(step));
    Deno.removeSync(join(directory, "step-5/optimizer.safetensors"));
    Deno.truncateSync(join(directory, "step-4/model.safetensors"), 100);
    const bytes = Deno.readFileSync(join(directory, "step-3/model.safetensors"));
    bytes[bytes.length - 1] ^= 1;
    Deno.writeFileSync(join(directory, "step-3/model.safetensors"), bytes);
    Deno.writeTextFileSync(join(directory, "step-2/state.json"), '{"step": 2');
    const { checkpoint, skipped } = newestCheckpoint(directory);
    assert.equal(checkpoint?.step, 1);
    const reasons = skipped.map(({ reason }) => reason);
    assert.match(reasons[0], /step-5: optimizer\.safetensors is missing/);
    assert.match(reasons[1], /step-4: model\.safetensors has 100 bytes\. Expected \d+/);
    assert.match(reasons[2], /step-3: model\.safetensors is damaged/);
    assert.match(reasons[3], /step-2: state\.json is damaged/);
  }));

Deno.test("a damaged checkpoint is replaced when its step is reached again", () =>
  withDirectory((directory) => {
    writeCheckpoint(directory, 1, parts(1));
    Deno.removeSync(join(directory, "step-1/state.json"));
    writeCheckpoint(directory, 1, parts(1));
    assert.deepEqual(names(directory), ["step-1"]);
    assert.equal(newestCheckpoint(directory).checkpoint?.step, 1);
  }));

Deno.test("later checkpoints are moved aside, not removed", () =>
  withDirectory((directory) => {
    for (let step = 1; step <= 3; step++) writeCheckpoint(directory, step, parts(step));
    assert.deepEqual(supersedeAfter(directory, 1), [join(directory, "step-3"), join(directory, "step-2")]);
    assert.equal(newestCheckpoint(directory).checkpoint?.step, 1);
    assert.equal(names(directory).length, 3);
  }));

Deno.test("a process killed while it writes checkpoints leaves a valid one, every time", () =>
  withDirectory(async (directory) => {
    let from = 1;
    for (let kill = 0; kill < KILLS; kill++) {
      const child = new Deno.Command(Deno.execPath(), {
        args: ["run", "--quiet", "--no-lock", "--allow-all", WRITER, directory, String(from)],
        stdout: "piped",
      }).spawn();
      const reader = child.stdout.getReader();
      await reader.read();
      // A moment within the writing of one of the next few checkpoints.
      await new Promise((done) => setTimeout(done, Math.random() * 40));
      child.kill("SIGKILL");
      await child.status;
      await reader.cancel();
      const { checkpoint, skipped } = newestCheckpoint(directory);
      assert.deepEqual(skipped, []);
      assert.ok(checkpoint && checkpoint.step >= from);
      assert.equal(checkpoint.state.cursor, checkpoint.step * 3);
      assert.deepEqual(checkpoint.files.value_model.weight.data, numbers(checkpoint.step, 257 * 31));
      from = checkpoint.step + 1;
    }
    removeUnfinished(directory);
    assert.ok(names(directory).every((name) => /^step-\d+$/.test(name)));
  }));

Deno.test("a failure to write leaves older checkpoints as they are and names the last good one", () =>
  withDirectory((directory) => {
    writeCheckpoint(directory, 1, parts(1));
    const broken = parts(2);
    broken.files.optimizer.m.shape = [1];
    assert.throws(
      () => writeCheckpoint(directory, 2, broken, { saveTotalLimit: 1 }),
      /Cannot write the checkpoint of step 2: .*The last good checkpoint is .*step-1; make room and run again with --resume/,
    );
    assert.deepEqual(names(directory), ["step-1"]);
  }));

/** Runs `use` with a file system of `size` bytes; false where this user cannot mount one. */
async function withTinyDisk(size: number, use: (directory: string) => void): Promise<void> {
  await withDirectory(async (directory) => {
    const run = (command: string, ...args: string[]) => new Deno.Command(command, { args }).output();
    const mounted = await run("mount", "-t", "tmpfs", "-o", `size=${size}`, "tmpfs", directory);
    assert.ok(mounted.success, new TextDecoder().decode(mounted.stderr));
    try {
      use(directory);
    } finally {
      await run("umount", directory);
    }
  });
}

async function canMount(): Promise<boolean> {
  if (Deno.build.os !== "linux" || Deno.uid() !== 0) return false;
  try {
    await withTinyDisk(65536, () => {});
    return true;
  } catch {
    return false;
  }
}

const mountable = await canMount();
Deno.test({
  name: `a full disk costs only the checkpoint that did not fit${
    mountable ? "" : " (skipped: no right to mount)"
  }`,
  ignore: !mountable,
  fn: () =>
    withTinyDisk(1 << 20, (directory) => {
      // Each is about 400 kB: the third does not fit.
      writeCheckpoint(directory, 1, parts(1, 50000));
      writeCheckpoint(directory, 2, parts(2, 50000));
      assert.throws(
        () => writeCheckpoint(directory, 3, parts(3, 50000)),
        /Cannot write the checkpoint of step 3: No space left on device.*The last good checkpoint is .*step-2/,
      );
      assert.deepEqual(names(directory), ["step-1", "step-2"]);
      assert.deepEqual(newestCheckpoint(directory).checkpoint?.files, parts(2, 50000).files);
    }),
});
