/** Decoding token by token against the packed forward pass: the same logits, on the cpu profile to the bit. */
import assert from "node:assert/strict";
import { padded, rowStride } from "../../kernels/kernel.ts";
import { packBatch } from "../../src/data/batches.ts";
import { upload } from "../../src/gpu/buffers.ts";
import { type Gpu, openGpu } from "../../src/gpu/device.ts";
import { decodeStep } from "../../src/model/decode_step.ts";
import { batchInputs, decoder, headOf, type Model } from "../../src/model/decoder.ts";
import { plainLlama } from "../../src/model/config.ts";
import { initialWeights } from "../../src/model/init.ts";
import { destroyModel, loadModel, makeModel } from "../../src/model/load.ts";
import { writeParams } from "../../src/model/params.ts";
import { makeAdapted } from "../../src/model/peft.ts";
import { logits as logitsOf } from "../../src/tape/ops/head.ts";
import { compile, type Workspace } from "../../src/tape/plan.ts";
import { Tape } from "../../src/tape/tape.ts";
import { golden } from "../assets.ts";
import { random, relativeError } from "../kernels/helpers.ts";
import { assertSameBits } from "./batch.ts";
import { familyConfig, familyGolden, familyNames, hashWeights } from "./families.ts";

const LENGTHS = [9, 1, 23, 14, 17, 5, 2, 11, 20], CAPACITY = 24;

/** Logits after each token of each document, from one packed pass. */
async function packedLogits(
  workspace: Workspace,
  model: Model,
  documents: number[][],
): Promise<Float32Array[][]> {
  const packed = packBatch(documents), { tokens, first, ids, positions, starts, ends } = packed;
  const tape = new Tape(workspace.gpu.profile);
  const hidden = decoder(tape, model, batchInputs(tape, tokens), { frozen: true });
  tape.output("logits", logitsOf(tape, hidden, headOf(tape, model, true)).logits);
  const { logits } = await compile(workspace, tape).run({ ids, positions, starts, ends });
  const ld = rowStride(model.config.vocabSize);
  return documents.map((ids, d) =>
    ids.map((_, t) => logits.slice((first[d] + t) * ld, (first[d] + t) * ld + model.config.vocabSize))
  );
}

/** The same, from one step per token; documents that have ended repeat their last step. */
async function decodedLogits(
  workspace: Workspace,
  model: Model,
  documents: number[][],
): Promise<Float32Array[][]> {
  const { gpu } = workspace, { config } = model, rows = documents.length;
  const tape = new Tape(gpu.profile);
  const columns = config.kvHeads * padded(config.headDim);
  const cache = () =>
    tape.external(
      "cache",
      [rows * CAPACITY * columns],
      upload(gpu, new Float32Array(rows * CAPACITY * columns)),
    );
  const caches = Array.from(
    { length: config.layers },
    () => ({ keys: cache(), values: cache(), capacity: CAPACITY }),
  );
  const input = (name: string) => tape.input(name, [rows], "u32");
  tape.output(
    "logits",
    decodeStep(tape, model, { ids: input("ids"), positions: input("positions"), caches }),
  );
  const plan = compile(workspace, tape);
  const ld = rowStride(config.vocabSize);
  const out: Float32Array[][] = documents.map(() => []);
  for (let t = 0; t < Math.max(...documents.map((ids) => ids.length)); t++) {
    const at = Uint32Array.from(documents, (ids) => Math.min(t, ids.length - 1));
    const { logits } = await plan.run({
      positions: at,
      ids: at.map((position, row) => documents[row][position]),
    });
    documents.forEach((ids, row) => {
      if (t < ids.length) out[row].push(logits.slice(row * ld, row * ld + config.vocabSize));
    });
  }
  return out;
}

