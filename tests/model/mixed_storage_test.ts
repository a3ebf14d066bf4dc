/**
 * A model whose matrices are stored in every quantised form, several of them within one slot, as common GGUF files have it: held as
 * stored it computes what its dequantised numbers do, in training through an adapter, too.
 */
import assert from "node:assert/strict";
import { rowStride } from "../../kernels/kernel.ts";
import { STORAGES } from "../../kernels/storage.ts";
import { packBatch } from "../../src/data/batches.ts";
import { readFloats } from "../../src/gpu/buffers.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { adapterLayout, initialAdapterTensor } from "../../src/model/adapter.ts";
import { plainLlama } from "../../src/model/config.ts";
import { batchInputs, decoder, headOf, type Model, ropeTables } from "../../src/model/decoder.ts";
import { uploadFrozen } from "../../src/model/frozen.ts";
import { dequantize, ggmlBytes, type GgmlType } from "../../src/model/ggml_types.ts";
import { layoutOf } from "../../src/model/layout.ts";
import type { GgufWeights } from "../../src/model/open_gguf.ts";
import { makeTrainable, type Params, unpackWeights, uploadParams } from "../../src/model/params.ts";
import type { TensorInfo } from "../../src/model/safetensors.ts";
import { nllLoss } from "../../src/rl/losses.ts";
import { logits } from "../../src/tape/ops/head.ts";
import { logProb } from "../../src/tape/ops/log_prob.ts";
import { compile } from "../../src/tape/plan.ts";
import { Tape } from "../../src/tape/tape.ts";
import { packedInputs } from "../../src/train/rollout.ts";
import { random, relativeError, testOnProfiles } from "../kernels/helpers.ts";

const CONFIG = plainLlama({
  architecture: "causal",
  vocabSize: 96,
  hiddenSize: 256,
  intermediateSize: 512,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 64,
  normEps: 1e-5,
  ropeTheta: 10000,
  maxPositions: 64,
  tied: false,
  eosIds: [],
});

/** Form of a weight by its name. */
function formOf(name: string): GgmlType {
  if (name.includes("norm")) return "F32";
  const forms: [string, GgmlType, GgmlType][] = [
    ["embed", "Q8_0", "Q8_0"],
    ["lm_head", "Q6_K", "Q6_K"],
    ["q_proj", "Q4_K", "Q5_0"],
    ["k_proj", "Q4_K", "Q5_1"],
    ["v_proj", "Q6_K", "F16"],
    ["o_proj", "Q5_K", "Q4_0"],
    ["gate", "Q4_1", "BF16"],
    ["up", "Q4_1", "F32"],
    ["down", "Q6_K", "Q4_K"],
  ];
  const [, first, second] = forms.find(([part]) => name.includes(part))!;
  return name.includes("layers.1.") ? second : first;
}

/** Scales of each form, by their place in a block; a random half would be anything up to infinity. */
const SCALES: Partial<Record<GgmlType, number[]>> = {
  Q8_0: [0],
  Q4_0: [0],
  Q4_1: [0, 2],
  Q5_0: [0],
  Q5_1: [0, 2],
  Q4_K: [0, 2],
  Q5_K: [0, 2],
  Q6_K: [208],
};

/** Random weights in those forms. */
function randomWeights(): GgufWeights {
  const bytesOf = new Map<string, Uint8Array<ArrayBuffer>>(),
    tensors = new Map<string, TensorInfo<GgmlType>>();
  const { below, float } = random(1);
  for (const slot of layoutOf(CONFIG).slots.values()) {
    for (const { name, shape } of slot.parts) {
      const form = formOf(name), elements = shape.reduce((a, b) => a * b);
      const bytes = new Uint8Array(ggmlBytes(form, elements)), view = new DataView(bytes.buffer);
      if (form === "F32") {
        for (let i = 0; i < elements; i++) view.setFloat32(4 * i, 1 + 0.1 * float(), true);
      } else if (form === "F16") {
        for (let i = 0; i < elements; i++) view.setFloat16(2 * i, 0.1 * float(), true);
      } else if (form === "BF16") {
        for (let i = 0; i < elements; i++) {
          view.setUint16(2 * i, new Uint32Array(Float32Array.of(0.1 * float()).buffer)[0] >>> 16, true);
        }
      } else {
        for (let i = 0; i < bytes.length; i++) bytes[i] = below(256);
        const block = ggmlBytes(form, STORAGES[form].elements);
        // Values of about 0.1, whatever the form multiplies its scale with.
        const size = { Q8_0: 1e-3, Q4_K: 4e-4, Q5_K: 2e-4, Q6_K: 5e-5 }[form as string] ?? 1e-2;
        for (let at = 0; at < bytes.length; at += block) {
          for (const place of SCALES[form]!) view.setFloat16(at + place, size * float(), true);
        }
      }
      bytesOf.set(name, bytes);
      tensors.set(name, { dtype: form, shape, elements, offset: 0, bytes: bytes.length });
    }
  }
  return {
    source: "random weights",
    metadata: {},
    tensors,
    read: (name) => dequantize(tensors.get(name)!.dtype, bytesOf.get(name)!),
    readIntegers: () => assert.fail(),
    readBlocks(name, first, rows) {
      const { dtype, shape } = tensors.get(name)!, width = ggmlBytes(dtype, shape[1]);
      return { type: dtype, bytes: bytesOf.get(name)!.slice(first * width, (first + rows) * width) };
    },
  };
}

