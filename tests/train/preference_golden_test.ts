/** `keel dpo` and `keel kto` on TRL's raw rows give TRL's losses, metrics and weights at every step. */
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { readSafetensors, writeSafetensors } from "../../src/model/safetensors.ts";
import { asset, assetTest, golden, withDirectory } from "../assets.ts";
import {
  compareSteps,
  compareTensors,
  compareWeights,
  metricsOf,
  runKeel,
  type Trajectory,
  trajectory,
} from "./trl.ts";

const STORIES = "goldens/models/stories260K";

/** A recorded run; these are too large to be committed. */
const recorded = (name: string) => trajectory(name, asset(`goldens/trl/${name}.json`));

/** Runs a command as TRL was run, and compares each step and the evaluation at the end. */
async function reproduce(
  method: "dpo" | "kto",
  name: string,
  want: Trajectory,
  flags: Record<string, unknown> & { output_dir: string },
): Promise<number> {
  const c = want.config, dataset = method === "dpo" ? "preference" : "unpaired_preference";
  await runKeel(method, {
    model_name_or_path: asset(STORIES),
    dataset_name: golden(`trl/data/${dataset}.train.jsonl`),
    eval_dataset: golden(`trl/data/${dataset}.eval.jsonl`),
    shuffle_dataset: false,
    per_device_train_batch_size: c.per_device_train_batch_size,
    gradient_accumulation_steps: c.gradient_accumulation_steps,
    max_steps: c.max_steps,
    learning_rate: c.learning_rate,
    warmup_steps: c.warmup_steps,
    max_length: c.max_length,
    beta: c.beta,
    loss_type: c.loss_type,
    logging_steps: 1,
    ...flags,
  });
  const metrics = metricsOf(flags.output_dir, method);
  const steps = compareSteps(name, want, metrics);
  const last = metrics.get(want.steps.length)!;
  for (const [key, value] of Object.entries(want.eval)) {
    if (!key.startsWith("eval_") || key === "eval_num_tokens") continue;
    // KTO was evaluated in two batches of different size, of whose metrics TRL has the plain mean, but for the loss.
    if (method === "kto" && key !== "eval_loss") continue;
    const tolerance = key === "eval_mean_token_accuracy" ? 0.01 : 2e-3 * Math.abs(value) + 2e-4;
    assert.ok(Math.abs(last[key] - value) <= tolerance, `${name}: ${key} ${last[key]} against ${value}`);
  }
  return steps;
}

function tell(name: string, steps: number, weights: number): void {
  console.log(`${name}: steps use ${steps.toFixed(2)}, weights ${weights.toFixed(2)} of their tolerances`);
}

for (const [method, name] of [["dpo", "dpo_sigmoid"], ["dpo", "dpo_ipo"], ["kto", "kto"]] as const) {
  assetTest(`keel ${method} reproduces TRL's ${name}`, () =>
    withDirectory(async (directory) => {
      const want = recorded(name);
      const steps = await reproduce(method, name, want, {
        output_dir: directory,
        ...(method === "kto" && { undesirable_weight: want.config.undesirable_weight }),
      });
      tell(name, steps, compareWeights(name, want.final_weights, join(directory, "model")));
    }));
}

assetTest(
  "keel dpo reproduces TRL's dpo_lora, its reference being the base",
  () =>
    withDirectory(async (directory) => {
      const name = "dpo_lora", want = recorded(name);
      const start = join(directory, "start"), out = join(directory, "run");
      mkdirSync(start);
      const init = readSafetensors(asset(`goldens/trl/${name}.safetensors`));
      // PEFT leaves the adapter's name out of its files.
      const named = (tensor: string) => tensor.replace(".default.", ".");
      writeSafetensors(
        join(start, "adapter_model.safetensors"),
        [...init.tensors].filter(([tensor]) => tensor.startsWith("init/")).map(([tensor, { shape }]) =>
          [named(tensor.slice("init/".length)), { shape, data: init.read(tensor) }] as const
        ),
      );
      Deno.writeTextFileSync(
        join(start, "adapter_config.json"),
        JSON.stringify({
          peft_type: "LORA",
          task_type: "CAUSAL_LM",
          base_model_name_or_path: asset(STORIES),
          r: 8,
          lora_alpha: 16,
          lora_dropout: 0,
          target_modules: ["q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"],
          bias: "none",
        }),
      );
      const steps = await reproduce("dpo", name, want, { model_name_or_path: start, output_dir: out });
      const weights = readSafetensors(join(out, "model", "adapter_model.safetensors"));
      tell(name, steps, compareTensors(name, want.final_weights, (tensor) => weights.read(named(tensor))));
    }),
);
