/** A run that is killed again and again ends with the same bits as one that never was. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { randomStream } from "../../src/random/stream.ts";
import { openStore } from "../../src/run/store.ts";
import { withDirectory } from "../assets.ts";
import { SMALL_TRAIN } from "../cli/keel.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;

const SMALL = { ...SMALL_TRAIN, logging_steps: 1, seed: 3 };

function start(outputDir: string, resume: boolean): Deno.ChildProcess {
  const flags = Object.entries({ ...SMALL, output_dir: outputDir }).flatMap(([k, v]) => [`--${k}`, `${v}`]);
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--no-check", MAIN, "train", ...flags, ...(resume ? ["--resume"] : [])],
    stdout: "null",
    stderr: "piped",
  }).spawn();
}

/** Runs until `stop` says so of a line of progress, then kills; returns whether it was killed, and what was said. */
async function runUntil(child: Deno.ChildProcess, stop: (line: string) => number | undefined) {
  let text = "", killed = false, seen = 0;
  for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    const lines = text.split("\n").slice(0, -1);
    for (; seen < lines.length && !killed; seen++) {
      const delay = stop(lines[seen]);
      if (delay === undefined) continue;
      killed = true;
      setTimeout(() => {
        try {
          child.kill("SIGKILL");
        } catch {
          // It ended by itself in between.
        }
      }, delay);
    }
  }
  const status = await child.status;
  return { status, text };
}

/** Hashes of the results and everything logged, but for times. */
function fingerprint(dir: string): Record<string, string> {
  const out: Record<string, string> = {};
  for (const stage of ["sft", "reward", "ppo"]) {
    const model = Deno.readFileSync(join(dir, stage, "model", "model.safetensors"));
    out[`${stage} model`] = createHash("sha256").update(model).digest("hex");
    const checkpoints = [...Deno.readDirSync(join(dir, stage, "checkpoints"))].map((e) => e.name)
      .filter((name) => /^step-\d+$/.test(name))
      .sort((a, b) => Number(b.slice(5)) - Number(a.slice(5)));
    for (const file of [...Deno.readDirSync(join(dir, stage, "checkpoints", checkpoints[0]))]) {
      const bytes = Deno.readFileSync(join(dir, stage, "checkpoints", checkpoints[0], file.name));
      out[`${stage} ${checkpoints[0]} ${file.name}`] = createHash("sha256").update(bytes).digest("hex");
    }
  }
  const store = openStore(join(dir, "run.db"));
  const metrics = store.metrics().map(({ stage, step, name, value }) => [stage, step, name, value]);
  out.metrics = createHash("sha256").update(JSON.stringify(metrics)).digest("hex");
  out.samples = createHash("sha256").update(JSON.stringify(store.samples())).digest("hex");
  store.close();
  return out;
}

Deno.test("a run killed five times in each stage ends with the bits of an undisturbed one", async () => {
  await withDirectory(async (directory) => {
    const quiet = join(directory, "quiet"), disturbed = join(directory, "disturbed");
    const first = await runUntil(start(quiet, false), () => undefined);
    assert.equal(first.status.code, 0, first.text);
    const want = fingerprint(quiet);

    const rng = randomStream(Number(Deno.env.get("KEEL_TEST_SEED") ?? 1), "kills");
    const kills = new Map([["sft", 0], ["reward", 0], ["ppo", 0]]);
    for (let attempt = 0;; attempt++) {
      assert.ok(attempt < 60, "the run never ends");
      const wait = 1 + rng.integer(3), delay = rng.integer(60);
      let seen = 0;
      const { status, text } = await runUntil(start(disturbed, attempt > 0), (line) => {
        const stage = /^(sft|reward|ppo) /.exec(line)?.[1];
        if (!stage || kills.get(stage)! >= 5) return undefined;
        if (++seen < wait) return undefined;
        kills.set(stage, kills.get(stage)! + 1);
        return delay;
      });
      if (status.code === 0) break;
      assert.equal(status.signal, "SIGKILL", text);
    }
    console.log(`killed ${[...kills].map(([stage, n]) => `${n} times in ${stage}`).join(", ")}`);
    for (const [stage, n] of kills) assert.ok(n >= 5, `${stage} was killed ${n} times only`);
    assert.deepEqual(fingerprint(disturbed), want);
  });
});
