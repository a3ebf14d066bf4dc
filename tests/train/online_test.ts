/** GRPO, RLOO and REINFORCE++ on small models: what is on-policy, what a resumed run does, what options change. */
import assert from "node:assert/strict";
import type { Generation } from "../../src/train/group_rollout.ts";
import { withPenalty } from "../../src/train/grpo.ts";
import type { GrpoOptions } from "../../src/train/options/grpo.ts";
import type { KeptGroup } from "../../src/train/replay_buffer.ts";
import { withDirectory } from "../assets.ts";
import { testOnProfiles } from "../kernels/helpers.ts";
import { metricsOf, type Online, onlineRun, type OnlineSettings, runOf, tokenReward } from "./online_runs.ts";

/** What every method is called with. */
const EVERY: Online[] = [{ method: "grpo" }, { method: "rloo" }, { method: "reinforce" }];

testOnProfiles(
  "the first use of a completion is on-policy: the ratio is exactly 1, sampling has the same numbers",
  async (gpu) => {
    // With an epsilon of almost nothing, any ratio but 1 would be clipped.
    const epsilon = 1e-12;
    for (const { method } of EVERY) {
      for (const lora of [false, true]) {
        const steps = metricsOf(await runOf(gpu, { method, options: { epsilon } } as Online, { lora }));
        assert.equal(steps.length, 3);
        for (const metrics of steps) {
          assert.equal(metrics["clip_ratio/region_mean"], 0, method);
          const allowed = gpu.profile.kind === "cpu" ? 1e-6 : 1e-4;
          assert.ok(metrics["sampling/logp_difference"] <= allowed, `${metrics["sampling/logp_difference"]}`);
        }
        assert.ok(steps[0].grad_norm > 0);
      }
    }
  },
);

testOnProfiles(
  "older log-probabilities are those before the first step: with a learning rate of 0 every ratio stays 1",
  async (gpu) => {
    // Six micro-batches of two, two to a step, twice: the later ones are scored when they are sampled.
    const options = {
      epsilon: 1e-12,
      learningRate: 0,
      perDeviceTrainBatchSize: 2,
      stepsPerGeneration: 6,
      numIterations: 2,
      maxSteps: 7,
    };
    for (const { method } of EVERY) {
      const frozen = metricsOf(await runOf(gpu, { method, options } as Online));
      for (const metrics of frozen) assert.equal(metrics["clip_ratio/region_mean"], 0, method);
      assert.deepEqual(frozen.map((metrics) => "reward" in metrics), [
        true,
        false,
        false,
        false,
        false,
        false,
        true,
      ]);
      const moving = metricsOf(
        await runOf(gpu, { method, options: { ...options, learningRate: 1e-3 } } as Online),
      );
      assert.equal(moving[0]["clip_ratio/region_mean"], 0);
      assert.ok(
        moving[1]["clip_ratio/region_mean"] > 0,
        "later steps learn from completions of an older policy",
      );
    }
  },
  ["cpu"],
);

/** Runs whose state has something of everything. */
const STATEFUL: (Online & { settings?: OnlineSettings })[] = [
  { method: "grpo", options: { numIterations: 2, beta: 0.05, saveSteps: 1, maxSteps: 4 } },
  {
    method: "grpo",
    options: {
      stepsPerGeneration: 4,
      replayBufferSize: 2,
      dynamicSampling: true,
      useAdaptiveEntropy: true,
      entropyTarget: 3.85,
      entropyCoef: 0.01,
      saveSteps: 1,
      maxSteps: 4,
    },
    settings: { lora: true },
  },
  {
    method: "grpo",
    options: {
      syncRefModel: true,
      refModelSyncSteps: 2,
      beta: 0.2,
      klEstimator: "exact",
      saveSteps: 1,
      maxSteps: 4,
    },
  },
  { method: "rloo", options: { numIterations: 2, saveSteps: 1, maxSteps: 4 } },
  { method: "reinforce", options: { stepsPerGeneration: 6, numGenerations: 1, saveSteps: 1, maxSteps: 4 } },
];

STATEFUL.forEach(({ settings, ...run }, index) => {
  testOnProfiles(
    `${run.method} (${index}), left between any two steps and resumed, ends with the same bits`,
    async (gpu) => {
      const whole = await runOf(gpu, run, settings);
      const metrics = metricsOf(whole);
      assert.equal(metrics.length, 4);
      for (let killAfter = 1; killAfter < 4; killAfter++) {
        await withDirectory(async (directory) => {
          const first = await onlineRun(gpu, directory, run, { ...settings, killAfter });
          const rest = await onlineRun(gpu, directory, run, { ...settings, resume: true });
          // What stands after the last checkpoint is done again.
          assert.deepEqual(metricsOf(rest), metrics.slice(4 - rest.events.length));
          assert.ok(first.events.length + rest.events.length >= 4);
          assert.deepEqual(rest.hashes, whole.hashes);
          assert.deepEqual(rest.state, whole.state);
        });
      }
    },
    ["cpu"],
  );
});

