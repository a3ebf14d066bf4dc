/** `keel sft` on TRL's raw data gives TRL's losses, metrics and weights at every step. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { asset, assetTest, golden, withDirectory } from "../assets.ts";
import { compareSteps, compareWeights, metricsOf, runKeel, trajectory } from "./trl.ts";

for (
  const [name, dataset] of [
    ["sft_lm", "language_modeling"],
    ["sft_prompt_completion", "prompt_completion"],
    ["sft_packed_bfd", "language_modeling"],
    ["sft_dft", "prompt_completion"],
  ]
) {
  assetTest(`keel sft reproduces TRL's ${name}`, async () => {
    await withDirectory(async (directory) => {
      const want = trajectory(name), c = want.config;
      const flags = {
        model_name_or_path: asset("goldens/models/stories260K"),
        dataset_name: golden(`trl/data/${dataset}.train.jsonl`),
        eval_dataset: golden(`trl/data/${dataset}.eval.jsonl`),
        output_dir: directory,
        shuffle_dataset: false,
        per_device_train_batch_size: c.per_device_train_batch_size,
        gradient_accumulation_steps: c.gradient_accumulation_steps,
        max_steps: c.max_steps,
        learning_rate: c.learning_rate,
        warmup_steps: c.warmup_steps,
        max_length: c.max_length,
        loss_type: c.loss_type,
        packing: c.packing,
        logging_steps: 1,
      };
      await runKeel("sft", flags);
      const metrics = metricsOf(directory, "sft");
      const steps = compareSteps(name, want, metrics);
      const weights = compareWeights(name, want.final_weights, join(directory, "model"));
      const last = metrics.get(want.steps.length)!;
      for (const key of ["eval_loss", "eval_entropy"]) {
        const tolerance = 2e-3 * want.eval[key] + 2e-4;
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
