/** Runs of the training commands through adapters, small enough for a test. */
import assert from "node:assert/strict";
import { flags, keel, writeLines } from "./keel.ts";

/** A model of 0.3 million weights with a tokenizer of words. */
export const BASE = new URL("../../src/parrot/base", import.meta.url).pathname;

export const ROWS = Array.from({ length: 24 }, (_, i) => {
  const prompt = `<user> ${i % 9} ${(i * 5) % 8} <bot>`;
  return { prompt, completion: ` ${i % 17}`, chosen: ` ${i % 17}`, rejected: ` ${(i + 3) % 17} 2` };
});

export const METHODS = ["sft", "reward", "ppo"] as const;
export type Method = typeof METHODS[number];

/** A run of a method through an adapter with much dropout. */
export function command(
  method: Method,
  directory: string,
  output_dir: string,
  more: Record<string, unknown> = {},
) {
  const columns =
    { sft: ["prompt", "completion"], reward: ["prompt", "chosen", "rejected"], ppo: ["prompt"] }[method];
  const rows = ROWS.map((row) =>
    Object.fromEntries(Object.entries(row).filter(([name]) => columns.includes(name)))
  );
  const options = {
    model: BASE,
    dataset: writeLines(directory, `${method}.jsonl`, rows),
    output_dir,
    use_peft: true,
    lora_r: 4,
    lora_dropout: 0.3,
    max_steps: 6,
    save_steps: 2,
    learning_rate: 3e-3,
    per_device_train_batch_size: 4,
    logging_steps: 1,
    ...(method === "ppo" &&
      { reward_model: BASE, response_length: 6, stop_token: "eos", num_mini_batches: 2 }),
    ...more,
  };
  return [method, ...flags(options)];
}

/** Runs a command line that must end well. */
export async function runs(argv: string[]): Promise<string> {
  const { code, err } = await keel(...argv);
  assert.equal(code, 0, err);
  return err;
}

/** Names of the files of a directory. */
export const filesOf = (directory: string) => [...Deno.readDirSync(directory)].map(({ name }) => name).sort();
