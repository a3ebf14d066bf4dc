/** Memory before minutes on the command line: what is needed, what would fit, and that it does. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { withDirectory } from "../assets.ts";
import { flags, keel, writeLines } from "./keel.ts";
import { tinyModel } from "./tiny_models.ts";

const ROWS = Array.from({ length: 16 }, (_, i) => ({ prompt: `q${i}`, chosen: " abc!", rejected: " no" }));

const METHODS = ["sft", "reward", "ppo", "dpo", "kto"] as const;

/** A small run, with a batch that makes most of what it needs. */
function command(
  method: typeof METHODS[number],
  directory: string,
  more: Record<string, unknown> = {},
): string[] {
  const { model = tinyModel(directory, "tiny-llama"), ...rest } = more;
  const rows = ROWS.map(({ prompt, chosen, rejected }) =>
    method === "sft"
      ? { prompt, completion: chosen }
      : method === "reward" || method === "dpo" || method === "kto"
      ? { prompt, chosen, rejected }
      : { prompt }
  );
  return [
    method,
    ...flags({
      model,
      dataset: writeLines(directory, `${method}.jsonl`, rows),
      max_steps: 1,
      save_steps: 0,
      per_device_train_batch_size: 16,
      ...(method === "ppo" && { reward_model: tinyModel(directory, "tiny-llama-rm"), response_length: 8 }),
      ...rest,
    }),
  ];
}

/** `memory: 5 MB needed (…)` in bytes. */
const needed = (err: string) => Number(/memory: (\S+) MB needed/.exec(err)![1]) * 1e6;

for (const method of METHODS) {
  Deno.test(`keel ${method} is refused before it begins where memory is short, and each suggestion does fit`, () =>
    withDirectory(async (directory) => {
      const plain = await keel(...command(method, directory, { output_dir: join(directory, "plain") }));
      assert.equal(plain.code, 0, plain.err);
      assert.match(
        plain.err,
        /memory: \d+ MB needed \(weights \d+ MB, gradients and optimiser \d+ MB, activations \d+ MB.*\); \d.* free/,
      );

      // A little less than is needed: at least one way out fits.
      const gpu_memory = (needed(plain.err) - 1e6) / 1e9, run = join(directory, "short");
      const short = await keel(...command(method, directory, { output_dir: run, gpu_memory }));
      assert.deepEqual([short.code, short.out], [1, ""]);
      assert.match(
        short.err,
        /This needs \d+ MB of memory \(weights .*\), but there are \d+ MB\. What would fit:\n {2}--/,
      );
      assert.doesNotMatch(short.err, /^\s+at /m);
      assert.ok(
        !existsSync(join(run, "checkpoints")) || [...Deno.readDirSync(join(run, "checkpoints"))].length === 0,
      );
      const ways = [...short.err.matchAll(/^ {2}(--.*): \d+ MB$/gm)].map(([, way]) => way);
      assert.ok(ways.length >= 2, short.err);
      for (const [i, way] of ways.entries()) {
        const output_dir = join(directory, `way-${i}`);
        const { code, err } = await keel(
          ...command(method, directory, { output_dir, gpu_memory }),
          ...way.split(" "),
        );
        assert.equal(code, 0, `${way}\n${err}`);
      }

      const none = await keel(
        ...command(method, directory, { output_dir: join(directory, "none"), gpu_memory: 1e-6 }),
      );
      assert.equal(none.code, 1);
      assert.match(none.err, /but there are 1 MB\. Less, but still too much, would be:\n {2}--/);
      assert.match(none.err, /--use_peft true/);
      assert.match(none.err, /--dtype q8_0: \d+ MB/);
    }));
}

Deno.test("what is used already is not suggested again", () =>
  withDirectory(async (directory) => {
    const first = join(directory, "first");
    assert.equal((await keel(...command("sft", directory, { output_dir: first, use_peft: true }))).code, 0);
    const short = { gpu_memory: 1e-6, per_device_train_batch_size: 1, gradient_checkpointing: true };
    for (const more of [{ model: join(first, "model") }, { use_peft: true, lora_r: 2 }]) {
      const { code, err } = await keel(
        ...command("sft", directory, {
          output_dir: join(directory, "bad"),
          overwrite_output_dir: true,
          ...short,
          ...more,
        }),
      );
      assert.equal(code, 1);
      // The rows of this model make no whole blocks of Q8_0, so that form would save nothing.
      assert.doesNotMatch(err, /^ {2}--/m);
      assert.match(err, /adapters \d+ MB.* Use a smaller model or shorter rows\.\n$/);
    }
    const all = { ...short, use_peft: true, dtype: "q8_0", output_dir: join(directory, "all") };
    const { err } = await keel(...command("sft", directory, all));
    assert.match(
      err,
      /This needs \d+ MB of memory .*, but there are 1 MB\. Use a smaller model or shorter rows\.\n$/,
    );
  }));

Deno.test("the frozen base of an adapter may be held in fewer bits", () =>
  withDirectory(async (directory) => {
    const losses: string[] = [];
    for (const dtype of ["f32", "float16", "bf16", "q8_0", "auto"]) {
      const output_dir = join(directory, dtype);
      const { code, err } = await keel(...command("sft", directory, { output_dir, use_peft: true, dtype }));
      assert.equal(code, 0, err);
      losses.push(/loss (\S+),/.exec(err)![1]);
    }
    assert.equal(losses[0], losses[4]);
    losses.forEach((loss) => assert.ok(Math.abs(Number(loss) / Number(losses[0]) - 1) < 0.02, `${losses}`));
  }));

Deno.test("keel train counts the stage that needs most, and a run's reward model can be scored by the run's name", () =>
  withDirectory(async (directory) => {
    const model = tinyModel(directory, "tiny-llama"), run = join(directory, "run");
    const options = {
      model,
      dataset: writeLines(directory, "pairs.jsonl", ROWS),
      sft_batch_size: 8,
      reward_batch_size: 4,
      ppo_batch_size: 4,
      ppo_steps: 1,
      response_length: 4,
      max_length: 32,
    };
    const short = await keel("train", ...flags({ ...options, output_dir: run, gpu_memory: 0.003 }));
    assert.deepEqual([short.code, short.out], [1, ""]);
    assert.match(short.err, /This needs \d+ MB of memory \(.*\), but there are 3 MB\./);
    assert.match(short.err, /^ {2}--sft_batch_size 1 --reward_batch_size 1 --ppo_batch_size 4/m);

    const { code, err } = await keel(
      "train",
      ...flags({ ...options, output_dir: run, overwrite_output_dir: true, use_peft: true }),
    );
    assert.equal(code, 0, err);
    assert.match(err, /memory: \d+ MB needed \(weights \d+ MB, adapters \d+ MB/);
    const input = writeLines(directory, "texts.jsonl", [{ text: "abc" }]);
    const score = await keel("score", ...flags({ model: join(run, "reward"), input }));
    assert.equal(score.code, 0, score.err);
    assert.ok(Number.isFinite(JSON.parse(score.out).score), score.out);
    const sample = await keel("sample", ...flags({ model: join(run, "reward"), input }));
    assert.match(sample.err, /has no language model/);
  }));
