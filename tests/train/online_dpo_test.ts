/** Online DPO: what it learns from, against DPO on the same pairs, and a run that goes on. */
import assert from "node:assert/strict";
import type { PromptRow } from "../../src/data/tokenize.ts";
import { openGpu } from "../../src/gpu/device.ts";
import { loadModel } from "../../src/model/load.ts";
import type { Comparison, Judge } from "../../src/reward/judge.ts";
import type { RewardSource } from "../../src/reward/source.ts";
import { openRun } from "../../src/run/run.ts";
import { dpo } from "../../src/train/dpo.ts";
import type { StepEvent } from "../../src/train/events.ts";
import { onlineDpo } from "../../src/train/online_dpo.ts";
import { dpoOptions, onlineDpoOptions } from "../../src/train/options/defaults.ts";
import type { OnlineDpoOptions } from "../../src/train/options/online_dpo.ts";
import {
  type CompletionPair,
  judgeByComparison,
  judgeByRewards,
  type PairJudge,
} from "../../src/train/pair_judges.ts";
import { golden, withDirectory } from "../assets.ts";
import { documents } from "./small.ts";

const TINY = golden("models/tiny-llama");
const PROMPTS: PromptRow[] = documents(3, [3, 7, 5, 2, 9]).map((ids) => {
  const text = ids.join(" ");
  return { ids, text, prompt: text, columns: {} };
});
const decode = (ids: number[]) => ids.join(" ");

/** Prefers the longer completion. */
const byLength: PairJudge = (pairs) => {
  const lengths = pairs.map(({ completions }) => completions.map(({ ids }) => ids.length));
  return Promise.resolve({
    better: lengths.map(([a, b]) => a === b ? null : a > b ? 0 : 1),
    scores: lengths.map(([a, b]): [number, number] => [a, b]),
    metrics: {},
  });
};

interface Result {
  events: StepEvent[];
  weights: Record<string, Float32Array>;
}

const COMMON = { seed: 5, learningRate: 1e-3, lrSchedulerType: "constant" as const };

async function runIn(
  directory: string,
  judge: PairJudge,
  options: Partial<OnlineDpoOptions>,
  { resume = false, stopAfter = 0 } = {},
): Promise<Result> {
  const gpu = await openGpu();
  let asked = 0;
  const run = openRun(directory, {
    config: { command: "online-dpo", seed: 5, adapter: "", driver: "", options: {} },
    resume,
    interrupted: () => ++asked === stopAfter,
  });
  const stage = run.stage("online-dpo"), events: StepEvent[] = [];
  const data = {
    workspace: { gpu },
    policy: loadModel(gpu, TINY),
    reference: loadModel(gpu, TINY),
    prompts: PROMPTS,
    judge,
    // Tokens that the model likes, so that lengths differ.
    stopIds: [122, 204, 52, 196],
    decode,
  };
  const all = onlineDpoOptions({
    ...COMMON,
    maxSteps: 3,
    perDeviceTrainBatchSize: 4,
    maxNewTokens: 9,
    temperature: 1,
    ...options,
  });
  for await (const event of onlineDpo(stage, data, all)) events.push(event);
  const { model } = stage.newest()!.files;
  run.close();
  gpu.close();
  return {
    events,
    weights: Object.fromEntries(Object.entries(model).map(([name, { data }]) => [name, data])),
  };
}

async function fresh(judge: PairJudge, options: Partial<OnlineDpoOptions> = {}): Promise<Result> {
  let result: Result | undefined;
  await withDirectory(async (directory) => {
    result = await runIn(directory, judge, options);
  });
  return result!;
}

