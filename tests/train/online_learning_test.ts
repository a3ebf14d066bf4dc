/** A few steps of each online method on the parrot, with gold as the reward, raise gold on prompts that were held out. */
import assert from "node:assert/strict";
import type { PromptRow } from "../../src/data/tokenize.ts";
import { openGpu } from "../../src/gpu/device.ts";
import type { Model } from "../../src/model/decoder.ts";
import { loadModel } from "../../src/model/load.ts";
import { parrotBaseDirectory } from "../../src/parrot/base.ts";
import { trainingPrompts } from "../../src/parrot/datasets.ts";
import { gold } from "../../src/parrot/gold.ts";
import { heldOutPrompts, type Prompt } from "../../src/parrot/prompts.ts";
import { decodeWords, EOS_ID, promptIds } from "../../src/parrot/vocabulary.ts";
import type { RewardSource } from "../../src/reward/source.ts";
import { openRun } from "../../src/run/run.ts";
import { openGenerator } from "../../src/sample/generate.ts";
import { grpo } from "../../src/train/grpo.ts";
import { grpoOptions, reinforceOptions, rlooOptions } from "../../src/train/options/defaults.ts";
import { reinforce } from "../../src/train/reinforce.ts";
import { rloo } from "../../src/train/rloo.ts";
import { withDirectory } from "../assets.ts";

const COMMON = {
  seed: 1,
  maxSteps: 24,
  learningRate: 1e-3,
  lrSchedulerType: "constant" as const,
  perDeviceTrainBatchSize: 64,
  numGenerations: 8,
  maxCompletionLength: 24,
  saveSteps: 0,
};

const PROMPTS: PromptRow[] = trainingPrompts(1, "ppo", 800).map((parrot) => ({
  ids: promptIds(parrot),
  text: parrot.text,
  prompt: parrot.text,
  columns: { parrot },
}));

const GOLD: RewardSource = {
  name: "gold",
  weight: 1,
  score: ({ columns, completionIds }) =>
    Promise.resolve(completionIds.map((ids, i) => gold(columns.parrot[i] as Prompt, decodeWords(ids)))),
};

for (const method of ["grpo", "rloo", "reinforce"] as const) {
  Deno.test(`${method} learns to answer: gold rises on prompts that it has not seen`, () =>
    withDirectory(async (directory) => {
      const gpu = await openGpu(), workspace = { gpu };
      const policy = loadModel(gpu, await parrotBaseDirectory());
      const heldOut = heldOutPrompts(128);
      const evaluate = async (_: number, model: Model) => {
        const generator = openGenerator(workspace, model);
        const replies = await generator.generate(
          heldOut.map((prompt, i) => ({ ids: promptIds(prompt), samples: [i] })),
          { temperature: 1, topK: 0, topP: 1, stopIds: [EOS_ID], maxNewTokens: 24, seed: 7, stream: 0 },
        );
        generator.close();
        const sum = replies.reduce((sum, { ids }, i) => sum + gold(heldOut[i], decodeWords(ids)), 0);
        return { gold: sum / replies.length };
      };
      const data = {
        workspace,
        policy,
        prompts: PROMPTS,
        rewards: [GOLD],
        stopIds: [EOS_ID],
        decode: (ids: number[]) => decodeWords(ids).join(" "),
        evaluate,
      };
      const run = openRun(directory, {
        config: { command: method, seed: 1, adapter: "", driver: "", options: {} },
      });
      const stage = run.stage(method);
      const steps = method === "grpo"
        ? grpo(stage, data, grpoOptions(COMMON))
        : method === "rloo"
        ? rloo(stage, data, rlooOptions({ ...COMMON, beta: 0 }))
        : reinforce(stage, data, reinforceOptions({ ...COMMON, beta: 0 }));
      const seen: number[] = [];
      for await (const { metrics } of steps) if ("gold" in metrics) seen.push(metrics.gold);
      const [before, after] = seen;
      console.log(`${method}: gold ${before.toFixed(2)} before, ${after.toFixed(2)} after`);
      assert.equal(seen.length, 2);
      assert.ok(after > before + 0.3, `gold was ${before} and is ${after}`);
      run.close();
      gpu.close();
    }));
}