/** Logits, and the gradients of an adapter on every module. */
async function compute(gpu: Gpu, params: Params, weights: GgufWeights, useDora: boolean) {
  const lora = {
    r: 4,
    loraAlpha: 8,
    loraDropout: 0,
    targetModules: "all-linear" as const,
    useRslora: false,
    useDora,
    modulesToSave: [],
  };
  const { layout, targets } = adapterLayout(CONFIG, lora);
  const fresh = initialAdapterTensor({ config: CONFIG, weights }, lora, 3), { float } = random(4);
  const own = makeTrainable(
    gpu,
    uploadParams(gpu, layout, (name) => {
      const tensor = fresh(name)!;
      // B is zero at first, and then A has no gradient.
      return name.includes("lora_B") ? { ...tensor, data: tensor.data.map(() => 0.05 * float()) } : tensor;
    }),
  );
  const model: Model = {
    config: CONFIG,
    params,
    rope: ropeTables(gpu, CONFIG),
    adapter: { config: lora, params: own, targets, base: "" },
  };
  const { below } = random(2);
  const packed = packBatch([11, 5, 17].map((n) => Array.from({ length: n }, () => below(CONFIG.vocabSize))));
  const tape = new Tape(gpu.profile), hidden = decoder(tape, model, batchInputs(tape, packed.tokens));
  const head = headOf(tape, model);
  tape.output("logits", logits(tape, hidden, head).logits);
  const { logprob } = logProb(tape, hidden, head, tape.input("targets", [packed.tokens], "u32"));
  tape.backward(nllLoss(tape, logprob, tape.input("weights", [packed.tokens])), tape.input("one", [1]));
  const used = new Float32Array(packed.tokens);
  packed.first.forEach((first, i) => used.fill(1 / 30, first, first + packed.lengths[i] - 1));
  const inputs = { ...packedInputs(packed), weights: used, one: Float32Array.of(1) };
  const out = await compile({ gpu }, tape).run(inputs);
  const ld = rowStride(CONFIG.vocabSize), rows: number[] = [];
  packed.first.forEach((first, i) =>
    rows.push(...out.logits.subarray(first * ld, (first + packed.lengths[i]) * ld))
  );
  return { rows, gradients: unpackWeights(layout, await readFloats(gpu, own.training.gradients)) };
}

for (const useDora of [false, true]) {
  testOnProfiles(
    `mixed forms compute what their numbers do, under ${useDora ? "DoRA" : "LoRA"}`,
    async (gpu) => {
      const weights = randomWeights(), layout = layoutOf(CONFIG);
      const held = uploadFrozen(gpu, layout, weights, "as-stored");
      assert.deepEqual(held.stored!.get("0.qkv")!.map(({ storage }) => storage), ["Q4_K", "Q4_K", "Q6_K"]);
      const plain = uploadParams(gpu, layout, (name) => {
        const { shape } = weights.tensors.get(name)!;
        return { shape, data: weights.read(name) };
      });
      const got = await compute(gpu, held, weights, useDora),
        want = await compute(gpu, plain, weights, useDora);
      assert.ok(relativeError(got.rows, want.rows) < 2e-6, `logits: ${relativeError(got.rows, want.rows)}`);
      for (const [name, { data }] of Object.entries(want.gradients)) {
        const error = relativeError(got.gradients[name].data, data);
        assert.ok(error < 1e-5, `gradient of ${name}: relative error ${error}`);
      }
    },
  );
}