Deno.test("a step is DPO on the pairs that the policy has drawn, to the bit", () =>
  withDirectory(async (directory) => {
    const drawn: CompletionPair[] = [];
    const keep: PairJudge = (pairs, step) => {
      drawn.push(...pairs);
      return byLength(pairs, step);
    };
    const online = await fresh(keep, { maxSteps: 1, shuffleDataset: false });
    const examples = drawn.flatMap(({ row: { ids }, completions }) => {
      const [a, b] = completions.map((one) => one.ids).sort((a, b) => b.length - a.length);
      const side = (answer: number[]) => ({ ids: [...ids, ...answer], promptLength: ids.length });
      return a.length === b.length ? [] : [{ chosen: side(a), rejected: side(b) }];
    });
    assert.ok(examples.length > 1 && examples.length <= 4);
    const { metrics } = online.events[0];
    assert.equal(metrics["pairs/decided"], examples.length / 4);
    // The policy is still the reference.
    assert.ok(Math.abs(metrics.loss - Math.LN2) < 1e-12);
    assert.equal(metrics["objective/kl"], 0);
    assert.ok(metrics.grad_norm > 0);

    const gpu = await openGpu();
    const run = openRun(directory, {
      config: { command: "dpo", seed: 5, adapter: "", driver: "", options: {} },
    });
    const stage = run.stage("dpo");
    const data = {
      workspace: { gpu },
      model: loadModel(gpu, TINY),
      reference: loadModel(gpu, TINY),
      examples,
    };
    const options = dpoOptions({ ...COMMON, maxSteps: 1, perDeviceTrainBatchSize: 4, shuffleDataset: false });
    for await (const event of dpo(stage, data, options)) {
      assert.equal(event.metrics.loss, metrics.loss);
      assert.equal(event.metrics.grad_norm, metrics.grad_norm);
    }
    for (const [name, { data }] of Object.entries(stage.newest()!.files.model)) {
      assert.deepEqual(online.weights[name], data, name);
    }
    run.close();
    gpu.close();
  }));

Deno.test("pairs count alike however they are cut into micro-batches", async () => {
  const whole = await fresh(byLength, { maxSteps: 1 });
  const parts = await fresh(byLength, {
    maxSteps: 1,
    perDeviceTrainBatchSize: 1,
    gradientAccumulationSteps: 4,
  });
  const [a, b] = [whole, parts].map(({ events }) => events[0].metrics);
  assert.equal(a["pairs/decided"], b["pairs/decided"]);
  assert.ok(Math.abs(a.grad_norm / b.grad_norm - 1) < 1e-5, `${a.grad_norm}, ${b.grad_norm}`);
  assert.ok(Math.abs(a.loss - b.loss) < 1e-9);
});

Deno.test("what is preferred becomes more frequent", async () => {
  const { events } = await fresh(byLength, {
    maxSteps: 12,
    perDeviceTrainBatchSize: 8,
    learningRate: 2e-3,
    maxNewTokens: 20,
  });
  const lengths = events.map(({ metrics }) => metrics["completions/mean_length"]);
  const mean = (some: number[]) => some.reduce((a, b) => a + b) / some.length;
  assert.ok(mean(lengths.slice(-3)) > mean(lengths.slice(0, 2)) + 2, `${lengths}`);
  const last = events.at(-1)!.metrics;
  assert.ok(last["objective/kl"] > 0 && last["objective/scores"] > events[0].metrics["objective/scores"]);
});

Deno.test("pairs that nobody can decide teach nothing", async () => {
  const nobody: PairJudge = (pairs) => Promise.resolve({ better: pairs.map(() => null), metrics: {} });
  const { events, weights } = await fresh(nobody, { maxSteps: 2 });
  for (const { metrics } of events) {
    assert.equal(metrics["pairs/decided"], 0);
    assert.equal(metrics.grad_norm, 0);
    assert.ok(!("loss" in metrics));
  }
  const { weights: start } = await fresh(byLength, { maxSteps: 1, learningRate: 0 });
  assert.deepEqual(weights["model.norm.weight"], start["model.norm.weight"]);
});

