/** A run that was steered by hand while it went, and replayed from its journal. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { readRunConfig } from "../../src/run/run.ts";
import { openStore } from "../../src/run/store.ts";
import { withDirectory } from "../assets.ts";
import { flags, keel, SMALL_TRAIN, startKeel, writeLines } from "./keel.ts";

const SMALL = { ...SMALL_TRAIN, logging_steps: 1, seed: 4 };

Deno.test("a run that was steered, stopped and rolled back is replayed to the same bits, and a difference is told", async () => {
  await withDirectory(async (directory) => {
    const dir = join(directory, "run");
    const command = ["train", ...flags({ ...SMALL, output_dir: dir })];

    // Steered from outside, at moments that happen to come.
    const child = startKeel(command);
    let said = "", rolledBack = false;
    for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
      said += text;
      if (!rolledBack && /^ppo +7\//m.test(said)) {
        rolledBack = true;
        const store = openStore(join(dir, "run.db"));
        store.ask({ who: "test", kind: "roll_back", stage: "ppo", detail: { step: 3 } });
        store.ask({ who: "test", kind: "set", stage: "ppo", detail: { kl_coef: 0.2, learning_rate: 1e-3 } });
        store.close();
      }
      if (!rolledBack && /^sft +1\//m.test(said) && !said.includes("asked")) {
        said += "asked";
        const store = openStore(join(dir, "run.db"));
        store.ask({ who: "test", kind: "set", stage: "reward", detail: { learning_rate: 5e-4 } });
        store.ask({ who: "test", kind: "pause" });
        store.ask({ who: "test", kind: "resume" });
        store.close();
      }
    }
    assert.equal((await child.status).code, 0, said);
    const store = openStore(join(dir, "run.db"));
    assert.deepEqual(store.requests().map(({ kind, refusal }) => [kind, refusal]), [
      ["set", null],
      ["pause", null],
      ["resume", null],
      ["roll_back", null],
      ["set", null],
    ]);
    assert.deepEqual(store.knobs().map(({ stage, name }) => [stage, name]), [
      ["reward", "learning_rate"],
      ["ppo", "kl_coef"],
      ["ppo", "learning_rate"],
    ]);

    // A checkpoint is a model's directory.
    const prompts = writeLines(directory, "prompts.jsonl", [{ prompt: "<user> 3 <bot>" }]);
    const checkpoint = join(dir, "ppo", "checkpoints", "step-12");
    const sampled = await keel("sample", ...flags({ model: checkpoint, input: prompts, max_new_tokens: 4 }));
    assert.equal(sampled.code, 0, sampled.err);

    const same = await keel("replay", dir);
    assert.match(same.out, /^Identical: \d{3,} metrics, \d+ samples and \d+ files\.$/m);
    assert.equal(same.code, 0);

    const again = await keel("replay", dir);
    assert.equal(again.code, 1);
    assert.match(again.err, /run-replay already holds a run/);

    // A journal that lies is found out.
    store.turnKnobs("ppo", 9, { kl_coef: 0.9 }, { who: "liar" });
    const other = await keel("replay", dir, "--overwrite_output_dir");
    assert.equal(other.code, 1);
    assert.match(
      other.out,
      /Not the same[^]*ppo step 9 \S+ was .* and is [^]*model.safetensors has other bytes/,
    );
    store.close();

    const over = await keel("replay", dir, "--output_dir", dir, "--overwrite_output_dir");
    assert.equal(over.code, 1);
    assert.match(over.err, /cannot be replayed over itself/);
    assert.ok(readRunConfig(dir), "the run is there still");

    const nothing = await keel("replay", directory);
    assert.equal(nothing.code, 1);
    assert.match(nothing.err, /There is no run in .*config.json/);
    assert.equal((await keel("replay")).code, 2);
  });
});