testOnProfiles(
  "completions that are still to be learnt from are in the checkpoint, and no others",
  async (gpu) => {
    const options = { numIterations: 2, saveSteps: 1, maxSteps: 3 };
    const { state } = await runOf(gpu, { method: "grpo", options });
    const { samples, temperature } = state!.generation as Generation;
    assert.equal(samples.length, 8);
    assert.equal(temperature, 1);
    assert.ok(samples.every((one) => one.oldLogprobs!.length === one.completion.length));
    const done = await runOf(gpu, { method: "grpo", options: { ...options, maxSteps: 2 } });
    assert.deepEqual((done.state!.generation as Generation).samples, []);
  },
  ["cpu"],
);

testOnProfiles(
  "groups whose rewards are all the same are sampled anew, up to a number of rounds",
  async (gpu) => {
    // Only prompts of an odd number of tokens give rewards that differ.
    const odd = tokenReward(
      "odd",
      (ids, i, batch) => batch.promptIds[i].length % 2 ? ids.length + ids[0] / 1e3 : 1,
    );
    const options = { dynamicSampling: true, numGenerations: 2, maxSteps: 3 };
    const steps = metricsOf(await runOf(gpu, { method: "grpo", options }, { rewards: [odd] }));
    assert.ok(steps.some((metrics) => metrics["dynamic_sampling/rounds"] > 1));
    for (const metrics of steps) {
      assert.ok(metrics["dynamic_sampling/rounds"] <= 3);
      assert.equal(metrics.frac_reward_zero_std, 0);
      assert.ok(metrics["dynamic_sampling/frac_kept"] < 1);
    }
    const flat = tokenReward("flat", () => 1);
    const limited = { ...options, dynamicSamplingMaxRounds: 2, maxSteps: 1 };
    const [metrics] = metricsOf(await runOf(gpu, { method: "grpo", options: limited }, { rewards: [flat] }));
    assert.equal(metrics["dynamic_sampling/rounds"], 2);
    assert.equal(metrics.frac_reward_zero_std, 1);
    assert.equal(metrics.grad_norm, 0);
  },
  ["cpu"],
);

testOnProfiles("flat groups are replaced by groups of earlier batches, the widest ones", async (gpu) => {
  const early = tokenReward("early", (ids, _, { step }) => step === 1 ? ids.length + ids[0] / 1e3 : 1);
  const options = { replayBufferSize: 1, numGenerations: 4, maxSteps: 2 };
  const result = await runOf(gpu, { method: "grpo", options }, { rewards: [early] });
  const [first, second] = metricsOf(result);
  assert.equal(first["replay_buffer/frac_replaced"], 0);
  assert.equal(second["replay_buffer/frac_replaced"], 1);
  assert.ok(second.grad_norm > 0, "the old group teaches something");
  const kept = result.state!.kept as KeptGroup[];
  assert.equal(kept.length, 1);
  assert.ok(kept[0].spread > 0 && kept[0].samples.length === 4);
  for (const { oldLogprobs, samplingLogprobs } of kept[0].samples) {
    assert.deepEqual(oldLogprobs, samplingLogprobs, "its ratios are to the policy that drew it");
  }
}, ["cpu"]);

testOnProfiles("truncated completions are not learnt from where that is asked for", async (gpu) => {
  const options = { maskTruncatedCompletions: true, maxCompletionLength: 1, maxSteps: 1 };
  const [metrics] = metricsOf(await runOf(gpu, { method: "grpo", options }));
  const cut = metrics["completions/clipped_ratio"];
  assert.ok(cut > 0, "none was cut");
  const all = metricsOf(
    await runOf(gpu, { method: "grpo", options: { ...options, maskTruncatedCompletions: false } }),
  );
  assert.notEqual(metrics.grad_norm, all[0].grad_norm);
}, ["cpu"]);

testOnProfiles("a reference that moves lowers the KL", async (gpu) => {
  const options = { beta: 0.1, learningRate: 1e-2, maxSteps: 3, lrSchedulerType: "constant" as const };
  const fixed = metricsOf(await runOf(gpu, { method: "grpo", options }));
  const moved = metricsOf(
    await runOf(gpu, {
      method: "grpo",
      options: { ...options, syncRefModel: true, refModelSyncSteps: 1, refModelMixupAlpha: 1 },
    }),
  );
  assert.ok(fixed[1].kl > 1e-4);
  // The reference is the policy again, to the bit.
  assert.ok(Math.abs(moved[1].kl) < 1e-12 && Math.abs(moved[2].kl) < 1e-12);
}, ["cpu"]);

