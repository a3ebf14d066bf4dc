/** Decoding token by token against the packed forward pass: the same logits, on the cpu profile to the bit. */
import assert from "node:assert/strict";
import { padded, rowStride } from "../../kernels/kernel.ts";
import { packBatch } from "../../src/data/batches.ts";
import { upload } from "../../src/gpu/buffers.ts";
import { openGpu } from "../../src/gpu/device.ts";
import { decodeStep } from "../../src/model/decode_step.ts";
import { batchInputs, decoder, headOf, type Model } from "../../src/model/decoder.ts";
import { plainLlama } from "../../src/model/config.ts";
import { initialWeights } from "../../src/model/init.ts";
import { loadModel, makeModel } from "../../src/model/load.ts";
import { logits as logitsOf } from "../../src/tape/ops/head.ts";
import { compile, type Workspace } from "../../src/tape/plan.ts";
import { Tape } from "../../src/tape/tape.ts";
import { golden } from "../assets.ts";
import { random, relativeError } from "../kernels/helpers.ts";

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

for (const profile of ["cpu", "gpu"] as const) {
  for (const name of ["tiny-llama", "tiny-llama-tied"]) {
    Deno.test(`${name} decodes the logits of the packed forward pass on the ${profile} profile`, async () => {
      const gpu = await openGpu({ profile });
      const small = loadModel(gpu, golden(`models/${name}`));
      // An arena too large to be bound at once, as the model believes, makes it take one launch per operation.
      const { params } = small, layout = { ...params.layout, count: 2 ** 26 };
      const large: Model = { ...small, params: { ...params, layout } };
      const { below } = random(3);
      const documents = LENGTHS.map((length) => Array.from({ length }, () => below(small.config.vocabSize)));
      const want = await packedLogits({ gpu }, small, documents);
      for (const model of [small, large]) {
        const got = await decodedLogits({ gpu }, model, documents);
        documents.forEach((ids, row) =>
          ids.forEach((_, t) => {
            if (profile === "cpu") assert.deepEqual(got[row][t], want[row][t], `row ${row}, token ${t}`);
            else assert.ok(relativeError(got[row][t], want[row][t]) < 1e-5, `row ${row}, token ${t}`);
          })
        );
      }
      gpu.close();
    });
  }
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
    const { below } = random(5);
    const documents = [7, 1, 12].map((length) => Array.from({ length }, () => below(config.vocabSize)));
    const want = await packedLogits({ gpu }, model, documents);
    const got = await decodedLogits({ gpu }, model, documents);
    documents.forEach((ids, row) =>
      ids.forEach((_, t) => {
        if (profile === "cpu") assert.deepEqual(got[row][t], want[row][t], `row ${row}, token ${t}`);
        else assert.ok(relativeError(got[row][t], want[row][t]) < 1e-5, `row ${row}, token ${t}`);
      })
    );
    gpu.close();
  });
}
