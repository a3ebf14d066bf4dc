/** What is said of memory before a run against what the run then takes: buffers as they are made, and plans. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { packBatch } from "../../src/data/batches.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { openGpu } from "../../src/gpu/device.ts";
import { readConfig } from "../../src/model/config.ts";
import { exportGguf } from "../../src/model/export.ts";
import { loadHeaded } from "../../src/model/headed.ts";
import { saveModel } from "../../src/model/load.ts";
import { sketchModel } from "../../src/model/sketch.ts";
import { openRun } from "../../src/run/run.ts";
import { activationBytes } from "../../src/tape/plan.ts";
import { Tape } from "../../src/tape/tape.ts";
import type { StepEvent } from "../../src/train/events.ts";
import { openLearner } from "../../src/train/learner.ts";
import { type Needs } from "../../src/train/memory.ts";
import { ppoNeeds, rewardNeeds, sftNeeds } from "../../src/train/needs.ts";
import { loadReference, loadTrained, loadTrainedHeaded } from "../../src/train/open_model.ts";
import { ppoOptions, rewardOptions, sftOptions } from "../../src/train/options/defaults.ts";
import type { ModelOptions } from "../../src/train/options/model.ts";
import { ppo } from "../../src/train/ppo.ts";
import { reward } from "../../src/train/reward.ts";
import { recordSft, sft } from "../../src/train/sft.ts";
import type { Workspace } from "../../src/tape/plan.ts";
import { asset, assetTest, golden, withDirectory } from "../assets.ts";
import { documents, pairs } from "./small.ts";

const LLAMA = golden("models/tiny-llama"),
  RM = golden("models/tiny-llama-rm"),
  TIED = golden("models/tiny-llama-tied");

/** A GPU that remembers the sizes of its buffers. */
async function countingGpu(): Promise<{ gpu: Gpu; taken: () => number }> {
  const gpu = await openGpu(), sizes: number[] = [];
  const create = gpu.device.createBuffer.bind(gpu.device);
  gpu.device.createBuffer = (descriptor) => {
    sizes.push(descriptor.size);
    return create(descriptor);
  };
  return { gpu, taken: () => sizes.reduce((a, b) => a + b, 0) };
}

const held = (needs: Needs) => needs.weights + needs.adapters + needs["gradients and optimiser"];

const quiet = () => {};

/** Compares the models' part of `needs` with what `load` takes. */
async function compare(name: string, needs: (gpu: Gpu) => Needs, load: (gpu: Gpu) => void): Promise<void> {
  const { gpu, taken } = await countingGpu();
  const said = held(needs(gpu));
  assert.equal(taken(), 0, "an estimate takes no memory");
  load(gpu);
  const ratio = said / taken();
  gpu.close();
  assert.ok(Math.abs(ratio - 1) < 0.01, `${name}: said ${said} bytes, ${ratio} of what was taken`);
}

const ADAPTERS: Record<string, Partial<ModelOptions>> = {
  whole: {},
  adapter: { usePeft: true },
  "adapter of all, bf16 base": {
    usePeft: true,
    loraTargetModules: ["all-linear"],
    useDora: true,
    dtype: "bf16",
  },
  "adapter and embedding, q8_0 base": {
    usePeft: true,
    loraR: 3,
    loraModulesToSave: ["embed_tokens"],
    dtype: "q8_0",
  },
};

for (const [name, more] of Object.entries(ADAPTERS)) {
  Deno.test(`weights, gradients and moments are what is said, within 1 %: ${name}`, async () => {
    for (const path of [LLAMA, TIED]) {
      const options = sftOptions(more), train = rewardOptions(more);
      await compare(
        `sft ${path}`,
        (gpu) => sftNeeds(gpu, options, path, 20),
        (gpu) => openLearner(gpu, loadTrained(gpu, path, options, quiet)),
      );
      await compare(
        `reward ${path}`,
        (gpu) => rewardNeeds(gpu, train, path, 20),
        (gpu) => openLearner(gpu, loadTrainedHeaded(gpu, path, train, quiet)),
      );
    }
    for (const judge of [RM, LLAMA]) {
      for (const criticInit of ["reward", "fresh"] as const) {
        const options = ppoOptions({ ...more, rewardModelPath: [judge], criticInit });
        await compare(`ppo ${judge} ${criticInit}`, (gpu) => ppoNeeds(gpu, options, LLAMA, 20), (gpu) => {
          const policy = loadTrained(gpu, LLAMA, options, quiet);
          loadReference(gpu, LLAMA, policy, options);
          loadHeaded(gpu, judge, 1, { dtype: options.dtype });
          openLearner(gpu, policy);
          openLearner(gpu, loadTrainedHeaded(gpu, criticInit === "reward" ? judge : LLAMA, options, quiet));
        });
      }
    }
  });
}

