import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { VERSION } from "../src/run/version.ts";
import { withDirectory } from "./assets.ts";

const LAUNCHER = fileURLToPath(new URL("../keel", import.meta.url));
const windows = Deno.build.os === "windows";

/** Runs a launcher and returns its exit code and what it wrote. */
async function keel(path: string, args: string[], options: Deno.CommandOptions = {}) {
  const { code, stdout, stderr } = await new Deno.Command(path, { args, ...options }).output();
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: decode(stdout), err: decode(stderr) };
}

Deno.test({
  name: "the launcher finds the project through links, and paths are meant from where the user is",
  ignore: windows,
  fn: () =>
    withDirectory(async (directory) => {
      Deno.mkdirSync(join(directory, "bin"));
      Deno.symlinkSync(LAUNCHER, join(directory, "target"));
      Deno.symlinkSync("../target", join(directory, "bin/keel"));
      const link = join(directory, "bin/keel");
      const { code, out } = await keel(link, ["--version"]);
      assert.deepEqual([code, out.trim()], [0, VERSION]);
      Deno.writeTextFileSync(join(directory, "sft.yaml"), "learning_rate: fast\n");
      const wrong = await keel(link, ["sft", "--config", "sft.yaml"], {
        cwd: directory,
        env: { INIT_CWD: "/" },
      });
      assert.equal(wrong.code, 2);
      assert.match(wrong.err, /sft\.yaml: learning_rate: got "fast", expected a number/);
    }),
});

Deno.test({
  name: "the launcher passes arguments on as they are and exits as the program does",
  ignore: windows,
  fn: async () => {
    const odd = `$HOME "a" 'b' * \\ ; é`;
    const { code, out, err } = await keel(LAUNCHER, ["sample", "--model", "m", "--input", "i", odd]);
    assert.deepEqual([code, out], [2, ""]);
    assert.ok(err.includes(odd), err);
  },
});

Deno.test({
  name: "the launcher works without a home directory that can be written",
  ignore: windows,
  fn: async () => {
    // The packages are where this user's Deno has them; only the home directory is taken away.
    const info = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).output();
    const { denoDir } = JSON.parse(new TextDecoder().decode(info.stdout));
    const { code } = await keel(LAUNCHER, ["--version"], {
      env: { HOME: "/nonexistent", DENO_DIR: denoDir },
    });
    assert.equal(code, 0);
  },
});

Deno.test("no task asks for all permissions, and the launcher finds those of the program", () => {
  const { tasks } = JSON.parse(
    Deno.readTextFileSync(fileURLToPath(new URL("../deno.json", import.meta.url))),
  );
  for (const [name, task] of Object.entries<string | { command: string }>(tasks)) {
    const command = typeof task === "string" ? task : task.command;
    assert.doesNotMatch(command, /(^|\s)(-A|--allow-all)(\s|$)/, name);
  }
  assert.match(tasks.keel, /^deno run .*--allow-read .* src\/cli\/main\.ts$/);
  assert.ok(Deno.readTextFileSync(LAUNCHER).includes('"keel": "deno run'));
});
