/** `keel grpo`, `rloo`, `reinforce` and `online-dpo` as a person runs them: killed and resumed, with rewards of every kind, refused. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { openGpu } from "../../src/gpu/device.ts";
import { loadHeaded } from "../../src/model/headed.ts";
import { saveModel } from "../../src/model/load.ts";
import { randomStream } from "../../src/random/stream.ts";
import { openStore } from "../../src/run/store.ts";
import { withDirectory } from "../assets.ts";
import { flags, keel, startKeel, writeLines } from "./keel.ts";

const BASE = new URL("../../src/parrot/base", import.meta.url).pathname;

const REWARDS = `
/** Share of distinct words. */
export function distinct({ completions }) {
  return completions.map((text) => new Set(text.split(" ")).size / Math.max(1, text.split(" ").length));
}
/** How near the length is to the column that asks for it. */
export async function wanted({ completion_ids, length }) {
  return completion_ids.map((ids, i) => length[i] === null ? null : -Math.abs(ids.length - length[i]) / 6);
}
`;

/** A run of a method. */
function command(
  method: string,
  directory: string,
  output_dir: string,
  more: Record<string, unknown> = {},
): string[] {
  const rows = Array.from({ length: 12 }, (_, i) => ({
    prompt: `<user> ${i % 9} ${(i * 5) % 8} <bot>`,
    length: i % 3 ? i % 5 : null,
  }));
  const file = join(directory, "rewards.ts");
  if (!existsSync(file)) Deno.writeTextFileSync(file, REWARDS);
  const options = {
    model: BASE,
    dataset: writeLines(directory, "prompts.jsonl", rows),
    output_dir,
    reward_funcs: file,
    learning_rate: 1e-3,
    max_completion_length: 6,
    num_generations: 4,
    per_device_train_batch_size: 4,
    gradient_accumulation_steps: 2,
    num_iterations: 2,
    max_steps: 8,
    save_steps: 1,
    logging_steps: 1,
    ...more,
  };
  return [
    method,
    ...flags(Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined))),
  ];
}

/** What must be equal where two runs are. */
function result(dir: string, method: string) {
  const store = openStore(join(dir, "run.db"));
  const metrics = store.metrics(method).map(({ step, name, value }) => [step, name, value]);
  const samples = store.samples();
  store.close();
  const weights = createHash("sha256").update(Deno.readFileSync(join(dir, "model", "model.safetensors")));
  return { metrics, samples, weights: weights.digest("hex") };
}

/** Options of online DPO, which always draws two completions and learns from them once. */
const PAIRS = {
  num_generations: undefined,
  num_iterations: undefined,
  max_completion_length: undefined,
  max_new_tokens: 6,
  max_length: 40,
};

const METHODS: [method: string, more: Record<string, unknown>][] = [
  ["grpo", { beta: 0.05 }],
  ["rloo", {}],
  ["reinforce", {}],
  ["online-dpo", PAIRS],
];

for (const [method, more] of METHODS) {
  Deno.test({
    name:
      `keel ${method}, killed within the steps of one generation, resumed and replayed, ends with the same bits`,
    ignore: Deno.build.os === "windows",
    fn: () =>
      withDirectory(async (directory) => {
        const whole = join(directory, "whole"), killed = join(directory, "killed");
        const first = await keel(...command(method, directory, whole, more));
        assert.equal(first.code, 0, first.err);
        assert.equal(first.out, join(whole, "model") + "\n");
        const random = randomStream(Number(Deno.env.get("KEEL_TEST_SEED") ?? 1), "kills", method);
        // After odd steps, so that completions are left to be learnt from again.
        for (const step of [1, 3, 5]) {
          const resume = step > 1 ? ["--resume"] : [];
          const child = startKeel([...command(method, directory, killed, more), ...resume]);
          let err = "", asked = false;
          for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream())) {
            err += chunk;
            if (asked || !err.includes(`${method} ${step}/8`)) continue;
            asked = true;
            setTimeout(() => child.kill("SIGKILL"), random.integer(40));
          }
          await child.stdout.cancel();
          assert.equal((await child.status).signal, "SIGKILL", err);
        }
        const last = await keel(...command(method, directory, killed, more), "--resume");
        assert.equal(last.code, 0, last.err);
        assert.deepEqual(result(killed, method), result(whole, method));
        const again = await keel("replay", killed, "--output_dir", join(directory, "again"));
        assert.equal(again.code, 0, again.err);
        assert.deepEqual(result(join(directory, "again"), method), result(whole, method));
      }),
  });
}

Deno.test("a reward model and functions are weighed together, and an adapter is trained", () =>
  withDirectory(async (directory) => {
    const gpu = await openGpu(), rewardModel = join(directory, "taste");
    await saveModel(gpu, loadHeaded(gpu, BASE, 1), rewardModel, { tokenizerFrom: BASE });
    gpu.close();
    const run = join(directory, "run");
    const { code, err, out } = await keel(
      ...command("grpo", directory, run, {
        reward_model: rewardModel,
        reward_weights: "0.5,1,2",
        beta: 0.04,
        kl_estimator: "exact",
        use_peft: true,
        lora_target_modules: "all-linear",
        max_steps: 2,
      }),
      "--json",
    );
    assert.equal(code, 0, err);
    const { metrics: { grpo } } = JSON.parse(out);
    assert.ok(grpo.grad_norm > 0);
    const store = openStore(join(run, "run.db"));
    const of = (name: string) => store.metrics("grpo", name).map(({ value }) => value)[0];
    const weighed = 0.5 * of("rewards/taste/mean") + of("rewards/distinct/mean");
    assert.ok(Number.isFinite(weighed) && Number.isFinite(of("rewards/wanted/std")));
    const [sample] = store.samples();
    const { taste, distinct, wanted = 0, reward } = sample.rewards;
    assert.ok(Math.abs(0.5 * taste + distinct + 2 * wanted - reward) < 1e-9);
    store.close();
    assert.ok(existsSync(join(run, "model", "adapter_model.safetensors")));
  }));

Deno.test("what cannot work is refused before anything is trained, in a sentence", () =>
  withDirectory(async (directory) => {
    const refused = async (method: string, more: Record<string, unknown>, message: RegExp) => {
      const { code, err } = await keel(
        ...command(method, directory, join(directory, "run"), more),
        "--overwrite_output_dir",
      );
      assert.ok(code !== 0, message.source);
      assert.match(err, message);
      assert.doesNotMatch(err, /^\s+at /m);
    };
    await refused("grpo", { num_generations: 1 }, /--num_generations: got 1, expected/);
    await refused("grpo", { num_generations: 3 }, /not whole groups of num_generations = 3/);
    await refused("grpo", { reward_funcs: "no_such_reward" }, /no_such_reward/);
    await refused(
      "grpo",
      { repetition_penalty: 1.2 },
      /--repetition_penalty: 1\.2 is not supported; the sampler has no penalties/,
    );
    await refused("grpo", { min_p: 0.1 }, /--min_p: 0\.1 is not supported/);
    await refused("grpo", { max_completion_length: 100000 }, /leave no room for a prompt/);
    await refused("rloo", { kl_placement: "loss" }, /Give --loss_level token/);
    await refused("rloo", { reward_clip_range: "2,1" }, /reward_clip_range/);
    await refused(
      "reinforce",
      { advantage_estimator: "reinforce_baseline", num_generations: 1 },
      /compares completions of one prompt/,
    );
  }));

Deno.test("cispo with the epsilon of other losses is done, and said to be unusual", () =>
  withDirectory(async (directory) => {
    const { code, err } = await keel(
      ...command("grpo", directory, join(directory, "run"), { loss_type: "cispo", max_steps: 1 }),
    );
    assert.equal(code, 0, err);
    assert.match(err, /With loss_type cispo epsilon_high is the largest ratio itself/);
  }));
