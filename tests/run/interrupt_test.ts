import assert from "node:assert/strict";

const LOOP = new URL("interrupted_loop.ts", import.meta.url).href;

/** Starts the loop; `until` reads its output up to a text. */
function start(...args: string[]) {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-lock", LOOP, ...args],
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let seen = "";
  const until = async (text?: string) => {
    while (text === undefined || !seen.includes(text)) {
      const { value, done } = await reader.read();
      if (done) break;
      seen += value;
    }
    return seen;
  };
  return { child, until };
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.test({
    name: `${signal} lets the step finish and checkpoint, and the exit code is 130`,
    ignore: Deno.build.os === "windows",
    fn: async () => {
      const { child, until } = start();
      await until("ready");
      child.kill(signal);
      const output = await until();
      assert.match(output, /Stopping after this step/);
      assert.match(output, /checkpointed/);
      assert.equal((await child.status).code, 130);
    },
  });
}

Deno.test({
  name: "a second Ctrl-C stops at once",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    const { child, until } = start("hang");
    await until("ready");
    child.kill("SIGINT");
    await until("Stopping after this step");
    child.kill("SIGINT");
    assert.doesNotMatch(await until(), /checkpointed/);
    assert.equal((await child.status).code, 130);
  },
});