/** Makes an adapter of `base` in a directory. */
async function adapterOn(base: string, directory: string, headed: boolean): Promise<string> {
  const gpu = await openGpu(), options = sftOptions({ usePeft: true });
  const model = headed
    ? loadTrainedHeaded(gpu, base, options, quiet)
    : loadTrained(gpu, base, options, quiet);
  await saveModel(gpu, model, directory);
  gpu.close();
  return directory;
}

Deno.test("policy, critic, reference and reward model that are adapters of one base hold it once", () =>
  withDirectory(async (directory) => {
    const path = await adapterOn(LLAMA, join(directory, "policy"), false);
    const judge = await adapterOn(LLAMA, join(directory, "judge"), true);
    const options = ppoOptions({ rewardModelPath: [judge], dtype: "f16" });
    await compare("adapters", (gpu) => ppoNeeds(gpu, options, path, 20), (gpu) => {
      const policy = loadTrained(gpu, path, options, quiet);
      const reference = loadReference(gpu, path, policy, options);
      const reward = loadHeaded(gpu, judge, 1, { dtype: options.dtype });
      const value = loadTrainedHeaded(gpu, judge, options, quiet);
      openLearner(gpu, policy);
      openLearner(gpu, value);
      for (const other of [reference, reward, value]) {
        assert.equal(other.params, policy.params);
        assert.notEqual(other.adapter!.params, policy.adapter!.params);
      }
    });
    // Of two bases both count.
    const other = await adapterOn(RM, join(directory, "other"), true),
      two = { ...options, rewardModelPath: [other] };
    await compare("two bases", (gpu) => ppoNeeds(gpu, two, path, 20), (gpu) => {
      const policy = loadTrained(gpu, path, two, quiet);
      loadReference(gpu, path, policy, two);
      loadHeaded(gpu, other, 1, { dtype: two.dtype });
      openLearner(gpu, policy);
      openLearner(gpu, loadTrainedHeaded(gpu, other, two, quiet));
    });
  }));

assetTest("a GGUF file's frozen weights count as they are held", () =>
  withDirectory(async (directory) => {
    for (const type of ["Q8_0", "F16"] as const) {
      const path = join(directory, `${type}.gguf`);
      exportGguf(asset("goldens/models/stories260K"), path, type);
      for (const usePeft of [true, false]) {
        const options = ppoOptions({ usePeft, rewardModelPath: [RM] });
        await compare(`${type} ${usePeft}`, (gpu) => ppoNeeds(gpu, options, path, 20), (gpu) => {
          const policy = loadTrained(gpu, path, options, quiet);
          loadReference(gpu, path, policy, options);
          loadHeaded(gpu, RM, 1);
          openLearner(gpu, policy);
          openLearner(gpu, loadTrainedHeaded(gpu, RM, options, quiet));
        });
      }
    }
  }));

/** Runs a trainer for two steps and returns the bytes of activations that its workspace has come to. */
async function arenaOf(
  method: "sft" | "reward" | "ppo",
  gpu: Gpu,
  steps: (
    workspace: Workspace,
    stage: ReturnType<ReturnType<typeof openRun>["stage"]>,
  ) => AsyncGenerator<StepEvent>,
): Promise<number> {
  const workspace: Workspace = { gpu };
  await withDirectory(async (directory) => {
    const run = openRun(directory, {
      config: { command: method, seed: 1, adapter: "", driver: "", options: {} },
      interrupted: () => false,
    });
    for await (const _ of steps(workspace, run.stage(method)));
    run.close();
  });
  return workspace.arena!.size;
}

