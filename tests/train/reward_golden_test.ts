/** `keel reward` on TRL's raw pairs gives TRL's losses, metrics and weights at every step. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { readConfig } from "../../src/model/config.ts";
import { saveWeights } from "../../src/model/load.ts";
import type { HostWeights } from "../../src/model/params.ts";
import { readSafetensors } from "../../src/model/safetensors.ts";
import { asset, assetTest, golden, withDirectory } from "../assets.ts";
import { compareSteps, compareWeights, metricsOf, runKeel, trajectory } from "./trl.ts";

/** stories260K with the head that TRL started from. */
function headedStories(directory: string, head: string): void {
  const from = asset("goldens/models/stories260K");
  const body = readSafetensors(join(from, "model.safetensors"));
  const weights: HostWeights = {};
  for (const [name, { shape }] of body.tensors) weights[name] = { shape, data: body.read(name) };
  const init = readSafetensors(head);
  weights["score.weight"] = { shape: [1, 64], data: init.read("init/score.weight") };
  delete weights["lm_head.weight"];
  saveWeights({ ...readConfig(from), architecture: "reward" }, weights, directory, { tokenizerFrom: from });
}

for (
  const [name, dataset] of [["reward", "preference"], ["reward_margin_center", "preference_margin"]]
) {
  assetTest(`keel reward reproduces TRL's ${name}`, async () => {
    await withDirectory(async (directory) => {
      const want = trajectory(name), c = want.config;
      const model = join(directory, "start"), out = join(directory, "run");
      headedStories(model, golden(`trl/${name}.safetensors`));
      await runKeel("reward", {
        model_name_or_path: model,
        dataset_name: golden(`trl/data/${dataset}.train.jsonl`),
        eval_dataset: golden(`trl/data/${dataset}.eval.jsonl`),
        output_dir: out,
        shuffle_dataset: false,
        per_device_train_batch_size: c.per_device_train_batch_size,
        gradient_accumulation_steps: c.gradient_accumulation_steps,
        max_steps: c.max_steps,
        learning_rate: c.learning_rate,
        warmup_steps: c.warmup_steps,
        max_length: c.max_length,
        ...(c.center_rewards_coefficient === null
          ? {}
          : { center_rewards_coefficient: c.center_rewards_coefficient }),
        logging_steps: 1,
      });
      const metrics = metricsOf(out, "reward");
      const steps = compareSteps(name, want, metrics);
      const weights = compareWeights(name, want.final_weights, join(out, "model"));
      const last = metrics.get(want.steps.length)!;
      for (const key of ["eval_loss", "eval_accuracy", "eval_margin"]) {
        const tolerance = 2e-3 * Math.abs(want.eval[key]) + 2e-4;
        assert.ok(
          Math.abs(last[key] - want.eval[key]) <= tolerance,
          `${key} ${last[key]} against ${want.eval[key]}`,
        );
      }
      console.log(
        `${name}: steps use ${steps.toFixed(2)}, weights ${weights.toFixed(2)} of their tolerances`,
      );
    });
  });
}