/** Every step's logits must be those of the packed pass, on the cpu profile to the bit. */
async function checkDecoding(gpu: Gpu, name: string, model: Model, trained = model): Promise<void> {
  const { below } = random(3);
  const documents = LENGTHS.map((length) => Array.from({ length }, () => below(model.config.vocabSize)));
  const want = await packedLogits({ gpu }, trained, documents);
  const got = await decodedLogits({ gpu }, model, documents);
  documents.forEach((ids, row) =>
    ids.forEach((_, t) => {
      const what = `${name}: row ${row}, token ${t}`;
      if (gpu.profile.kind === "cpu") assertSameBits(got[row][t], want[row][t], what);
      else assert.ok(relativeError(got[row][t], want[row][t]) < 1e-5, what);
    })
  );
}

for (const profile of ["cpu", "gpu"] as const) {
  for (const name of ["tiny-llama", "tiny-llama-tied"]) {
    Deno.test(`${name} decodes the logits of the packed forward pass on the ${profile} profile`, async () => {
      const gpu = await openGpu({ profile });
      const small = loadModel(gpu, golden(`models/${name}`));
      // An arena too large to be bound at once, as the model believes, makes it take one launch per operation.
      const { params } = small, layout = { ...params.layout, count: 2 ** 26 };
      const large: Model = { ...small, params: { ...params, layout } };
      for (const model of [small, large]) await checkDecoding(gpu, name, model, small);
      gpu.close();
    });
  }
  Deno.test(`every family decodes the logits of the packed forward pass on the ${profile} profile`, async () => {
    const gpu = await openGpu({ profile });
    for (const name of familyNames()) {
      const g = familyGolden(name), weights = hashWeights(g);
      const model = makeModel(gpu, familyConfig(g), (name) => weights[name]);
      await checkDecoding(gpu, name, model);
      destroyModel(gpu, model);
    }
    gpu.close();
  });
  Deno.test(`held, split and adapted models decode as they are scored on the ${profile} profile`, async () => {
    const gpu = await openGpu({ profile }), from = golden("models/tiny-llama-tied");
    for (const dtype of ["f16", "bf16", "q8_0"] as const) {
      const held = loadModel(gpu, from, { dtype });
      await checkDecoding(gpu, dtype, held);
      destroyModel(gpu, held);
    }
    const whole = loadModel(gpu, from), small = { ...whole.params, maxBinding: 16 * 1024 };
    await checkDecoding(gpu, "split", { ...whole, params: small }, whole);
    for (const useDora of [false, true]) {
      const lora = { r: 3, loraAlpha: 6, loraDropout: 0.5, useRslora: false, useDora, modulesToSave: [] };
      const adapted = makeAdapted(gpu, from, { ...lora, targetModules: "all-linear" }, { seed: 1 });
      const { layout } = adapted.adapter!.params, { floats } = random(8);
      // A fresh B is zero, and its model the base.
      writeParams(gpu, adapted.adapter!.params, (name) => {
        const { shape } = [...layout.slots.values()].flatMap((slot) => slot.parts).find((part) =>
          part.name === name
        )!;
        return { shape, data: floats(shape.reduce((a, b) => a * b)) };
      });
      await checkDecoding(gpu, useDora ? "DoRA" : "LoRA", adapted);
      destroyModel(gpu, adapted);
    }
    gpu.close();
  });
}

for (const profile of ["cpu", "gpu"] as const) {
  Deno.test(`a model whose rows lie 1024 columns apart decodes as it is trained (${profile} profile)`, async () => {
    const gpu = await openGpu({ profile });
    const config = plainLlama({
      architecture: "causal",
      vocabSize: 1024,
      hiddenSize: 1024,
      intermediateSize: 512,
      layers: 1,
      heads: 64,
      kvHeads: 64,
      headDim: 16,
      normEps: 1e-5,
      ropeTheta: 10000,
      maxPositions: 64,
      tied: true,
      eosIds: [],
    });
    const weights = initialWeights(config, 1);
    const model = makeModel(gpu, config, (name) => weights[name]);
    await checkDecoding(gpu, "wide", model);
    gpu.close();
  });
}