for (const gradientCheckpointing of [false, true]) {
  for (const usePeft of [false, true]) {
    const how = `${gradientCheckpointing ? "" : "no "}checkpointing, ${usePeft ? "adapter" : "whole"}`;
    Deno.test(`the activations of a run are what is said of its longest batch: ${how}`, async () => {
      const gpu = await openGpu();
      const common = { gradientCheckpointing, usePeft, maxSteps: 2, saveSteps: 0, seed: 1 };
      const texts = documents(1, Array.from({ length: 24 }, () => 40));
      const shared = { ...common, perDeviceTrainBatchSize: 8, learningRate: 1e-3 };
      {
        const options = sftOptions(shared),
          examples = texts.map((ids) => ({ ids, scored: ids.map((_, t) => t > 0) }));
        const said = sftNeeds(gpu, options, LLAMA, 40).activations;
        const model = loadTrained(gpu, LLAMA, options, quiet);
        assert.equal(
          await arenaOf(
            "sft",
            gpu,
            (workspace, stage) => sft(stage, { workspace, model, examples }, options),
          ),
          said,
        );
      }
      {
        const options = rewardOptions(shared),
          examples = pairs(2, 16).map((pair) => ({
            ...pair,
            chosen: texts[0].slice(0, 16),
            rejected: texts[1].slice(0, 16),
          }));
        const said = rewardNeeds(gpu, options, LLAMA, 32).activations;
        const model = loadTrainedHeaded(gpu, LLAMA, options, quiet);
        const got = await arenaOf(
          "reward",
          gpu,
          (workspace, stage) => reward(stage, { workspace, model, examples }, options),
        );
        assert.ok(got <= said && got > 0.7 * said, `reward: ${got}, said ${said}`);
      }
      {
        const options = ppoOptions({
          ...shared,
          rewardModelPath: [RM],
          criticInit: "fresh",
          responseLength: 20,
          numMiniBatches: 1,
          numPpoEpochs: 1,
          gradientAccumulationSteps: 3,
        });
        const said = ppoNeeds(gpu, options, LLAMA, 40).activations;
        const policy = loadTrained(gpu, LLAMA, options, quiet);
        const got = await arenaOf("ppo", gpu, (workspace, stage) =>
          ppo(stage, {
            workspace,
            policy,
            reference: loadReference(gpu, LLAMA, policy, options),
            reward: loadHeaded(gpu, LLAMA, 1),
            value: loadTrainedHeaded(gpu, LLAMA, options, quiet),
            scoreScale: { mean: 0, std: 1 },
            valueScale: { mean: 0, std: 1 },
            prompts: texts.map((ids) => ({ ids, text: "" })),
            stopIds: [],
            decode: () => "",
          }, options));
        assert.ok(got <= said && got > 0.7 * said, `ppo: ${got}, said ${said}`);
      }
      gpu.close();
    });
  }
}

Deno.test("with checkpointing a layer keeps one tensor, its input; without it, all that its gradients need", async () => {
  const gpu = await openGpu(), tokens = packBatch(documents(1, [200])).tokens;
  const base = readConfig(LLAMA);
  const bytesOf = (layers: number, gradientCheckpointing: boolean, adapted: boolean) => {
    const tape = new Tape(gpu.profile);
    const lora = {
      r: 4,
      loraAlpha: 8,
      loraDropout: 0.1,
      targetModules: "all-linear" as const,
      useRslora: false,
      useDora: false,
      modulesToSave: [],
    };
    const model = sketchModel({ ...base, layers }, { trained: true, ...(adapted && { lora }) });
    recordSft(tape, model, tokens, { gradientCheckpointing, lossType: "nll" });
    return activationBytes(tape, gpu.alignment);
  };
  const { hiddenSize, heads, kvHeads, headDim, intermediateSize } = base;
  const floats = (columns: number) => tokens * Math.ceil(columns / 4) * 4 * 4;
  const input = floats(hiddenSize);
  // The two norms' results, the residual stream in the middle, projections, attention, gate and up, and their product.
  const block = 4 * input + floats((heads + 2 * kvHeads) * headDim) + floats(heads * headDim) +
    3 * floats(intermediateSize);
  for (const adapted of [false, true]) {
    const growth = (checkpointing: boolean) => {
      const [four, eight, sixteen] = [4, 8, 16].map((layers) => bytesOf(layers, checkpointing, adapted));
      assert.equal((sixteen - eight) / 8, (eight - four) / 4);
      return (eight - four) / 4;
    };
    const plain = growth(false), checkpointed = growth(true);
    console.log(
      `bytes per layer, ${tokens} tokens: ${plain} without, ${checkpointed} with checkpointing, input ${input}`,
    );
    assert.ok(checkpointed <= input, `${checkpointed} bytes a layer, of an input of ${input}`);
    assert.ok(plain >= 0.9 * block && plain < 2 * block, `${plain} bytes a layer, of a block of ${block}`);
  }
  gpu.close();
});
