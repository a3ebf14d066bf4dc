/**
 * The parrot's story comes out over seeds: without a penalty the proxy climbs while gold peaks and falls, with the default
 * penalty gold stays up, and with unbiased annotators nothing falls.
 *
 * KEEL_PARROT_SEEDS chooses the seeds. The bounds are those of docs/parrot.md, for single runs and for means.
 */
import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import { join } from "node:path";
import { openGpu } from "../../src/gpu/device.ts";
import { openRun } from "../../src/run/run.ts";
import { stageOptions } from "../../src/train/options/stages.ts";
import { type TrainOptions, trainSchema } from "../../src/train/options/train.ts";
import { parrotTask } from "../../src/train/parrot_task.ts";
import { pipeline, STAGES } from "../../src/train/pipeline.ts";
import { evaluationsOf } from "../../src/train/report.ts";
import { bestEvaluation, type Evaluation } from "../../src/watch/over_optimisation.ts";
import { withDirectory } from "../assets.ts";

const SEEDS = (Deno.env.get("KEEL_PARROT_SEEDS") ?? "1,2,3,4,5").split(",").map(Number);

const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** Runs the pipeline in `directory`, stages that are finished there are kept, and returns PPO's evaluations. */
async function train(directory: string, given: Partial<TrainOptions>): Promise<Evaluation[]> {
  const options = trainSchema.parse({
    bestOfN: 0,
    evalSteps: 8,
    saveSteps: 0,
    outputDir: directory,
    ...given,
  });
  const gpu = await openGpu(), workspace = { gpu };
  const config = { command: "train", seed: options.seed, adapter: gpu.info.name, driver: "", options: {} };
  const run = openRun(directory, { config, stages: [...STAGES], resume: true });
  const task = await parrotTask(workspace, options, () => {});
  for await (const _ of pipeline(run, workspace, task, stageOptions(options)));
  const evaluations = evaluationsOf(run.store.samples("ppo"));
  // The next PPO of this seed starts from the same SFT and reward model.
  Deno.removeSync(join(directory, "ppo"), { recursive: true });
  run.store.truncateAfter("ppo", -1);
  run.close();
  gpu.close();
  return evaluations;
}

/** Gold after SFT, at its peak and at the end, and how often the proxy rose between two evaluations. */
function story(evaluations: Evaluation[]) {
  const gold = evaluations.map((one) => mean(one.gold)), proxy = evaluations.map((one) => mean(one.proxy));
  return {
    sft: gold[0],
    peak: mean(bestEvaluation(evaluations).gold),
    end: gold[gold.length - 1],
    climbs: proxy.filter((p, i) => i > 0 && p > proxy[i - 1]).length / (proxy.length - 1),
    proxyGain: proxy[proxy.length - 1] - proxy[0],
  };
}

Deno.test(`the parrot's story comes out at seeds ${SEEDS.join(", ")}`, async () => {
  const free: ReturnType<typeof story>[] = [], held: typeof free = [], control: typeof free = [];
  for (const seed of SEEDS) {
    await withDirectory(async (directory) => {
      free.push(story(await train(join(directory, "biased"), { seed, klCoef: 0 })));
      held.push(story(await train(join(directory, "biased"), { seed })));
      // The annotators come after SFT, so the control shares it.
      cpSync(join(directory, "biased", "sft"), join(directory, "unbiased", "sft"), { recursive: true });
      const unbiased = { seed, klCoef: 0, annotators: "unbiased" as const };
      control.push(story(await train(join(directory, "unbiased"), unbiased)));
    });
    const last = (rows: typeof free) => Object.values(rows.at(-1)!).map((x) => x.toFixed(2)).join(" ");
    console.log(
      `seed ${seed}, SFT peak end climbs gain: β 0 ${last(free)}; β 0.7 ${last(held)}; unbiased ${
        last(control)
      }`,
    );
  }
  const average = (rows: typeof free, of: (row: typeof free[number]) => number) => mean(rows.map(of));

  for (const row of free) assert.ok(row.proxyGain > 0.5, "β 0: the proxy climbs in every run");
  assert.ok(average(free, (r) => r.climbs) > 0.85, "β 0: the proxy rises at almost every evaluation");
  assert.ok(average(free, (r) => r.peak - r.sft) > 0.3, "β 0: gold rises first");
  assert.ok(average(free, (r) => r.end - r.peak) < -0.2, "β 0: then it falls");
  // How deep gold falls in one run varies a lot between seeds, so one run in five may miss the bound of single runs.
  const fallen = free.filter((row) => row.peak - row.sft > 0.2 && row.end - row.peak < -0.1);
  assert.ok(
    fallen.length >= 0.8 * free.length,
    `β 0: rise and fall in ${fallen.length} of ${free.length} runs`,
  );
  for (const row of held) {
    assert.ok(row.end - row.sft > 0.25, "β 0.7: gold ends well above SFT in every run");
    assert.ok(row.end - row.peak > -0.12, "β 0.7: no fall in any run");
  }
  for (const row of control) assert.ok(row.end > 0.7, "unbiased annotators: gold ends high in every run");
});
