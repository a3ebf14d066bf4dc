/** `keel grpo` on GSM8K as it is published, with a trained model: what is rewarded is read again from what was sampled. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { openStore } from "../../src/run/store.ts";
import { asset, withDirectory } from "../assets.ts";
import { writeLines } from "../cli/keel.ts";
import { smollm2Test } from "../smollm2.ts";
import { metricsOf, runKeel } from "./trl.ts";

const STEPS = 2, GENERATIONS = 2, BATCH = 4;

/** The number in a text that comes last; NaN where there is none. */
const lastNumber = (text: string) => Number(text.replaceAll(",", "").match(/-?\d+(\.\d+)?/g)?.at(-1) ?? NaN);

smollm2Test(
  "keel grpo with an adapter rewards right answers to GSM8K",
  (model) =>
    withDirectory(async (directory) => {
      const text = new TextDecoder().decode(gunzipSync(Deno.readFileSync(asset("data/gsm8k-test.jsonl.gz"))));
      const published: { question: string; answer: string }[] = text.split("\n").slice(0, 60).map((line) =>
        JSON.parse(line)
      );
      // All but the last line of the solution, so that a small model is right sometimes.
      const rows = published.map(({ question, answer }) => ({
        prompt: `Question: ${question}\nAnswer: ${answer.slice(0, answer.indexOf("####"))}The answer is`,
        solution: answer,
      }));
      const out = join(directory, "run");
      await runKeel("grpo", {
        model,
        dataset: writeLines(directory, "gsm8k.jsonl", rows),
        use_peft: true,
        reward_funcs: "accuracy_reward,get_repetition_penalty_reward:ngram_size=1",
        reward_weights: "1,0.5",
        num_generations: GENERATIONS,
        per_device_train_batch_size: BATCH,
        max_prompt_length: 120,
        max_completion_length: 6,
        max_steps: STEPS,
        learning_rate: 1e-4,
        output_dir: out,
      });

      const store = openStore(join(out, "run.db"));
      const samples = store.samples("grpo");
      store.close();
      assert.equal(samples.length, STEPS * BATCH);
      const metrics = metricsOf(out, "grpo"), right: number[] = [];
      for (const { prompt, completion, rewards } of samples) {
        const { solution } = rows.find((row) => row.prompt === prompt)!;
        const accuracy = Number(lastNumber(completion) === lastNumber(solution));
        assert.equal(rewards.accuracy_reward, accuracy, `${completion} for ${solution}`);
        right.push(accuracy);
      }
      console.log(`GSM8K: ${right.reduce((a, b) => a + b)} of ${right.length} completions are right`);
      for (let step = 1; step <= STEPS; step++) {
        const of = right.slice((step - 1) * BATCH, step * BATCH), row = metrics.get(step)!;
        assert.equal(row["rewards/accuracy_reward/mean"], of.reduce((a, b) => a + b) / BATCH);
        assert.ok(row.grad_norm > 0 && Number.isFinite(row.loss));
      }
      assert.ok(right.includes(1) && right.includes(0));
      assert.ok(Deno.statSync(join(out, "model", "adapter_model.safetensors")).isFile);
    }),
);
