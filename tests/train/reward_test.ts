/** The reward trainer's loss, metrics and gradients against PyTorch's, with and without centred rewards. */
import assert from "node:assert/strict";
import { openGpu } from "../../src/gpu/device.ts";
import { loadModel } from "../../src/model/load.ts";
import { openRun } from "../../src/run/run.ts";
import { rewardOptions } from "../../src/train/options/defaults.ts";
import { reward } from "../../src/train/reward.ts";
import { golden, withDirectory } from "../assets.ts";
import { openGolden, unpad } from "../model/golden.ts";

const PAIRS = 4;

for (const profile of ["cpu", "gpu"] as const) {
  for (const [name, centerRewardsCoefficient] of [["bt", undefined], ["bt_center", 0.01]] as const) {
    for (const gradientAccumulationSteps of [1, 2]) {
      const passes = gradientAccumulationSteps === 1 ? "one pass" : "two passes";
      Deno.test(`${name}: loss and gradients in ${passes} are PyTorch's on the ${profile} profile`, async () => {
        await withDirectory(async (directory) => {
          const gpu = await openGpu({ profile }), from = golden("models/tiny-llama-rm"), g = openGolden(from);
          const shape = g.shape("right.input_ids");
          const { documents } = unpad(
            g.integers("right.input_ids"),
            g.integers("right.attention_mask"),
            shape,
          );
          const examples = Array.from({ length: PAIRS }, (_, i) => ({
            chosen: documents[i],
            rejected: documents[i + PAIRS],
          }));
          const config = { command: "reward", seed: 1, adapter: "", driver: "", options: {} };
          const run = openRun(directory, { config }), stage = run.stage("reward");
          // With beta1 = 0 AdamW's first moment is the gradient, and a learning rate of 0 leaves the weights alone.
          const options = rewardOptions({
            learningRate: 0,
            adamBeta1: 0,
            maxGradNorm: 0,
            maxSteps: 1,
            shuffleDataset: false,
            perDeviceTrainBatchSize: PAIRS / gradientAccumulationSteps,
            gradientAccumulationSteps,
            centerRewardsCoefficient,
          });
          const data = { workspace: { gpu }, model: loadModel(gpu, from), examples, evalExamples: examples };
          const events = await Array.fromAsync(reward(stage, data, options));
          assert.equal(events.length, 1);
          const { metrics } = events[0];

          const shares: [string, number][] = [];
          const check = (what: string, got: ArrayLike<number>, want: Float32Array) => {
            assert.equal(got.length, want.length);
            const worst = want.reduce((most, x, i) => Math.max(most, Math.abs(got[i] - x)), 0);
            shares.push([what, worst / g.atol(what)]);
          };
          const loss = g.floats(`${name}.loss`), scores = g.floats("right.scores");
          check(`${name}.loss`, [metrics.loss], loss);
          check(`${name}.loss`, [metrics.eval_loss], loss);
          const margin = g.floats("bt.margin").reduce((a, b) => a + b) / PAIRS;
          for (const prefix of ["", "eval_"]) {
            assert.ok(Math.abs(metrics[`${prefix}margin`] - margin) <= g.atol("bt.margin"));
            assert.equal(metrics[`${prefix}accuracy`], g.floats("bt.accuracy")[0]);
          }
          const mean = scores.reduce((a, b) => a + b) / scores.length;
          assert.ok(Math.abs(metrics.mean_reward - mean) <= g.atol("right.scores"));

          const { files } = stage.newest()!;
          let compared = 0;
          for (const [key, { data }] of Object.entries(files.optimizer)) {
            if (!key.startsWith("exp_avg.")) continue;
            const golden = `${name}.grad.${key.slice("exp_avg.".length)}`;
            check(golden, data, g.floats(golden));
            compared++;
          }
          assert.ok(compared > 15, `${compared} gradients`);
          const [what, worst] = shares.reduce((a, b) => b[1] > a[1] ? b : a);
          console.log(`worst ${worst.toFixed(3)} of atol (${what})`);
          assert.ok(worst <= 1, `${what} uses ${worst} of its atol`);
          run.close();
          gpu.close();
        });
      });
    }
  }
}
