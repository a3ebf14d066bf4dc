import assert from "node:assert/strict";
import { join } from "node:path";
import { lockRun } from "../../src/run/lock.ts";
import { withDirectory } from "../assets.ts";

const HOLDER = new URL("lock_holder.ts", import.meta.url).href;

/** A process that holds the lock of a directory until it is killed. */
async function holderOf(directory: string): Promise<Deno.ChildProcess> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-lock", "--allow-all", HOLDER, directory],
    stdout: "piped",
  }).spawn();
  // The first byte it writes says that it has the lock.
  const reader = child.stdout.getReader();
  await reader.read();
  await reader.cancel();
  return child;
}

Deno.test("a run directory in use by a live process is refused with its pid, and free once that was killed", () =>
  withDirectory(async (directory) => {
    const child = await holderOf(directory);
    assert.throws(
      () => lockRun(directory),
      (error: Error) =>
        error.message.includes(`process ${child.pid} on `) && error.message.includes("--output_dir"),
    );
    child.kill("SIGKILL");
    await child.status;
    const lock = lockRun(directory);
    assert.equal(JSON.parse(Deno.readTextFileSync(join(directory, "lock"))).pid, Deno.pid);
    lock.release();
  }));

Deno.test("of many processes that want a lock at once, one gets it", () =>
  withDirectory(async (directory) => {
    const children = await Promise.all(Array.from({ length: 4 }, () =>
      new Deno.Command(Deno.execPath(), {
        args: ["run", "--quiet", "--no-lock", "--allow-all", HOLDER, directory, "once"],
        stdout: "piped",
        stderr: "piped",
      }).output()));
    const winners = children.filter(({ success }) => success);
    assert.ok(winners.length >= 1);
    for (const { success, stderr } of children) {
      if (!success) assert.match(new TextDecoder().decode(stderr), /is using it/);
    }
  }));

Deno.test("a released lock can be taken again", () =>
  withDirectory((directory) => {
    lockRun(directory).release();
    lockRun(directory).release();
  }));
