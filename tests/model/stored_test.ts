/** Frozen models in their stored form, or in a smaller one. */
import assert from "node:assert/strict";
import type { Gpu } from "../../src/gpu/device.ts";
import type { ModelConfig } from "../../src/model/config.ts";
import { hostTensor } from "../../src/model/frozen.ts";
import { destroyModel, loadModel, makeModel } from "../../src/model/load.ts";
import { openModel } from "../../src/model/open.ts";
import { writeParams } from "../../src/model/params.ts";
import { makeAdapted } from "../../src/model/peft.ts";
import { asset, assetTest, golden } from "../assets.ts";
import { profiles, random, relativeError } from "../kernels/helpers.ts";
import { assertSameBits, batchOf, largestDifference, runBatch, Shares, trainable } from "./batch.ts";
import { type Golden, openGolden } from "./golden.ts";
import { type Held, heldTensor, largestError } from "./rounding.ts";

/** Runs on every profile, one device each. */
async function onProfiles(check: (gpu: Gpu) => Promise<void>): Promise<void> {
  for (const gpu of await profiles()) await check(gpu);
}

/** Logits [rows, vocab] at each row's last token. */
function lastLogits(
  logits: Float32Array,
  { mask, shape: [rows, time] }: ReturnType<typeof batchOf>,
): number[] {
  const vocab = logits.length / rows / time;
  return Array.from({ length: rows }, (_, b) => {
    const at = b * time + mask.subarray(b * time, (b + 1) * time).lastIndexOf(1);
    return [...logits.subarray(at * vocab, (at + 1) * vocab)];
  }).flat();
}

for (const type of ["f16", "bf16"]) {
  assetTest(
    `a file in ${type} has PyTorch's numbers, widened and as it is stored`,
    () =>
      onProfiles(async (gpu) => {
        const directory = asset(`goldens/models/tiny-qwen2-${type}`), g = openGolden(directory);
        // These goldens have no labels of their own: they are those of the model in float32.
        const batch = {
          ...batchOf(g),
          labels: openGolden(asset("goldens/models/tiny-qwen2")).integers("labels"),
        };
        for (const dtype of [undefined, "f32", "as-stored"] as const) {
          const model = loadModel(gpu, directory, { dtype });
          assert.equal(
            model.params.stored?.get("embed")?.[0].storage,
            dtype === "as-stored" ? type.toUpperCase() : undefined,
          );
          const { outputs } = await runBatch(gpu, model, batch);
          const shares = new Shares(`${type} loaded as ${dtype ?? "trainable"}, ${gpu.profile.kind} profile`);
          const compare = (name: string, got: ArrayLike<number>) =>
            shares.add(name, got, g.floats(name), g.atol(name));
          compare("logits_last", lastLogits(outputs.logits, batch));
          compare("loss", outputs.loss);
          compare("logprobs_t1", outputs.logprobs_t1);
          shares.check(3);
          destroyModel(gpu, model);
        }
      }),
  );
}

/** Products Σ g·δ and Σ|g||δ| of the golden's gradients with the rounding errors, each of which is checked. */
function firstOrder(g: Golden, config: ModelConfig, directory: string, form: Held) {
  const { weights } = openModel(directory);
  let change = 0, most = 0, moved = 0;
  for (const name of weights.tensors.keys()) {
    const exact = hostTensor(weights, name), held = heldTensor(config, name, exact, form).data;
    if (held === exact.data) continue;
    moved++;
    const key = `grad.${name.replace("embed_out", "lm_head")}`, gradient = g.floats(key);
    const largest = exact.data.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    exact.data.forEach((x, i) => {
      const error = held[i] - x;
      assert.ok(
        Math.abs(error) <= largestError(form, Math.abs(x), largest),
        `${name}[${i}]: ${x} is held as ${held[i]}`,
      );
      change += gradient[i] * error;
      most += Math.abs(gradient[i] * error);
    });
  }
  return { change, most, moved };
}

/**
 * Let w be the weights in float32 and w + δ those that are held. The held model is the float32 model of the weights w + δ, rounded
 * here as the form is defined: to the bit on the cpu profile, else to within the golden's tolerance, the noise of float32.
 *
 * And what holding costs is what the rounding explains. Every |δ| is within the form's error, and the loss changes by
 * g·δ + ½δᵀHδ + …, g PyTorch's gradient. At most |g·δ| ≤ Σ|g||δ|; the second term is smaller by another factor of the order of δ / w,
 * 2⁻⁸ for the coarsest forms, and so is held against a thousandth of Σ|g||δ|. Rounding down instead of to nearest, a scale, a sign or
 * a row that is wrong changes the loss by more.
 */
