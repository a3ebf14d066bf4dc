/** A run on preferences that is killed in its middle goes on with --resume to the bits of one that never was. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { openStore } from "../../src/run/store.ts";
import { withDirectory } from "../assets.ts";
import { flags, keel, startKeel, writeLines } from "./keel.ts";

const BASE = new URL("../../src/parrot/base", import.meta.url).pathname;

/** Steps that take seconds, so that the kill comes in their middle. */
const STEPS = 60, SAVE = 7, KILL_AT = 10;

const ROWS = Array.from({ length: 26 }, (_, i) => {
  const prompt = `<user> ${i % 9} ${(i * 5) % 8} <bot>`;
  return { prompt, chosen: ` ${i % 17}`, rejected: ` ${(i + 3) % 17} 2` };
});

/** What must be equal where two runs are: all metrics, the model and the last checkpoint. */
function result(dir: string, method: string) {
  const store = openStore(join(dir, "run.db"));
  const metrics = store.metrics(method).map(({ step, name, value }) => [step, name, value]);
  store.close();
  const hash = (path: string) => createHash("sha256").update(Deno.readFileSync(path)).digest("hex");
  const last = join(dir, "checkpoints", `step-${STEPS}`);
  const checkpoint = [...Deno.readDirSync(last)].map(({ name }) => `${name} ${hash(join(last, name))}`);
  return { metrics, model: hash(join(dir, "model", "model.safetensors")), checkpoint: checkpoint.sort() };
}

for (
  const [title, method, more] of [
    ["dpo, reference computed beforehand", "dpo", { precompute_ref_log_probs: true }],
    ["dpo, reference moved", "dpo", { sync_ref_model: true, ref_model_sync_steps: 4 }],
    ["kto", "kto", {}],
    ["orpo", "orpo", {}],
    ["cpo", "cpo", { loss_type: "simpo" }],
  ] as const
) {
  Deno.test({
    name: `killed and resumed, it ends with the same bits: ${title}`,
    ignore: Deno.build.os === "windows",
    fn: () =>
      withDirectory(async (directory) => {
        const dataset = writeLines(directory, "rows.jsonl", ROWS);
        const command = (output_dir: string) => [
          method,
          ...flags({
            model: BASE,
            dataset,
            output_dir,
            max_steps: STEPS,
            save_steps: SAVE,
            test_split_size: 0.2,
            eval_steps: 30,
            learning_rate: 1e-3,
            per_device_train_batch_size: 4,
            logging_steps: 1,
            ...more,
          }),
        ];
        const killed = join(directory, "killed"), whole = join(directory, "whole");
        const child = startKeel(command(killed));
        let err = "";
        for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream())) {
          err += chunk;
          if (err.includes(`${method} ${KILL_AT}/${STEPS}`)) child.kill("SIGKILL");
        }
        await child.stdout.cancel();
        assert.equal((await child.status).signal, "SIGKILL", err);

        const again = await keel(...command(killed), "--resume");
        assert.equal(again.code, 0, again.err);
        assert.doesNotMatch(again.err, new RegExp(`${method} 1/${STEPS}`), "it began anew");
        const undisturbed = await keel(...command(whole));
        assert.equal(undisturbed.code, 0, undisturbed.err);
        assert.deepEqual(result(killed, method), result(whole, method));
      }),
  });
}
