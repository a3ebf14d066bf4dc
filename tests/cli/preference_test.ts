/** The commands on preferences: what they refuse, pairs for KTO, and a reference that is another model. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { withDirectory } from "../assets.ts";
import { metricsOf } from "../train/trl.ts";
import { flags, keel, writeLines } from "./keel.ts";
import { tinyModel } from "./tiny_models.ts";

const BASE = new URL("../../src/parrot/base", import.meta.url).pathname;

const PAIRS = Array.from({ length: 12 }, (_, i) => ({
  prompt: `<user> ${i % 9} ${(i * 5) % 8} <bot>`,
  chosen: ` ${i % 17}`,
  rejected: ` ${(i + 3) % 17} 2`,
}));

/** Runs a command on the pairs. */
function run(directory: string, method: string, name: string, more: Record<string, unknown> = {}) {
  const options = {
    model: BASE,
    dataset: writeLines(directory, "pairs.jsonl", PAIRS),
    output_dir: join(directory, name),
    max_steps: 2,
    per_device_train_batch_size: 4,
    learning_rate: 1e-3,
  };
  return keel(method, ...flags({ ...options, ...more }));
}

Deno.test("what cannot be meant is refused before anything is computed, with a way out", () =>
  withDirectory(async (directory) => {
    const bytes = tinyModel(directory, "tiny-llama"), judge = tinyModel(directory, "tiny-llama-rm");
    const wrong: [method: string, options: Record<string, unknown>, message: RegExp][] = [
      ["dpo", { loss_type: "exo_pair" }, /^loss_type exo_pair needs a label_smoothing above 0/m],
      [
        "dpo",
        { loss_type: "sigmoid,aot", f_divergence_type: "forward_kl" },
        /Expected reverse_kl, or one of/,
      ],
      ["dpo", { sync_ref_model: true, use_peft: true }, /reference of an adapter is its base/],
      ["kto", { sync_ref_model: true, precompute_ref_log_probs: true }, /Leave one of the two out/],
      ["kto", { per_device_train_batch_size: 1 }, /must be at least 2; got 1/],
      ["kto", { precompute_ref_log_probs: true }, /Give --shuffle_dataset false/],
      [
        "orpo",
        { dataset: writeLines(directory, "texts.jsonl", [{ text: "a" }]) },
        /Expected preference pairs/,
      ],
      ["dpo", { model: bytes, ref_model: BASE }, /has \d+ tokens, but the model .* has only/],
      [
        "kto",
        { model: bytes, ref_model: judge },
        /is a reward model, which gives scores\. Expected a language/,
      ],
      ["cpo", { model: judge }, /is a reward model, which gives scores\. Expected a language model\./],
    ];
    for (const [i, [method, options, message]] of wrong.entries()) {
      const { code, err, out } = await run(directory, method, `wrong-${i}`, options);
      assert.deepEqual([code, out], [1, ""], err);
      assert.match(err, message);
      assert.doesNotMatch(err, /^\s+at /m);
      assert.ok(!existsSync(join(directory, `wrong-${i}`, "model")));
    }
    const unknown = await run(directory, "dpo", "unknown", { loss_type: "sigmoid,ppo" });
    assert.match(unknown.err, /--loss_type: got \["sigmoid","ppo"\], expected a list, each one of sigmoid/);
  }));

Deno.test("KTO takes pairs apart and advises weights where answers of one kind are more", () =>
  withDirectory(async (directory) => {
    const { code, err } = await run(directory, "kto", "pairs");
    assert.equal(code, 0, err);
    assert.match(err, /24 of 24 rows/);
    assert.doesNotMatch(err, /recommends/);
    const single = PAIRS.map(({ prompt, chosen }, i) => ({ prompt, completion: chosen, label: i % 4 === 0 }));
    const more = { dataset: writeLines(directory, "single.jsonl", single) };
    const advised = await run(directory, "kto", "single", more);
    assert.equal(advised.code, 0, advised.err);
    assert.match(advised.err, /3 good and 9 bad answers.*desirable_weight of 3\.00 to 4\.00/);
  }));

Deno.test("another model as the reference is another reference", () =>
  withDirectory(async (directory) => {
    for (const method of ["dpo", "kto"]) {
      const own = await run(directory, method, `${method} own`);
      assert.equal(own.code, 0, own.err);
      assert.equal(metricsOf(join(directory, `${method} own`), method).get(1)!["rewards/chosen"], 0);
      const ref_model = join(directory, `${method} own`, "model");
      for (const [name, more] of Object.entries({ other: {}, known: { precompute_ref_log_probs: true } })) {
        const options = { ref_model, shuffle_dataset: false, ...more };
        const { code, err } = await run(directory, method, `${method} ${name}`, options);
        assert.equal(code, 0, err);
      }
      const [other, known] = ["other", "known"].map((name) =>
        metricsOf(join(directory, `${method} ${name}`), method)
      );
      assert.notEqual(other.get(1)!["rewards/chosen"], 0);
      assert.deepEqual(known, other);
    }
  }));
