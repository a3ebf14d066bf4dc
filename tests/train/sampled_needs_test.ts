/** What is said of memory before sampling and scoring against the buffers that are made then. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { loadTokenizer } from "../../src/data/tokenizer.ts";
import { openGpu } from "../../src/gpu/device.ts";
import { loadFrozen } from "../../src/model/load.ts";
import { totalOf } from "../../src/train/memory.ts";
import { bonSchema } from "../../src/train/options/bon.ts";
import { openRewards } from "../../src/train/rewards.ts";
import { sampledNeeds, SCORED_ROWS } from "../../src/train/sampled_needs.ts";
import { sampledPrompts, scoresOf } from "../../src/train/sampled_prompts.ts";
import { golden, withDirectory } from "../assets.ts";
import { tinyModel, writeByteTokenizer } from "../cli/tiny_models.ts";

const RM = golden("models/tiny-llama-rm");

/** Bytes said and taken with those options. */
async function measure(directory: string, batch_size: number, num_generations: number) {
  const path = tinyModel(directory, "tiny-llama"), reward = tinyModel(directory, "rm", RM);
  const options = bonSchema.parse({
    modelNameOrPath: path,
    datasetName: "x",
    outputDir: join(directory, "run"),
    batchSize: batch_size,
    numGenerations: num_generations,
    maxCompletionLength: 12,
    rewardModelPath: reward,
  });
  const gpu = await openGpu(), workspace = { gpu }, tokenizer = loadTokenizer(path);
  let taken = 0;
  const create = gpu.device.createBuffer.bind(gpu.device);
  gpu.device.createBuffer = (descriptor) => {
    taken += descriptor.size;
    return create(descriptor);
  };
  try {
    const text = "a prompt of 25 characters";
    const prompts = Array.from(
      { length: batch_size },
      () => ({ ids: tokenizer.encode(text), text, prompt: text, columns: {} }),
    );
    const needs = sampledNeeds(gpu, options, path, [reward], prompts[0].ids.length);
    assert.equal(taken, 0, "an estimate takes no memory");
    const sources = await openRewards(workspace, options, {
      tokenizer,
      maxCompletionLength: 12,
      batchSize: SCORED_ROWS,
      seed: 1,
      say() {},
    });
    const policy = loadFrozen(gpu, path);
    const weights = taken;
    const groups = sampledPrompts({ workspace, policy, tokenizer, prompts, stopIds: [] }, options, {
      done: () => false,
      score: (group) => scoresOf(group, sources, true),
      finish: () => Promise.resolve(),
      stopped: () => false,
    });
    for await (const count of groups) assert.equal(count, batch_size);
    return { needs, weights, all: taken, said: totalOf(needs) };
  } finally {
    gpu.close();
  }
}

Deno.test("weights, cache and activations of sampling and scoring are about what is said", () =>
  withDirectory(async (directory) => {
    writeByteTokenizer(directory);
    for (const [batch, each] of [[2, 4], [16, 8]]) {
      const { needs, weights, all, said } = await measure(directory, batch, each);
      assert.ok(
        Math.abs(needs.weights / weights - 1) < 0.01,
        `weights: said ${needs.weights}, took ${weights}`,
      );
      assert.ok(said > 0.8 * all && said < 1.3 * all, `${batch} × ${each}: said ${said}, took ${all}`);
    }
  }));
