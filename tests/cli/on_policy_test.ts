/** PPO and online DPO before they have learnt anything: what is drawn is what is learnt from, with an adapter and without. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { withDirectory } from "../assets.ts";
import { openStore } from "../../src/run/store.ts";
import { flags, keel, writeLines } from "./keel.ts";

const BASE = new URL("../../src/parrot/base", import.meta.url).pathname;

/** Prompts of different lengths. */
const PROMPTS = Array.from({ length: 12 }, (_, i) => ({
  prompt: `<user> ${"i am sure ".repeat(i % 3)}3 plus ${i % 9} is 7 . <bot>`,
}));

const METHODS: { name: string; options: Record<string, unknown>; exact: Record<string, number> }[] = [
  {
    name: "ppo",
    options: {
      reward_funcs: "length_reward",
      response_length: 12,
      stop_token: "eos",
      num_ppo_epochs: 1,
      temperature: 1,
    },
    exact: { "val/ratio": 1, "policy/approxkl_avg": 0 },
  },
  {
    name: "online-dpo",
    options: { reward_funcs: "length_reward", max_length: 64, max_new_tokens: 12, temperature: 1 },
    exact: { "objective/kl": 0, loss: Math.LN2 },
  },
];

for (const { name, options, exact } of METHODS) {
  for (const usePeft of [false, true]) {
    Deno.test(`the first step of ${name} ${usePeft ? "with an adapter " : ""}is on-policy`, () =>
      withDirectory(async (directory) => {
        const output_dir = join(directory, "run");
        const { code, err } = await keel(
          name,
          ...flags({
            model: BASE,
            dataset: writeLines(directory, "prompts.jsonl", PROMPTS),
            output_dir,
            max_steps: 1,
            learning_rate: 1e-3,
            per_device_train_batch_size: 12,
            use_peft: usePeft,
            ...options,
          }),
        );
        assert.equal(code, 0, err);
        const store = openStore(join(output_dir, "run.db"));
        const value = (metric: string) => store.metrics(name, metric)[0].value;
        for (const [metric, want] of Object.entries(exact)) {
          assert.ok(Math.abs(value(metric) - want) < 1e-6, `${metric}: ${value(metric)}`);
        }
        const difference = value("sampling/logp_difference");
        assert.ok(difference < 1e-6, `${difference}`);
        const lengths = new Set(store.samples(name).map(({ tokens }) => tokens));
        assert.ok(lengths.size > 1, "the batch is not ragged");
        store.close();
      }));
  }
}
