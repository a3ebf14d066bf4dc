/** What is said of memory before a run on preferences against what the run then takes. */
import assert from "node:assert/strict";
import { type Gpu, openGpu } from "../../src/gpu/device.ts";
import { openRun } from "../../src/run/run.ts";
import type { Workspace } from "../../src/tape/plan.ts";
import { dpo } from "../../src/train/dpo.ts";
import { kto } from "../../src/train/kto.ts";
import { openLearner } from "../../src/train/learner.ts";
import { longestMismatched } from "../../src/train/load_preferences.ts";
import type { Needs } from "../../src/train/memory.ts";
import { loadTrained } from "../../src/train/open_model.ts";
import { dpoOptions, ktoOptions } from "../../src/train/options/defaults.ts";
import type { DpoOptions } from "../../src/train/options/dpo.ts";
import { ktoNeeds, pairNeeds } from "../../src/train/preference_needs.ts";
import { preferenceReference } from "../../src/train/reference.ts";
import { golden, withDirectory } from "../assets.ts";
import { documents } from "./small.ts";

const LLAMA = golden("models/tiny-llama"), OTHER = golden("models/tiny-llama-tied");

const quiet = () => {};
const held = (needs: Needs) => needs.weights + needs.adapters + needs["gradients and optimiser"];

const REFERENCES: Record<string, Partial<DpoOptions>> = {
  "in its files": {},
  "in its files, in bf16": { dtype: "bf16" },
  "the base of an adapter": { usePeft: true, dtype: "bf16" },
  "another model": { refModel: OTHER },
  "another model beside an adapter": { refModel: OTHER, usePeft: true, dtype: "q8_0" },
  "computed beforehand": { precomputeRefLogProbs: true },
  "moved": { syncRefModel: true },
  "moved, another model": { syncRefModel: true, refModel: LLAMA },
};

for (const [name, more] of Object.entries(REFERENCES)) {
  Deno.test(`policy and reference take what is said, within 1 %: ${name}`, async () => {
    const gpu = await openGpu(), options = dpoOptions(more);
    const said = held(pairNeeds(gpu, options, LLAMA, 40));
    let taken = 0;
    const create = gpu.device.createBuffer.bind(gpu.device);
    gpu.device.createBuffer = (descriptor) => {
      taken += descriptor.size;
      return create(descriptor);
    };
    const policy = loadTrained(gpu, LLAMA, options, quiet);
    preferenceReference(gpu, LLAMA, policy, options);
    openLearner(gpu, policy);
    // A copy of the policy has its weights, but not its tables of rotations, which are counted.
    const tolerance = more.syncRefModel && !more.refModel ? 0.03 : 0.01;
    assert.ok(Math.abs(said / taken - 1) < tolerance, `said ${said}, took ${taken}`);
    gpu.close();
  });
}

/** Bytes of activations that two steps come to. */
async function arenaOf(
  gpu: Gpu,
  steps: (workspace: Workspace, stage: ReturnType<ReturnType<typeof openRun>["stage"]>) => AsyncGenerator,
): Promise<number> {
  const workspace: Workspace = { gpu };
  await withDirectory(async (directory) => {
    const run = openRun(directory, {
      config: { command: "test", seed: 1, adapter: "", driver: "", options: {} },
    });
    for await (const _ of steps(workspace, run.stage("test")));
    run.close();
  });
  return workspace.arena!.size;
}

for (const gradientCheckpointing of [false, true]) {
  Deno.test(`activations are what is said of the longest batch (checkpointing ${gradientCheckpointing})`, async () => {
    const gpu = await openGpu();
    const shared = {
      gradientCheckpointing,
      usePeft: true,
      maxSteps: 2,
      saveSteps: 0,
      seed: 1,
      perDeviceTrainBatchSize: 8,
    };
    // Each side of a pair is filled up to a multiple of 8 tokens by itself.
    const answers = documents(2, Array.from({ length: 24 }, () => 33)).map((ids) => ({
      ids,
      promptLength: 10,
    }));
    {
      const options = dpoOptions(shared), model = loadTrained(gpu, LLAMA, options, quiet);
      const said = pairNeeds(gpu, options, LLAMA, 66).activations;
      const reference = preferenceReference(gpu, LLAMA, model, options);
      const examples = answers.map((chosen) => ({ chosen, rejected: chosen }));
      const got = await arenaOf(
        gpu,
        (workspace, stage) => dpo(stage, { workspace, model, reference, examples }, options),
      );
      assert.ok(got <= said && got > 0.7 * said, `dpo: ${got}, said ${said}`);
    }
    {
      const options = ktoOptions(shared), model = loadTrained(gpu, LLAMA, options, quiet);
      const examples = answers.map((answer, i) => ({ ...answer, label: i % 2 === 0 }));
      const longest = longestMismatched(examples, 1024);
      assert.equal(longest, 33);
      const said = ktoNeeds(gpu, options, LLAMA, longest).activations;
      const reference = preferenceReference(gpu, LLAMA, model, options);
      const got = await arenaOf(
        gpu,
        (workspace, stage) => kto(stage, { workspace, model, reference, examples }, options),
      );
      assert.ok(got <= said && got > 0.7 * said, `kto: ${got}, said ${said}`);
    }
    gpu.close();
  });
}

Deno.test("a reference that is to move must have the policy's shape", async () => {
  const gpu = await openGpu(), options = dpoOptions({ refModel: OTHER, syncRefModel: true });
  const policy = loadTrained(gpu, LLAMA, options, quiet);
  assert.throws(
    () => preferenceReference(gpu, LLAMA, policy, options),
    /has \d+ weights, the policy in .* has \d+\. A reference that moves .* must have its shape\./,
  );
  gpu.close();
});
