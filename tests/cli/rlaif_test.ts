/** `keel rlaif` against a judge that a test starts and that is not always well. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createHash } from "node:crypto";
import { withDirectory } from "../assets.ts";
import { completion, longerIsBetter, startJudge, type TestServer } from "../reward/servers.ts";
import { flags, keel, readLines, startKeel, writeLines } from "./keel.ts";

const BASE = new URL("../../src/parrot/base", import.meta.url).pathname;

const PROMPTS = Array.from({ length: 40 }, (_, i) => ({ prompt: `<user> ${i % 9} ${(i * 5) % 8} <bot>` }));

const small = (directory: string, run: string, server: TestServer, more: Record<string, unknown> = {}) =>
  flags({
    model: BASE,
    dataset: writeLines(directory, "prompts.jsonl", PROMPTS),
    output_dir: join(directory, run),
    judge_url: `${server.url}/v1`,
    judge_model: "rule",
    judge_concurrency: 4,
    judge_timeout: 1,
    max_completion_length: 8,
    batch_size: 8,
    seed: 3,
    eval_prompts: 8,
    learning_rate: 1e-3,
    num_train_epochs: 4,
    save_steps: 2,
    ...more,
  });

async function withJudge(use: (directory: string, server: TestServer) => Promise<void>): Promise<void> {
  const server = startJudge(longerIsBetter);
  try {
    await withDirectory((directory) => use(directory, server));
  } finally {
    await server.close();
  }
}

const hashOf = (...path: string[]) =>
  createHash("sha256").update(Deno.readFileSync(join(...path))).digest("hex");
const jsonOf = (...path: string[]) => JSON.parse(Deno.readTextFileSync(join(...path)));

Deno.test("a policy learns what a judge likes, however often the judge fails", () =>
  withJudge(async (directory, server) => {
    const troubles = [
      () => new Response("slow down", { status: 429, headers: { "Retry-After": "0" } }),
      () => new Response("no", { status: 500 }),
      () => new Response("{not json", { status: 200 }),
      () => Response.json({ choices: [] }),
      () => Response.json(completion("I like both.")),
      // Longer than the time-out.
      () => new Promise<Response>((resolve) => setTimeout(() => resolve(new Response(null)), 1200)),
      () => new Response("gone", { status: 503 }),
      () => Response.json(completion(null)),
    ];
    server.interfere = (number) => number % 5 ? undefined : troubles.shift()?.();
    const { code, out, err } = await keel("rlaif", ...small(directory, "a", server));
    assert.equal(code, 0, err);
    const run = join(directory, "a");
    assert.equal(out.trim(), join(run, "dpo", "model"));
    assert.equal(troubles.length, 0);
    const rows = readLines<{ chosen: string; rejected: string }>(join(run, "label", "pairs.jsonl"));
    assert.ok(rows.length > 8 && rows.every(({ chosen, rejected }) => chosen.length > rejected.length));
    assert.equal(jsonOf(run, "label", "report.json").prompts, 32);
    const { prompts, wins, losses, ties, win_rate } = jsonOf(run, "win_rate.json");
    assert.deepEqual([prompts, wins + losses + ties], [8, 8]);
    assert.ok(
      wins > losses && win_rate.low <= win_rate.share && win_rate.share <= win_rate.high,
      `${wins} to ${losses}`,
    );
    assert.match(err, /on 8 held-out prompts the answer after training is preferred/);

    // A second run is the same without a failure, and a third asks nobody.
    server.interfere = undefined;
    const again = await keel("rlaif", ...small(directory, "b", server));
    assert.equal(again.code, 0, again.err);
    assert.equal(
      hashOf(directory, "b", "dpo/model/model.safetensors"),
      hashOf(run, "dpo/model/model.safetensors"),
    );
    const asked = server.seen.length;
    const third = await keel("rlaif", ...small(directory, "b", server), "--resume");
    assert.equal(third.code, 0, third.err);
    assert.equal(server.seen.length, asked);
  }));

Deno.test("a run that is killed in each of its stages ends with the same bits", () =>
  withJudge(async (directory, server) => {
    const options = { method: "ppo", max_steps: 6, num_train_epochs: 1, reward_learning_rate: 1e-3 };
    const whole = await keel("rlaif", ...small(directory, "whole", server, options));
    assert.equal(whole.code, 0, whole.err);
    const killed = small(directory, "killed", server, { ...options, logging_steps: 1 });
    for (const sign of [/^label \d+\/\d+/m, /^reward 2\//m, /^ppo 3\//m]) {
      const resume = existsSync(join(directory, "killed")) ? ["--resume"] : [];
      const child = startKeel(["rlaif", ...killed, ...resume]);
      let text = "";
      for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream())) {
        text += chunk;
        if (!sign.test(text)) continue;
        child.kill("SIGKILL");
        break;
      }
      await child.status;
      assert.match(text, sign);
    }
    const last = await keel("rlaif", ...killed, "--resume");
    assert.equal(last.code, 0, last.err);
    for (const file of ["label/pairs.jsonl", "label/report.json", "win_rate.json"]) {
      assert.equal(hashOf(directory, "killed", file), hashOf(directory, "whole", file), file);
    }
    for (const stage of ["reward", "ppo"]) {
      const file = `${stage}/model/model.safetensors`;
      assert.equal(hashOf(directory, "killed", file), hashOf(directory, "whole", file), file);
    }
  }));

Deno.test("functions can stand in the judge's stead, and held-out prompts must be fewer than all", () =>
  withJudge(async (directory, server) => {
    const functions = flags({
      model: BASE,
      dataset: writeLines(directory, "prompts.jsonl", PROMPTS.slice(0, 12)),
      output_dir: join(directory, "f"),
      reward_funcs: "length_reward",
      max_completion_length: 8,
      eval_prompts: 4,
      max_steps: 1,
    });
    const { code, err } = await keel("rlaif", ...functions);
    assert.equal(code, 0, err);
    assert.equal(server.seen.length, 0);
    assert.equal(jsonOf(directory, "f", "win_rate.json").prompts, 4);
    const none = await keel("rlaif", ...small(directory, "n", server, { eval_prompts: 40 }));
    assert.equal(none.code, 1);
    assert.match(none.err, /Of 40 prompts 40 cannot be held out\. Expected fewer --eval_prompts/);
  }));
