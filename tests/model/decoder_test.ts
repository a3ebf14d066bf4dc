/** The decoder against PyTorch: hidden states, logits, loss, log-probabilities and the gradient of every parameter. */
import assert from "node:assert/strict";
import { rowStride } from "../../kernels/kernel.ts";
import { packBatch } from "../../src/data/batches.ts";
import { packedInputs } from "../../src/train/rollout.ts";
import { readFloats } from "../../src/gpu/buffers.ts";
import { openGpu } from "../../src/gpu/device.ts";
import { batchInputs, decoder, headTensor, type Model } from "../../src/model/decoder.ts";
import { loadModel } from "../../src/model/load.ts";
import { makeTrainable, unpackWeights } from "../../src/model/params.ts";
import { nllLoss } from "../../src/rl/losses.ts";
import { linear } from "../../src/tape/ops/linear.ts";
import { logProb } from "../../src/tape/ops/log_prob.ts";
import { compile } from "../../src/tape/plan.ts";
import { Tape } from "../../src/tape/tape.ts";
import { asset, assetTest, golden } from "../assets.ts";
import { type Golden, openGolden, unpad } from "./golden.ts";

/** Largest difference of a tensor, as a share of what the golden allows. */
type Ratios = Map<string, number>;

function report(title: string, ratios: Ratios): void {
  const [name, worst] = [...ratios].reduce((a, b) => b[1] > a[1] ? b : a);
  console.log(`${title}: ${ratios.size} tensors, worst ${worst.toFixed(3)} of atol (${name})`);
  for (const [name, ratio] of ratios) {
    assert.ok(ratio <= 1, `${title}: ${name} is off by ${ratio} times its atol.`);
  }
}

async function checkDecoder(directory: string, profile: "cpu" | "gpu"): Promise<void> {
  const gpu = await openGpu({ profile });
  const g = openGolden(directory);
  const loaded = loadModel(gpu, directory);
  const params = makeTrainable(gpu, loaded.params);
  const model: Model = { ...loaded, params };
  const shape = g.shape("input_ids"), time = shape[1];
  const { documents, places } = unpad(g.integers("input_ids"), g.integers("attention_mask"), shape);
  const packed = packBatch(documents);
  const labels = g.integers("labels");
  const weights = new Float32Array(packed.tokens);
  const scored = labels.filter((label, i) => label !== -100 && i % time > 0).length;
  documents.forEach((document, b) => {
    for (let t = 1; t < document.length; t++) {
      if (labels[places[b][t]] !== -100) weights[packed.first[b] + t - 1] = 1 / scored;
    }
  });

  const tape = new Tape(gpu.profile);
  const batch = batchInputs(tape, packed.tokens);
  const targets = tape.input("targets", [packed.tokens], "u32");
  const hidden = decoder(tape, model, batch, { onHidden: (k, x) => tape.output(`hidden.${k}`, x) });
  tape.output("hidden.norm", hidden);
  const head = headTensor(tape, model);
  tape.output("logits", linear(tape, hidden, headTensor(tape, model, true)));
  const { logprob, entropy } = logProb(tape, hidden, head, targets);
  tape.output("logprobs_t1", logprob);
  tape.output("entropy", entropy);
  tape.output("logprobs_t0.7", logProb(tape, hidden, head, targets, 0.7).logprob);
  const loss = nllLoss(tape, logprob, tape.input("weights", [packed.tokens]));
  tape.output("loss", loss);
  tape.backward(loss, tape.input("one", [1]));
  const out = await compile({ gpu }, tape).run({
    ...packedInputs(packed),
    weights,
    one: new Float32Array([1]),
  });

  const ratios: Ratios = new Map();
  for (const [name, values] of Object.entries(out)) {
    if (!g.has(name)) continue; // stories260K keeps some layers only
    const want = g.floats(name);
    if (name === "loss") {
      ratios.set(name, Math.abs(values[0] - want[0]) / g.atol(name));
      continue;
    }
    const [, columns, width = 1] = g.shape(name);
    const ld = width === 1 ? 1 : rowStride(width);
    const ofLabel = name.startsWith("logprobs");
    let worst = 0;
    documents.forEach((document, b) => {
      for (let t = 0; t + (ofLabel ? 1 : 0) < document.length; t++) {
        if (ofLabel && labels[places[b][t + 1]] === -100) continue;
        const at = ofLabel ? b * columns + places[b][t + 1] % time - 1 : places[b][t];
        for (let c = 0; c < width; c++) {
          const got = values[(packed.first[b] + t) * ld + c];
          worst = Math.max(worst, Math.abs(got - want[at * width + c]));
        }
      }
    });
    ratios.set(name, worst / g.atol(name));
  }
  const gradients = unpackWeights(params.layout, await readFloats(gpu, params.training.gradients));
  compareGradients(g, gradients, ratios);
  report(`${directory.split("/").at(-1)}, ${profile} profile`, ratios);
  gpu.close();
}

function compareGradients(
  g: Golden,
  gradients: Record<string, { data: Float32Array }>,
  ratios: Ratios,
): void {
  for (const [name, { data }] of Object.entries(gradients)) {
    const key = `grad.${name}`;
    if (!g.has(key)) continue;
    const want = g.floats(key);
    let worst = 0;
    data.forEach((x, i) => worst = Math.max(worst, Math.abs(x - want[i])));
    ratios.set(key, worst / g.atol(key));
  }
  if (!g.has("grad.norms")) return;
  const names = g.json.grad_names as string[], want = g.floats("grad.norms");
  names.forEach((name, i) => {
    const norm = Math.sqrt(gradients[name].data.reduce((sum, x) => sum + x * x, 0));
    ratios.set(`norm of grad.${name}`, Math.abs(norm - want[i]) / g.atol("grad.norms"));
  });
}

for (const profile of ["cpu", "gpu"] as const) {
  for (const name of ["tiny-llama", "tiny-llama-tied"]) {
    Deno.test(`${name} has PyTorch's numbers on the ${profile} profile`, async () => {
      await checkDecoder(golden(`models/${name}`), profile);
    });
  }
  assetTest(`stories260K has PyTorch's numbers on the ${profile} profile`, async () => {
    await checkDecoder(asset("goldens/models/stories260K"), profile);
  });
}
