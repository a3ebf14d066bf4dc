/**
 * A few training steps of tiny-llama, and what they leave. Run as a program it prints the digest of the weights, so that a
 * test can compare two processes.
 */
import { createHash } from "node:crypto";
import { packBatch } from "../../src/data/batches.ts";
import { readFloats } from "../../src/gpu/buffers.ts";
import { type Gpu, openGpu } from "../../src/gpu/device.ts";
import { batchInputs, decoder, headOf } from "../../src/model/decoder.ts";
import { loadModel } from "../../src/model/load.ts";
import { makeTrainable } from "../../src/model/params.ts";
import { nllLoss } from "../../src/rl/losses.ts";
import { logProb } from "../../src/tape/ops/log_prob.ts";
import { compile } from "../../src/tape/plan.ts";
import { Tape } from "../../src/tape/tape.ts";
import { openOptimizer } from "../../src/train/optimizer.ts";
import { packedInputs } from "../../src/train/rollout.ts";
import { golden } from "../assets.ts";
import { openGolden, unpad } from "../model/golden.ts";

const SETTINGS = {
  learningRate: 1e-3,
  adamBeta1: 0.9,
  adamBeta2: 0.95,
  adamEpsilon: 1e-8,
  weightDecay: 0.1,
  maxGradNorm: 1,
};

/** A training step of tiny-llama on the golden batch, ready to run. */
export function openTraining(gpu: Gpu) {
  const directory = golden("models/tiny-llama"), g = openGolden(directory);
  const loaded = loadModel(gpu, directory);
  const params = makeTrainable(gpu, loaded.params);
  const model = { ...loaded, params };
  const mask = g.integers("attention_mask");
  const packed = packBatch(unpad(g.integers("input_ids"), mask, g.shape("input_ids")).documents);
  const tape = new Tape(gpu.profile);
  const hidden = decoder(tape, model, batchInputs(tape, packed.tokens));
  const targets = tape.input("targets", [packed.tokens], "u32");
  const { logprob } = logProb(tape, hidden, headOf(tape, model), targets);
  const loss = nllLoss(tape, logprob, tape.input("weights", [packed.tokens]));
  tape.output("loss", loss);
  tape.backward(loss, tape.input("one", [1]));
  const plan = compile({ gpu }, tape);
  const optimizer = openOptimizer(gpu, params);
  const weights = new Float32Array(packed.tokens).fill(0.01);
  const inputs = { ...packedInputs(packed), weights, one: new Float32Array([1]) };
  return {
    plan,
    inputs,
    params,
    async step(): Promise<number> {
      const { loss } = await plan.run(inputs);
      await optimizer.step(SETTINGS);
      return loss[0];
    },
  };
}

/** SHA-256 of the weights after some steps. */
export async function digestAfter(gpu: Gpu, steps: number): Promise<string> {
  const { step, params } = openTraining(gpu);
  for (let i = 0; i < steps; i++) await step();
  return createHash("sha256").update(await readFloats(gpu, params.values)).digest("hex");
}

if (import.meta.main) {
  const gpu = await openGpu({ profile: Deno.args[0] as "cpu" | "gpu" });
  console.log(await digestAfter(gpu, Number(Deno.args[1])));
  gpu.close();
}
