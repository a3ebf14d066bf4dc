/** Weights too large for one binding are computed with in parts: forced here by a small limit, with the numbers of the whole. */
import assert from "node:assert/strict";
import { type Gpu, openGpu } from "../../src/gpu/device.ts";
import type { Model } from "../../src/model/decoder.ts";
import { loadModel } from "../../src/model/load.ts";
import { type Params, slotParts, slotTensor } from "../../src/model/params.ts";
import { makeAdapted } from "../../src/model/peft.ts";
import { openGenerator } from "../../src/sample/generate.ts";
import { Tape } from "../../src/tape/tape.ts";
import { asset, assetTest, golden } from "../assets.ts";
import { relativeError } from "../kernels/helpers.ts";
import { assertSameBits, batchOf, type PaddedBatch, runBatch, trainable } from "./batch.ts";
import { openGolden, unpad } from "./golden.ts";

/** Bytes of a binding; the vocabularies of the goldens then have four to six parts. */
const SMALL = 12 * 1024;

/** Results and gradients of two forms of one model. */
async function compareBatch(gpu: Gpu, whole: Model, split: Model, batch: PaddedBatch): Promise<void> {
  const want = await runBatch(gpu, whole, batch), got = await runBatch(gpu, split, batch);
  for (const [name, values] of Object.entries(got.outputs)) {
    // Every output is one sum, whichever part its row is in.
    assertSameBits(values, want.outputs[name], name);
  }
  assert.ok(Object.keys(got.gradients).length > 10);
  for (const [name, { data }] of Object.entries(got.gradients)) {
    // The gradient of an input is a sum over the outputs, and the parts are added up in turn.
    const error = relativeError(data, want.gradients[name].data);
    assert.ok(error < 3e-6, `the gradient of ${name} is off by ${error}`);
  }
}

async function checkParts(directory: string, profile: "cpu" | "gpu"): Promise<void> {
  const gpu = await openGpu({ profile }), g = openGolden(directory), batch = batchOf(g);
  const whole = trainable(gpu, loadModel(gpu, directory));
  const split = trainable(gpu, { ...whole, params: { ...whole.params, maxBinding: SMALL } });
  const parts = (model: Model, label: string) => slotParts(new Tape(gpu.profile), model.params, label);
  assert.equal(parts(whole, "embed").length, 1);
  for (const label of ["embed", "0.qkv", ...(whole.config.tied ? [] : ["head"])]) {
    const all = parts(split, label), rows = all.reduce((sum, { shape }) => sum + shape[0], 0);
    assert.ok(all.length > 1, `${label} is whole`);
    assert.equal(rows, whole.params.layout.slots.get(label)!.shape[0]);
    assert.ok(all.every(({ window }) => window!.size <= SMALL && window!.offset % 256 === 0));
  }

  await compareBatch(gpu, whole, split, batch);

  const mask = g.integers("gen.attention_mask");
  const { documents } = unpad(g.integers("gen.prompt_ids"), mask, g.shape("gen.prompt_ids"));
  const prompts = documents.map((ids, i) => ({ ids, samples: [i] }));
  const sampling = { temperature: 0, topK: 0, topP: 1, stopIds: [], maxNewTokens: 16, seed: 1, stream: 0 };
  const generator = openGenerator({ gpu }, split);
  const ids = (await generator.generate(prompts, sampling)).flatMap((completion) => completion.ids);
  assert.deepEqual(ids, [...g.integers("gen.greedy_ids")]);
  generator.close();
  gpu.close();
}

for (const profile of ["cpu", "gpu"] as const) {
  for (const name of ["tiny-llama", "tiny-llama-tied"]) {
    Deno.test(`${name} in parts has the numbers of the whole on the ${profile} profile`, async () => {
      await checkParts(golden(`models/${name}`), profile);
    });
  }
  for (const name of ["tiny-gemma2", "tiny-gpt2", "tiny-phi3"]) {
    assetTest(`${name} in parts has the numbers of the whole on the ${profile} profile`, async () => {
      await checkParts(asset(`goldens/models/${name}`), profile);
    });
  }
}

Deno.test("an adapter on a base in parts has the numbers of one on the whole", async () => {
  const gpu = await openGpu(), from = golden("models/tiny-llama");
  const lora = { r: 4, loraAlpha: 8, loraDropout: 0, useRslora: false, modulesToSave: ["lm_head"] };
  for (const useDora of [false, true]) {
    const config = { ...lora, useDora, targetModules: "all-linear" as const };
    const whole = makeAdapted(gpu, from, config, { seed: 3 });
    const small = (params: Params): Params => ({ ...params, maxBinding: SMALL });
    const adapter = { ...whole.adapter!, params: small(whole.adapter!.params) };
    const split = { ...whole, params: small(whole.params), adapter };
    await compareBatch(gpu, trainable(gpu, whole), trainable(gpu, split), batchOf(openGolden(from)));
  }
  gpu.close();
});

Deno.test("a vector or table that cannot be cut is refused with its size", async () => {
  const gpu = await openGpu(), { params } = loadModel(gpu, golden("models/tiny-llama"));
  assert.throws(
    () => slotTensor(new Tape(gpu.profile), { ...params, maxBinding: SMALL }, "embed"),
    /"embed" is larger than the 12288 bytes that this GPU gives a kernel at once/,
  );
  gpu.close();
});
