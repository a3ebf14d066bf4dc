/** What is said of the memory of the online methods before a run against what the run then takes. */
import assert from "node:assert/strict";
import { openGpu } from "../../src/gpu/device.ts";
import { frozenCopy } from "../../src/model/blend.ts";
import { loadFrozen } from "../../src/model/load.ts";
import { openRun } from "../../src/run/run.ts";
import type { Workspace } from "../../src/tape/plan.ts";
import { grpo } from "../../src/train/grpo.ts";
import { openLearner } from "../../src/train/learner.ts";
import { onlineNeeds } from "../../src/train/online_needs.ts";
import { loadReference, loadTrained } from "../../src/train/open_model.ts";
import { grpoOptions } from "../../src/train/options/defaults.ts";
import type { GrpoOptions } from "../../src/train/options/grpo.ts";
import { golden, withDirectory } from "../assets.ts";
import { tokenReward } from "./online_runs.ts";
import { documents } from "./small.ts";

const LLAMA = golden("models/tiny-llama"), RM = golden("models/tiny-llama-rm");
const quiet = () => {};

const CASES: Record<string, Partial<GrpoOptions>> = {
  "no reference": {},
  "a reference": { beta: 0.1 },
  "a reference that moves": { beta: 0.1, syncRefModel: true },
  "an adapter and the exact KL": { beta: 0.1, klEstimator: "exact", usePeft: true, dtype: "bf16" },
  "the exact KL, checkpointed": { beta: 0.1, klEstimator: "exact", gradientCheckpointing: true },
};

for (const [name, more] of Object.entries(CASES)) {
  Deno.test(`models and activations of GRPO are what is said: ${name}`, async () => {
    const options = grpoOptions({
      perDeviceTrainBatchSize: 8,
      numGenerations: 4,
      maxCompletionLength: 20,
      maxSteps: 2,
      saveSteps: 0,
      seed: 1,
      rewardModelPath: [RM],
      ...more,
    });
    const gpu = await openGpu(), sizes: number[] = [];
    const create = gpu.device.createBuffer.bind(gpu.device);
    gpu.device.createBuffer = (descriptor) => {
      sizes.push(descriptor.size);
      return create(descriptor);
    };
    const said = onlineNeeds(gpu, options, LLAMA, 40);
    assert.equal(sizes.length, 0, "an estimate takes no memory");
    const policy = loadTrained(gpu, LLAMA, options, quiet);
    const reference = options.beta === 0
      ? undefined
      : options.syncRefModel
      ? frozenCopy(gpu, policy)
      : loadReference(gpu, LLAMA, policy, options);
    loadFrozen(gpu, RM, options.dtype);
    openLearner(gpu, policy).close();
    const taken = sizes.reduce((a, b) => a + b, 0);
    const held = said.weights + said.adapters + said["gradients and optimiser"];
    assert.ok(Math.abs(held / taken - 1) < 0.01, `said ${held}, taken ${taken}`);

    const workspace: Workspace = { gpu };
    await withDirectory(async (directory) => {
      const run = openRun(directory, {
        config: { command: "grpo", seed: 1, adapter: "", driver: "", options: {} },
      });
      const prompts = documents(1, Array.from({ length: 8 }, () => 40)).map((ids) => ({
        ids,
        text: "",
        prompt: "",
        columns: {},
      }));
      const data = {
        workspace,
        policy,
        reference,
        prompts,
        rewards: [tokenReward("first", (ids) => ids[0])],
        stopIds: [],
        decode: () => "",
      };
      for await (const _ of grpo(run.stage("grpo"), data, options));
      run.close();
    });
    const got = workspace.arena!.size;
    assert.ok(got <= said.activations && got > 0.7 * said.activations, `${got}, said ${said.activations}`);
    gpu.close();
  });
}