Deno.test("beta goes by the epoch, and the last holds on", async () => {
  const { events } = await fresh(byLength, {
    maxSteps: 6,
    perDeviceTrainBatchSize: 5,
    beta: [0.5, 0.1, 0.3],
  });
  assert.deepEqual(events.map(({ metrics }) => metrics.beta), [0.5, 0.1, 0.3, 0.3, 0.3, 0.3]);
});

Deno.test("a run that was stopped goes on to the same bits", () =>
  withDirectory(async (directory) => {
    const straight = await fresh(byLength);
    await runIn(directory, byLength, {}, { stopAfter: 1 });
    const resumed = await runIn(directory, byLength, {}, { resume: true });
    assert.deepEqual(resumed.weights, straight.weights);
    assert.deepEqual(
      resumed.events.map(({ metrics }) => metrics),
      straight.events.slice(1).map((e) => e.metrics),
    );
  }));

const pair = (a: number[], b: number[], ended = [true, true]): CompletionPair => ({
  row: PROMPTS[0],
  completions: [{ ids: a, ended: ended[0] }, { ids: b, ended: ended[1] }],
});

Deno.test("the larger weighted sum of rewards decides, less a penalty for a missing end", async () => {
  const sources: RewardSource[] = [
    {
      name: "length",
      weight: 1,
      score: (b) => Promise.resolve(b.completionIds.map((ids) => ids.length)),
      metrics: () => ({ "length/cost": 3 }),
    },
    {
      name: "first",
      weight: 10,
      score: (b) => Promise.resolve(b.completionIds.map(([id]) => id < 9 ? id : null)),
    },
  ];
  const judge = judgeByRewards(sources, decode, 5);
  const { better, scores, metrics } = await judge([
    pair([1, 1, 1], [1, 1]),
    pair([1, 1, 1], [2]),
    pair([3, 3], [3, 3]),
    pair([1, 1, 1], [1], [false, true]),
  ], 1);
  assert.deepEqual(better, [0, 1, null, 1]);
  assert.deepEqual(scores, [[13, 12], [13, 21], [32, 32], [8, 11]]);
  assert.equal(metrics["length/cost"], 3);
  const only = judgeByRewards(sources.slice(1), decode);
  assert.deepEqual((await only([pair([9], [1])], 1)).better, [null]);
});

Deno.test("a judge is asked about both completions of a prompt", async () => {
  const words: Comparison["better"][] = ["second", "tie", null, "first"];
  const asked: string[][] = [];
  const judge: Judge = {
    compare: (prompt, first, second) => {
      asked.push([prompt, first, second].map(String));
      return Promise.resolve({ better: words[asked.length - 1], flipped: false });
    },
    rate: () => Promise.reject(new Error("nobody asks for a score")),
    metrics: () => ({ "judge/requests": asked.length }),
  };
  const pairs = [pair([1], [2]), pair([3], [4]), pair([5], [6]), pair([7], [8])];
  const { better, metrics } = await judgeByComparison(judge, decode)(pairs, 1);
  assert.deepEqual(better, [1, null, null, 0]);
  assert.deepEqual(asked[0], [PROMPTS[0].text, "1", "2"]);
  assert.equal(metrics["judge/requests"], 4);
});

Deno.test("where a judge fails, the questions that are under way are waited for", async () => {
  const gate = Promise.withResolvers<void>();
  let answered = 0, settled = false;
  const judge: Judge = {
    async compare(_, first) {
      if (first === "1") throw new Error("no more money");
      await gate.promise;
      answered++;
      return { better: "first", flipped: false };
    },
    rate: () => Promise.resolve(null),
    metrics: () => ({}),
  };
  const pairs = [pair([1], [2]), pair([3], [4]), pair([5], [6])];
  const verdicts = judgeByComparison(judge, decode)(pairs, 1).finally(() => settled = true);
  verdicts.catch(() => {});
  for (let i = 0; i < 20; i++) await Promise.resolve();
  assert.equal(settled, false);
  gate.resolve();
  await assert.rejects(verdicts, /^Error: no more money$/);
  assert.equal(answered, 2);
});
