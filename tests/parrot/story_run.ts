/**
 * One seed of the parrot's story: `story_run.ts SEED biased|unbiased` prints gold and proxy of PPO runs as JSON, with biased
 * annotators for β 0 and the default β (one SFT and reward model for both), with unbiased ones for β 0.
 */
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

/** Gold after SFT, at its peak and at the end, how often the proxy rose between two evaluations, and by how much in all. */
export interface Story {
  sft: number;
  peak: number;
  end: number;
  climbs: number;
  proxyGain: number;
}

const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;

function story(evaluations: Evaluation[]): Story {
  const gold = evaluations.map((one) => mean(one.gold)), proxy = evaluations.map((one) => mean(one.proxy));
  return {
    sft: gold[0],
    peak: mean(bestEvaluation(evaluations).gold),
    end: gold[gold.length - 1],
    climbs: proxy.filter((p, i) => i > 0 && p > proxy[i - 1]).length / (proxy.length - 1),
    proxyGain: proxy[proxy.length - 1] - proxy[0],
  };
}

/** Runs the pipeline; stages that are finished in `directory` are kept, but for PPO. */
async function train(directory: string, given: Partial<TrainOptions>): Promise<Story> {
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
  Deno.removeSync(join(directory, "ppo"), { recursive: true });
  run.store.truncateAfter("ppo", -1);
  run.close();
  gpu.close();
  return story(evaluations);
}

if (import.meta.main) {
  const seed = Number(Deno.args[0]), annotators = Deno.args[1] as "biased" | "unbiased";
  await withDirectory(async (directory) => {
    const free = await train(directory, { seed, annotators, klCoef: 0 });
    const held = annotators === "biased" ? await train(directory, { seed, annotators }) : undefined;
    console.log(JSON.stringify({ free, held }));
  });
}
