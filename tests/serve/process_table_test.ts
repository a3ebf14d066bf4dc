import assert from "node:assert/strict";
import { isAlive, processTable } from "../../serve/process_table.ts";

const hasPs = processTable(true).size > 0;

Deno.test("without ps, a process is alive as long as it takes signals", async () => {
  const path = Deno.env.get("PATH")!;
  const child = new Deno.Command("sleep", { args: ["60"], stdin: "null" }).spawn();
  try {
    Deno.env.set("PATH", "/nowhere");
    assert.equal(processTable(true).size, 0);
    assert.ok(isAlive(child.pid, Date.now() / 1000));
    child.kill("SIGKILL");
    await child.status;
    assert.ok(!isAlive(child.pid, Date.now() / 1000));
  } finally {
    Deno.env.set("PATH", path);
    processTable(true);
  }
});

const sentence =
  "a process is alive until it ends, a zombie is not, and a number that was given again is another";

Deno.test({ name: hasPs ? sentence : `${sentence} (skipped: no ps)`, ignore: !hasPs, fn: follow });

async function follow() {
  const now = Date.now() / 1000;
  assert.ok(isAlive(Deno.pid, now));
  assert.ok(!isAlive(Deno.pid, now - 3600 * 24 * 365), "it started later");
  assert.ok(processTable().get(Deno.pid)!.command.includes("deno"));

  // The shell ends without asking for its child, and is not asked for itself before its status is read.
  const parent = new Deno.Command("sh", { args: ["-c", "sleep 0.01 & exec sleep 60"], stdin: "null" })
    .spawn();
  try {
    const child = () =>
      [...processTable(true).values()].find(({ zombie, pid }) => zombie && pid > parent.pid);
    const began = Date.now();
    while (!child()) assert.ok(Date.now() - began < 10_000, "no zombie came about");
    assert.ok(!isAlive(child()!.pid, Date.now() / 1000));
    assert.ok(isAlive(parent.pid, Date.now() / 1000));
  } finally {
    parent.kill("SIGKILL");
    await parent.status;
  }
  assert.ok(!isAlive(parent.pid, Date.now() / 1000));
}
