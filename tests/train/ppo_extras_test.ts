/** PPO's options that TRL does not have: names of TRL 0.11, clips, the critic's warm-up, the moving average. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { golden, withDirectory } from "../assets.ts";
import type { PromptExample } from "../../src/data/tokenize.ts";
import type { RewardSource } from "../../src/reward/source.ts";
import { openStore } from "../../src/run/store.ts";
import { type CompletionScorer, completionScorer } from "../../src/train/completion_scores.ts";
import { ppoOptions } from "../../src/train/options/defaults.ts";
import { readSafetensors } from "../../src/model/safetensors.ts";
import type { CheckpointFiles } from "../../src/run/checkpoint.ts";
import { criticPath, onlyRewardModel, type PpoOptions, ppoSchema } from "../../src/train/options/ppo.ts";
import { flags, keel, writeLines } from "../cli/keel.ts";
import { type SmallResult, smallRun, type SmallSettings } from "./small.ts";

async function ppo(
  options: Partial<PpoOptions>,
  reward?: CompletionScorer<PromptExample>,
): Promise<SmallResult> {
  let result: SmallResult | undefined;
  await withDirectory(async (directory) => {
    result = await smallRun(directory, { method: "ppo", options, reward });
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

Deno.test("scores can come from any function of the completions", async () => {
  const seen: number[] = [];
  const { events, samples } = await ppo({ maxSteps: 2, klCoef: 0 }, (prompts, completions, step) => {
    seen.push(step);
    assert.equal(prompts.length, completions.length);
    assert.ok(prompts.every(({ text }) => text.length > 0));
    return Promise.resolve({
      scores: completions.map(({ ids }) => ids.length / 4),
      metrics: { "rewards/length/mean": 7 },
    });
  });
  assert.deepEqual(seen, [1, 2]);
  for (const { metrics } of events) {
    assert.ok(Math.abs(metrics["objective/scores"] - metrics["tokens/responses_len_mean"] / 4) < 1e-12);
    assert.equal(metrics["rewards/length/mean"], 7);
  }
  for (const { tokens, rewards } of samples) assert.equal((rewards as { score: number }).score, tokens / 4);
});

const SOURCES: RewardSource[] = [
  {
    name: "a",
    weight: 2,
    score: ({ completions }) => Promise.resolve(completions.map((_, i) => i)),
    metrics: () => ({ "a/cost": 3 }),
  },
  { name: "b", weight: 1, score: () => Promise.resolve([null, 5, null]) },
];
const row = { ids: [3], text: "", prompt: "", columns: {} }, rows = [row, row, row];
const completions = rows.map(() => ({ ids: [4], ended: true }));

Deno.test("a completion's score is the weighted sum of the rewards that apply to it", async () => {
  const { scores, metrics } = await completionScorer(SOURCES, String)(rows, completions, 1);
  assert.deepEqual(scores, [0, 7, 4]);
  assert.equal(metrics["rewards/a/mean"], 1);
  assert.equal(metrics["rewards/b/mean"], 5);
  assert.equal(metrics["a/cost"], 3);
  assert.ok(!("rewards/unscored" in metrics));
});

Deno.test("a completion to which none applies gets the mean of the others, and is counted", async () => {
  const { scores, metrics } = await completionScorer(SOURCES.slice(1), String)(rows, completions, 1);
  assert.deepEqual(scores, [5, 5, 5]);
  assert.equal(metrics["rewards/unscored"], 2);
});

Deno.test("the critic starts as the reward model where there is one, and as the policy where there is none", () => {
  const of = (given: Partial<PpoOptions>) =>
    criticPath(ppoOptions({ rewardModelPath: undefined, ...given }), "policy");
  assert.equal(of({ rewardModelPath: ["a", "b"] }), "a");
  assert.equal(of({ rewardFuncs: ["accuracy_reward"] }), "policy");
  assert.equal(of({ rewardModelPath: ["a"], criticInit: "fresh" }), "policy");
  assert.throws(() => of({ criticInit: "reward" }), /critic_init reward needs a reward model/);
});

Deno.test("one reward model alone scores in the pass of policy and critic", () => {
  const of = (given: Partial<PpoOptions>) => onlyRewardModel(ppoOptions(given));
  assert.equal(of({ rewardModelPath: ["a"] }), "a");
  assert.equal(of({ rewardModelPath: ["a", "b"] }), undefined);
  assert.equal(of({ rewardModelPath: ["a"], rewardWeights: [2] }), undefined);
  assert.equal(of({ rewardModelPath: ["a"], rewardFuncs: ["accuracy_reward"] }), undefined);
});

Deno.test("keel ppo takes reward functions of a file", () =>
  withDirectory(async (directory) => {
    const base = new URL("../../src/parrot/base", import.meta.url).pathname;
    const rows = Array.from({ length: 4 }, (_, i) => ({ prompt: "<user> 3 5 <bot>", wanted: i }));
    const functions = join(directory, "rewards.ts"), output_dir = join(directory, "run");
    Deno.writeTextFileSync(
      functions,
      `export const wanted = ({ wanted }: { wanted: number[] }) => wanted.map((x) => x + 1);
export async function half({ completions }: { completions: string[] }) {
  return await Promise.resolve(completions.map((_, i) => i % 2 ? null : 0.5));
}`,
    );
    const { code, err } = await keel(
      "ppo",
      ...flags({
        model: base,
        reward_funcs: functions,
        reward_weights: "1,4",
        dataset: writeLines(directory, "prompts.jsonl", rows),
        output_dir,
        max_steps: 1,
        per_device_train_batch_size: 4,
        response_length: 4,
        shuffle_dataset: false,
      }),
    );
    assert.equal(code, 0, err);
    const store = openStore(join(output_dir, "run.db"));
    const [{ value }] = store.metrics("ppo", "objective/scores");
    store.close();
    // Functions go by the order of their names: half has the weight 1, wanted 4.
    assert.equal(value, (0.5 + 4 + 8 + 0.5 + 12 + 16) / 4);
  }));

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
