/** Every family of decoders, and adapters on some, against transformers and PEFT, in any clone. */
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { writeTextAtomically } from "../../src/model/atomic_file.ts";
import { destroyModel, loadModel, saveWeights } from "../../src/model/load.ts";
import { loadAdapted } from "../../src/model/peft.ts";
import { writeSafetensors } from "../../src/model/safetensors.ts";
import { openGenerator } from "../../src/sample/generate.ts";
import { withDirectory } from "../assets.ts";
import { testOnProfiles } from "../kernels/helpers.ts";
import { runBatch, Shares, trainable } from "./batch.ts";
import {
  type AdapterGolden,
  adapterNames,
  familyBatch,
  familyConfig,
  type FamilyGolden,
  familyGolden,
  familyNames,
  hashWeights,
  keptOf,
} from "./families.ts";

const GREEDY = { temperature: 0, topK: 0, topP: 1, stopIds: [], maxNewTokens: 16, seed: 1, stream: 0 };

/** Compares everything that a file keeps. */
function compare(title: string, kept: ReturnType<typeof keptOf>, tensors: FamilyGolden["tensors"]): void {
  const shares = new Shares(title);
  for (const [name, { values, atol }] of Object.entries(tensors)) {
    assert.ok(kept[name], `${title}: there is no ${name}`);
    shares.add(name, kept[name], values, atol);
  }
  shares.check(Object.keys(kept).length);
}

/** Writes the model of a file as a Hugging Face directory. */
function writeFamily(g: FamilyGolden, directory: string): void {
  saveWeights(familyConfig(g), hashWeights(g), directory);
}

for (const name of familyNames()) {
  testOnProfiles(`${name}: loss, logits, gradients and greedy tokens are transformers'`, async (gpu) => {
    await withDirectory(async (directory) => {
      const g = familyGolden(name), batch = familyBatch(g);
      writeFamily(g, directory);
      const model = trainable(gpu, loadModel(gpu, directory));
      assert.deepEqual(model.config, familyConfig(g));
      const results = await runBatch(gpu, model, batch);
      compare(`${name}, ${gpu.profile.kind} profile`, keptOf(results, batch), g.tensors);
      const generator = openGenerator({ gpu }, model);
      const prompts = g.prompts.map((ids, i) => ({ ids, samples: [i] }));
      const completions = await generator.generate(prompts, GREEDY);
      assert.deepEqual(completions.map(({ ids }) => ids), g.greedy_ids);
      generator.close();
      destroyModel(gpu, model);
    });
  });
}

for (const name of adapterNames()) {
  testOnProfiles(`${name}: loss, logits and gradients are PEFT's`, async (gpu) => {
    await withDirectory(async (directory) => {
      const g = familyGolden<AdapterGolden>(name), base = familyGolden(g.base), batch = familyBatch(base);
      const baseDirectory = join(directory, "base"), own = join(directory, "adapter");
      writeFamily(base, baseDirectory);
      mkdirSync(own);
      const json = { peft_type: "LORA", base_model_name_or_path: "../base", ...g.adapter };
      writeTextAtomically(join(own, "adapter_config.json"), JSON.stringify(json));
      writeSafetensors(join(own, "adapter_model.safetensors"), Object.entries(hashWeights(g)));
      const model = trainable(gpu, loadAdapted(gpu, own));
      const results = await runBatch(gpu, model, batch);
      compare(`${name}, ${gpu.profile.kind} profile`, keptOf(results, batch), g.tensors);
      destroyModel(gpu, model);
    });
  });
}

Deno.test("there is a golden of every family and of every kind of adapter", () => {
  const families = familyNames().map((name) => familyConfig(familyGolden(name)).family);
  assert.deepEqual([...new Set(families)].sort(), [
    "gemma",
    "gemma2",
    "gpt2",
    "gpt_neox",
    "llama",
    "mistral",
    "phi3",
    "qwen2",
    "qwen3",
  ]);
  assert.equal(adapterNames().length, 9);
});