testOnProfiles("the KL can be taken off the reward of GRPO instead", async (gpu) => {
  const options = { lrSchedulerType: "constant" as const, maxSteps: 3 };
  const stepsOf = async (more: Partial<GrpoOptions>) =>
    metricsOf(await runOf(gpu, { method: "grpo", options: { ...options, ...more } }));
  const none = await stepsOf({}), inLoss = await stepsOf({ beta: 0.5, klEstimator: "k1" });
  for (const klEstimator of ["k1", "exact"] as const) {
    const steps = await stepsOf({ beta: 0.5, klEstimator, klPlacement: "reward" });
    // As long as the policy is the reference there is no KL, and so no penalty.
    assert.ok(Math.abs(steps[0].kl) < 1e-6);
    assert.ok(Math.abs(steps[0].grad_norm / none[0].grad_norm - 1) < 1e-3);
    assert.ok(steps[2].kl !== 0 && steps[2].grad_norm !== none[2].grad_norm);
    assert.notEqual(steps[2].grad_norm, inLoss[2].grad_norm);
  }
  const rewards = [[1, null, 3], [null, null, 1]], sums = Float64Array.of(1, NaN, 4);
  const kl = [Float64Array.of(0.5, 1), Float64Array.of(1), Float64Array.of(2)];
  assert.deepEqual(withPenalty({ rewards, sums }, [1, 1], kl, 0.1), {
    rewards: [...rewards, [-0.1 * 1.5, null, -0.1 * 2]],
    weights: [1, 1, 1],
  });
}, ["cpu"]);

testOnProfiles("the variants of RLOO and REINFORCE++ learn, each in its way", async (gpu) => {
  const variants: Online[] = [
    { method: "rloo", options: { lossLevel: "token" } },
    {
      method: "rloo",
      options: { lossLevel: "token", klPlacement: "reward_to_go", rewardClipRange: [-0.1, 0.1] },
    },
    { method: "rloo", options: { lossLevel: "token", klPlacement: "loss", klEstimator: "exact" } },
    { method: "rloo", options: { klEstimator: "exact", normalizeAdvantages: true } },
    { method: "reinforce", options: { numGenerations: 1 } },
    {
      method: "reinforce",
      options: { advantageEstimator: "reinforce_baseline", klPlacement: "loss", klEstimator: "k2" },
    },
    { method: "reinforce", options: { klEstimator: "exact", gamma: 0.9, entropyCoef: 0.01 } },
    {
      method: "grpo",
      options: { importanceSamplingMode: "token_truncate", topP: 0.9, topK: 40, temperature: 0.8 },
    },
  ];
  const norms = new Set<number>();
  for (const run of variants) {
    const steps = metricsOf(await runOf(gpu, { ...run, options: { ...run.options, maxSteps: 2 } } as Online));
    for (const metrics of steps) {
      assert.ok(Object.values(metrics).every(Number.isFinite), JSON.stringify(metrics));
      assert.ok(metrics.grad_norm > 0);
    }
    norms.add(steps[1].grad_norm);
    if (run.method !== "grpo") assert.ok("kl" in steps[0], "the penalty's KL is reported");
    else assert.ok(Math.abs(steps[0]["sampling/importance_sampling_ratio/mean"] - 1) < 1e-4);
  }
  assert.equal(norms.size, variants.length);
}, ["cpu"]);

testOnProfiles(
  "several rewards are logged under their names, and samples are kept with each",
  async (gpu) => {
    const result = await runOf(gpu, { method: "grpo", options: { maxSteps: 1 } });
    const [metrics] = metricsOf(result), { samples } = result;
    for (
      const name of ["rewards/even/mean", "rewards/even/std", "rewards/short/mean", "reward", "reward_std"]
    ) {
      assert.ok(Number.isFinite(metrics[name]), name);
    }
    assert.equal(samples.length, 8);
    assert.deepEqual(Object.keys(samples[0].rewards).sort(), ["advantage", "even", "reward", "short"]);
    assert.ok(!("short" in samples[4].rewards), "a reward that does not apply is left out");
    assert.ok(
      Math.abs(samples[0].rewards.even + 0.5 * samples[0].rewards.short - samples[0].rewards.reward) < 1e-12,
    );
  },
  ["cpu"],
);

testOnProfiles(
  "a knob holds from the next step on; a penalty cannot be turned on without a reference",
  async (gpu) => {
    const turn = (knobs: Record<string, number>): OnlineSettings => ({
      afterStep: (step, store) => void (step === 1 && store.ask({ who: "test", kind: "set", detail: knobs })),
    });
    const run: Online = { method: "grpo", options: { numIterations: 2, maxSteps: 4 } };
    const plain = metricsOf(await runOf(gpu, run));
    const clipped = metricsOf(await runOf(gpu, run, turn({ epsilon: 1e-9 })));
    assert.deepEqual(clipped[0], plain[0]);
    assert.ok(clipped[1]["clip_ratio/region_mean"] > plain[1]["clip_ratio/region_mean"]);
    // Completions are learnt from at the temperature that they were sampled at.
    const warmer = metricsOf(await runOf(gpu, run, turn({ temperature: 1.5 })));
    assert.deepEqual(warmer[1], plain[1]);
    assert.ok(warmer[2].entropy > plain[2].entropy + 0.1);
    const refused = await runOf(gpu, run, turn({ beta: 0.1 }));
    assert.deepEqual(metricsOf(refused), plain);
    assert.match(refused.requests[0].refusal!, /began with 0, so there is no reference/);
  },
  ["cpu"],
);
