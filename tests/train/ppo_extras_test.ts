/** PPO's options that TRL does not have: names of TRL 0.11, clips, the critic's warm-up, the moving average. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { golden, withDirectory } from "../assets.ts";
import { readSafetensors } from "../../src/model/safetensors.ts";
import type { CheckpointFiles } from "../../src/run/checkpoint.ts";
import { type PpoOptions, ppoSchema } from "../../src/train/options/ppo.ts";
import { flags, keel, writeLines } from "../cli/keel.ts";
import { type SmallResult, smallRun, type SmallSettings } from "./small.ts";

async function ppo(options: Partial<PpoOptions>, settings: SmallSettings = {}): Promise<SmallResult> {
  let result: SmallResult | undefined;
  await withDirectory(async (directory) => {
    result = await smallRun(directory, { method: "ppo", options }, settings);
    assert.equal(result.error, undefined);
  });
  return result!;
}

const last = ({ events }: SmallResult) => events.at(-1)!.metrics;

/** Hashes of some files of the last checkpoint. */
const bits = ({ hashes }: SmallResult, file: string) =>
  Object.entries(hashes).filter(([name]) => name.startsWith(`${file}: `));

Deno.test("kl_penalty of TRL 0.11 is klEstimator", () => {
  const of = (klEstimator: string) =>
    ppoSchema.parse({
      modelNameOrPath: "m",
      datasetName: "d",
      outputDir: "o",
      rewardModelPath: "r",
      klEstimator,
    }).klEstimator;
  assert.deepEqual(["kl", "abs", "mse", "full", "k3"].map(of), ["k1", "abs", "k2", "exact", "k3"]);
});

Deno.test("the distance can stand in the reward", async () => {
  const metrics = last(await ppo({ learningRate: 3e-3, klEstimator: "abs" }));
  assert.ok(metrics["objective/kl"] > Math.abs(metrics["objective/kl_k1"]));
});

Deno.test("without a clip the value loss is the plain squared error", async () => {
  const learning = { learningRate: 1e-3, valueLearningRate: 1e-2 };
  const off = await ppo({ ...learning, cliprangeValue: null });
  const narrow = await ppo({ ...learning, cliprangeValue: 1e-3 });
  const wide = await ppo({ ...learning, cliprangeValue: 1e6 });
  assert.equal(last(off)["val/clipfrac_avg"], 0);
  assert.ok(last(narrow)["val/clipfrac_avg"] > 0);
  assert.deepEqual(off.hashes, wide.hashes);
  assert.notDeepEqual(off.hashes, narrow.hashes);
});

Deno.test("a second clip changes nothing until a ratio passes it", async () => {
  const learning = { maxSteps: 1, numPpoEpochs: 2, learningRate: 2e-2 };
  const plain = await ppo(learning), loose = await ppo({ ...learning, dualClip: 1e6 });
  assert.deepEqual(loose.hashes, plain.hashes);
  assert.notDeepEqual((await ppo({ ...learning, dualClip: 1.01 })).hashes, plain.hashes);
});

Deno.test("advantages that are not whitened keep the size of the rewards", async () => {
  // The policy's loss is proportional to its advantages, and so is the gradient of the first update.
  const first = { maxSteps: 1, numPpoEpochs: 1, numMiniBatches: 1, criticInit: "fresh" } as const;
  const norm = async (options: Partial<PpoOptions>) => last(await ppo({ ...first, ...options })).grad_norm;
  const plain = await norm({ whitenScope: "none" }), whitened = await norm({ whitenScope: "batch" });
  assert.ok(Math.abs(plain / whitened - 1) > 0.05, `${plain}, ${whitened}`);
});

Deno.test("while the critic warms up it learns alone", async () => {
  const steps = (maxSteps: number, options: Partial<PpoOptions> = {}) =>
    ppo({ maxSteps, lrSchedulerType: "constant", criticWarmup: 2, ...options });
  const before = await ppo({ maxSteps: 1, learningRate: 0, valueLearningRate: 0 });
  const second = await steps(2), third = await steps(3);
  assert.deepEqual(bits(second, "model"), bits(before, "model"));
  assert.notDeepEqual(bits(second, "value_model"), bits(before, "value_model"));
  assert.notDeepEqual(bits(third, "model"), bits(before, "model"));
  assert.deepEqual(second.events.map(({ metrics }) => metrics.grad_norm), [0, 0]);
  assert.ok(last(third).grad_norm > 0);
  // A critic without a learning rate stays as it is, the policy does not.
  const frozen = await ppo({ maxSteps: 1, valueLearningRate: 0 });
  assert.deepEqual(bits(frozen, "value_model"), bits(before, "value_model"));
  assert.notDeepEqual(bits(frozen, "model"), bits(before, "model"));
});

Deno.test("the moving average is that of the weights after every step, and goes on after a stop", async () => {
  const emaDecay = 0.7;
  const options = { lrSchedulerType: "constant", learningRate: 3e-3, emaDecay } as const;
  const weights: CheckpointFiles[string][] = [];
  for (const maxSteps of [1, 2, 3]) weights.push((await ppo({ ...options, maxSteps })).files!.model);
  const straight = await ppo({ ...options, maxSteps: 3 });
  const start = readSafetensors(join(golden("models/tiny-llama"), "model.safetensors"));
  for (const [name, { data }] of Object.entries(straight.files!.ema_model)) {
    let want = Float64Array.from(start.read(name));
    for (const files of weights) {
      want = want.map((x, i) => emaDecay * x + (1 - emaDecay) * files[name].data[i]);
    }
    assert.ok(data.every((x, i) => Math.abs(x - want[i]) < 1e-6), name);
  }
  const norm = straight.files!.ema_model["model.norm.weight"].data;
  assert.notDeepEqual(norm, straight.files!.model["model.norm.weight"].data);

  await withDirectory(async (directory) => {
    const run = (settings: SmallSettings) =>
      smallRun(directory, { method: "ppo", options: { ...options, maxSteps: 3 } }, settings);
    await run({ stopAfter: 1 });
    assert.deepEqual((await run({ resume: true })).hashes, straight.hashes);
  });
});

Deno.test("keel ppo writes the average beside the model", () =>
  withDirectory(async (directory) => {
    const base = new URL("../../src/parrot/base", import.meta.url).pathname;
    const rows = Array.from({ length: 4 }, () => ({ prompt: "<user> 3 5 <bot>" }));
    const output_dir = join(directory, "run");
    const { code, err } = await keel(
      "ppo",
      ...flags({
        model: base,
        reward_model: base,
        dataset: writeLines(directory, "prompts.jsonl", rows),
        output_dir,
        max_steps: 2,
        learning_rate: 1e-3,
        per_device_train_batch_size: 4,
        response_length: 4,
        ema_decay: 0.5,
        kl_penalty: "abs",
      }),
    );
    assert.equal(code, 0, err);
    const of = (name: string) =>
      readSafetensors(join(output_dir, name, "model.safetensors")).read("model.norm.weight");
    assert.notDeepEqual(of("model_ema"), of("model"));
    assert.ok(of("model_ema").every((x, i) => Math.abs(x - of("model")[i]) < 2e-3));
  }));