async function checkHeld(gpu: Gpu, directory: string, form: Held): Promise<void> {
  const g = openGolden(directory), batch = batchOf(g);
  const { config, weights } = openModel(directory);
  const held = loadModel(gpu, directory, { dtype: form });
  const rounded = makeModel(gpu, config, (name) => heldTensor(config, name, hostTensor(weights, name), form));
  const got = (await runBatch(gpu, held, batch)).outputs,
    want = (await runBatch(gpu, rounded, batch)).outputs;
  const title = `${directory.split("/").at(-1)} held as ${form}, ${gpu.profile.kind} profile`;
  const shares = new Shares(title);
  for (const name of ["logits", "loss", "logprobs_t1", "entropy"]) {
    if (gpu.profile.kind === "cpu") assertSameBits(got[name], want[name], `${title}: ${name}`);
    shares.add(name, got[name], want[name], g.atol(name));
  }
  shares.check(4);
  const { change, most, moved } = firstOrder(g, config, directory, form);
  assert.ok(moved > 0 && held.params.stored!.size > 0, `${title}: nothing is stored so`);
  const actual = got.loss[0] - g.floats("loss")[0], rest = Math.abs(actual - change);
  console.log(
    `  loss ${actual.toExponential(2)}, first order ${change.toExponential(2)}, rest ${
      (rest / most).toExponential(1)
    } of ${most.toExponential(1)}`,
  );
  assert.ok(rest <= most / 1000 + g.atol("loss"), `${title}: the loss is off by ${rest}`);
  assert.ok(
    largestDifference(got.logits, g.floats("logits")) > g.atol("logits"),
    `${title}: nothing was rounded`,
  );
  destroyModel(gpu, held);
  destroyModel(gpu, rounded);
}

for (const form of ["f16", "bf16", "q8_0"] as const) {
  Deno.test({
    name: `a float32 model held as ${form} is the model of the rounded weights`,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: () => onProfiles((gpu) => checkHeld(gpu, golden("models/tiny-llama-tied"), form)),
  });
  for (const name of ["tiny-gpt2", "tiny-gemma2", "tiny-gpt-neox", "tiny-phi3", "tiny-qwen3"]) {
    // In blocks of 32 only GPT-2's has a matrix that can be held.
    if (form === "q8_0" && name !== "tiny-gpt2") continue;
    assetTest(
      `${name} held as ${form} is the model of the rounded weights`,
      () => onProfiles((gpu) => checkHeld(gpu, asset(`goldens/models/${name}`), form)),
    );
  }
}

assetTest(
  "adapters learn on a stored base what they learn on its numbers in float32",
  () =>
    onProfiles(async (gpu) => {
      const from = asset("goldens/models/tiny-qwen2-bf16");
      const labels = openGolden(asset("goldens/models/tiny-qwen2")).integers("labels");
      const batch = { ...batchOf(openGolden(from)), labels };
      for (const useDora of [false, true]) {
        const lora = { r: 3, loraAlpha: 6, loraDropout: 0, useRslora: true, useDora, modulesToSave: [] };
        const results = [];
        for (const dtype of ["f32", "as-stored"] as const) {
          const config = { ...lora, targetModules: ["q_proj", "o_proj", "up_proj", "down_proj"] };
          const adapted = makeAdapted(gpu, from, config, { dtype, seed: 1 });
          const { layout } = adapted.adapter!.params;
          const shapes = new Map(
            [...layout.slots.values()].flatMap(({ parts }) => parts.map(({ name, shape }) => [name, shape])),
          );
          writeParams(gpu, adapted.adapter!.params, (name) => {
            const shape = shapes.get(name)!, count = shape.reduce((a, b) => a * b);
            return { shape, data: random(name.length).floats(count) };
          });
          results.push(await runBatch(gpu, trainable(gpu, adapted), batch));
          destroyModel(gpu, adapted);
        }
        const [plain, stored] = results;
        assert.ok(relativeError(stored.outputs.logits, plain.outputs.logits) < 1e-6);
        for (const [name, { data }] of Object.entries(stored.gradients)) {
          const error = relativeError(data, plain.gradients[name].data);
          assert.ok(error < 1e-5, `${useDora ? "DoRA" : "LoRA"}: the gradient of ${name} is off by ${error}`);
        }
      }
    }),
);
