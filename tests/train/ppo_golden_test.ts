/** PPO on TRL's recorded rollouts gives TRL's log-probabilities, rewards, advantages, losses, gradients and weights. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { readFloats } from "../../src/gpu/buffers.ts";
import { openGpu } from "../../src/gpu/device.ts";
import { loadModel, makeModel } from "../../src/model/load.ts";
import { readConfig } from "../../src/model/config.ts";
import { type HostWeights, readParams, unpackWeights } from "../../src/model/params.ts";
import { readSafetensors, type Weights } from "../../src/model/safetensors.ts";
import { openLearner } from "../../src/train/learner.ts";
import { advantagesOf, rolloutScorer } from "../../src/train/rollout.ts";
import { ppoUpdater } from "../../src/train/ppo_update.ts";
import { asset, assetTest, golden } from "../assets.ts";

interface Update {
  tensors: Record<string, string>;
  optimizer_steps: {
    micro: { micro_batch_inds: number[]; pg_loss: number; vf_loss: number }[];
    grad_norm_unclipped: number;
    learning_rate: number;
    weights_after_l2: Record<string, number>;
  }[];
  metrics: Record<string, number>;
}

const STORIES = () => asset("goldens/models/stories260K");
const UNIT = { mean: 0, std: 1 };

/** stories260K with TRL's start of the value head. */
function valueModel(gpu: Awaited<ReturnType<typeof openGpu>>, head: Weights) {
  const body = readSafetensors(join(STORIES(), "model.safetensors"));
  const config = { ...readConfig(STORIES()), architecture: "reward" as const };
  return makeModel(
    gpu,
    config,
    (name) =>
      name === "score.weight"
        ? { shape: [1, 64], data: head.read("init/value_score.weight") }
        : { shape: body.tensors.get(name)!.shape, data: body.read(name) },
  );
}

const norms = (weights: HostWeights) =>
  Object.fromEntries(
    Object.entries(weights).map(([name, { data }]) => [
      name,
      Math.sqrt(data.reduce((sum, x) => sum + x * x, 0)),
    ]),
  );

for (const name of ["ppo", "ppo_variant"]) {
  assetTest(`PPO reproduces TRL's ${name} from its rollouts`, async () => {
    const json = JSON.parse(readFileSync(golden(`trl/${name}.json`), "utf8"));
    const tensors = readSafetensors(golden(`trl/${name}.safetensors`));
    const c = json.config, eos = json.eos_token_id_used as number;
    const gpu = await openGpu(), workspace = { gpu };
    const policy = openLearner(gpu, loadModel(gpu, STORIES()));
    const value = openLearner(gpu, valueModel(gpu, tensors));
    const temperature = c.temperature + 1e-7; // as TRL divides
    const scorer = rolloutScorer(workspace, {
      policy: policy.model,
      reference: loadModel(gpu, STORIES()),
      reward: value.model, // its scores are replaced by the recorded ones
      value: value.model,
    }, { batchSize: 16, scoreScale: UNIT, valueScale: UNIT });
    const update = ppoUpdater(workspace, policy, value, {
      microBatch: json.updates[0].optimizer_steps[0].micro[0].micro_batch_inds.length,
      valueScale: UNIT,
      checkpointing: false,
      lossAggregation: "micro_batch",
      whitenScope: "batch",
      whitenUnbiased: true,
    });
    let worst = 0;
    const close = (what: string, got: number, want: number, tolerance: number) => {
      const share = Math.abs(got - want) / tolerance;
      assert.ok(share <= 1, `${name}: ${what} is ${got}, TRL has ${want} (tolerance ${tolerance}).`);
      worst = Math.max(worst, share);
    };

    for (const [u, recorded] of (json.updates as Update[]).entries()) {
      const ints = (key: string) => tensors.readIntegers(recorded.tensors[key]);
      const floats = (key: string) => tensors.read(recorded.tensors[key]);
      const rows = 16, queries = ints("queries"), responses = ints("postprocessed_responses");
      const context = queries.length / rows, width = responses.length / rows;
      const lengths = ints("sequence_lengths"), scores = floats("scores");
      const samples = Array.from({ length: rows }, (_, i) => {
        const padded = Array.from(queries.subarray(i * context, (i + 1) * context));
        const completion = Array.from(responses.subarray(i * width, i * width + lengths[i] + 1));
        return {
          prompt: padded.slice(padded.findIndex((id) => id !== 0)),
          completion,
          ended: completion.at(-1) === eos,
        };
      });
      const penalty = c.missing_eos_penalty ?? 0;
      const rollouts = (await scorer(samples, temperature)).map((rollout, i) => ({
        ...rollout,
        score: scores[i] + (samples[i].ended ? 0 : penalty), // recorded after the penalty
      }));
      const advantages = advantagesOf(rollouts, {
        klCoef: c.kl_coef,
        klEstimator: c.kl_estimator,
        gamma: c.gamma,
        lam: c.lam,
        whitenRewards: c.whiten_rewards,
        whitenUnbiased: true,
        whitenScope: "batch",
        missingEosPenalty: c.missing_eos_penalty ?? undefined,
        scorePlacement: "after_eos",
      });
      const tables = { logprobs: floats("logprobs"), ref: floats("ref_logprobs"), values: floats("values") };
      const results = {
        rewards: floats("rewards"),
        advantages: floats("advantages"),
        returns: floats("returns"),
      };
      // Later updates sample with weights that differ by what other kernels make of the gradients.
      const drift = u === 0 ? 1 : 20;
      rollouts.forEach((rollout, i) => {
        rollout.completion.forEach((_, t) => {
          const at = i * width + t;
          close(`update ${u} logprob`, rollout.logprobs[t], tables.logprobs[at], 1e-4 * drift);
          close(`update ${u} ref logprob`, rollout.refLogprobs[t], tables.ref[at], 1e-4);
          close(`update ${u} value`, rollout.values[t], tables.values[at], 1e-4 * drift);
          close(`update ${u} advantage`, advantages[i].advantages[t], results.advantages[at], 2e-4 * drift);
        });
        advantages[i].returns.forEach((x, t) => {
          close(`update ${u} return`, x, results.returns[i * width + t], 2e-4 * drift);
          close(`update ${u} reward`, advantages[i].rewards[t], results.rewards[i * width + t], 2e-4 * drift);
        });
      });

      for (const [s, step] of recorded.optimizer_steps.entries()) {
        const { metrics } = await update(rollouts, advantages, [[
          step.micro.flatMap((m) => m.micro_batch_inds),
        ]], {
          temperature,
          learningRate: step.learning_rate,
          valueLearningRate: step.learning_rate,
          cliprange: c.cliprange,
          cliprangeValue: c.cliprange_value,
          vfCoef: c.vf_coef,
          entropyCoef: 0,
          maxGradNorm: 0,
          weightDecay: c.weight_decay,
          adamBeta1: c.adam_beta1,
          adamBeta2: c.adam_beta2,
          adamEpsilon: c.adam_epsilon,
        });
        const mean = (key: "pg_loss" | "vf_loss") =>
          step.micro.reduce((sum, m) => sum + m[key], 0) / step.micro.length;
        const first = u === 0 && s === 0;
        const tolerance = (x: number) => first ? 2e-5 * Math.abs(x) + 2e-6 : 2e-3 * Math.abs(x) + 2e-4;
        const where = `update ${u} step ${s}`;
        close(`${where} pg_loss`, metrics["loss/policy_avg"], mean("pg_loss"), tolerance(mean("pg_loss")));
        close(`${where} vf_loss`, metrics["loss/value_avg"], mean("vf_loss"), tolerance(mean("vf_loss")));
        const norm = Math.hypot(metrics.grad_norm, metrics.value_grad_norm);
        close(
          `${where} grad norm`,
          norm,
          step.grad_norm_unclipped,
          (first ? 1e-4 : 5e-3) * step.grad_norm_unclipped,
        );
        const after = {
          policy: norms(await readParams(gpu, policy.model.params)),
          value_model: norms(await readParams(gpu, value.model.params)),
        };
        for (const [key, l2] of Object.entries(step.weights_after_l2)) {
          const [model, ...rest] = key.split(".");
          close(`${where} l2 of ${key}`, after[model as keyof typeof after][rest.join(".")], l2, 1e-4 * l2);
        }
      }
    }
    console.log(`${name}: at most ${worst.toFixed(2)} of a tolerance used`);
    gpu.close();
  });
}

assetTest("the first gradient of PPO's policy and critic is TRL's, element by element", async () => {
  // The gradients of update 1, step 1 are recorded for tensors of up to 4,096 elements; AdamW with beta1 = 0 keeps them.
  const json = JSON.parse(readFileSync(golden("trl/ppo.json"), "utf8"));
  const tensors = readSafetensors(golden("trl/ppo.safetensors"));
  const c = json.config, recorded = json.updates[0] as Update;
  const gpu = await openGpu(), workspace = { gpu };
  const policy = openLearner(gpu, loadModel(gpu, STORIES()));
  const value = openLearner(gpu, valueModel(gpu, tensors));
  const temperature = c.temperature + 1e-7;
  const options = { temperature, valueScale: UNIT };
  const ints = (key: string) => tensors.readIntegers(recorded.tensors[key]);
  const queries = ints("queries"),
    responses = ints("postprocessed_responses"),
    lengths = ints("sequence_lengths");
  const context = queries.length / 16, width = responses.length / 16;
  const samples = Array.from({ length: 16 }, (_, i) => {
    const padded = Array.from(queries.subarray(i * context, (i + 1) * context));
    const completion = Array.from(responses.subarray(i * width, i * width + lengths[i] + 1));
    return {
      prompt: padded.slice(padded.findIndex((id) => id !== 0)),
      completion,
      ended: completion.at(-1) === json.eos_token_id_used,
    };
  });
  const models = { policy: policy.model, reference: policy.model, reward: value.model, value: value.model };
  const scored = await rolloutScorer(workspace, models, { ...options, batchSize: 16, scoreScale: UNIT })(
    samples,
    options.temperature,
  );
  const scores = tensors.read(recorded.tensors.scores);
  const rollouts = scored.map((rollout, i) => ({ ...rollout, score: scores[i] }));
  const advantages = advantagesOf(rollouts, {
    klCoef: c.kl_coef,
    klEstimator: "k1",
    gamma: c.gamma,
    lam: c.lam,
    whitenRewards: false,
    whitenUnbiased: true,
    whitenScope: "batch",
    scorePlacement: "after_eos",
  });
  const update = ppoUpdater(workspace, policy, value, {
    ...options,
    microBatch: 16,
    checkpointing: false,
    lossAggregation: "micro_batch",
    whitenScope: "batch",
    whitenUnbiased: true,
  });
  await update(rollouts, advantages, [[recorded.optimizer_steps[0].micro[0].micro_batch_inds]], {
    temperature: options.temperature,
    learningRate: 0,
    valueLearningRate: 0,
    cliprange: c.cliprange,
    cliprangeValue: c.cliprange_value,
    vfCoef: c.vf_coef,
    entropyCoef: 0,
    maxGradNorm: 0,
    weightDecay: 0,
    adamBeta1: 0,
    adamBeta2: 0.999,
    adamEpsilon: 1e-8,
  });
  let worst = 0;
  for (const [prefix, learner] of [["policy", policy], ["value_model", value]] as const) {
    const { layout, training } = learner.model.params;
    const gradients = unpackWeights(layout, await readFloats(gpu, training!.moment1));
    for (const [name, { data }] of Object.entries(gradients)) {
      const key = `grad1/${prefix}.${name}`;
      if (!tensors.tensors.has(key)) continue;
      const want = tensors.read(key);
      const largest = want.reduce((m, x) => Math.max(m, Math.abs(x)), 0);
      data.forEach((x, i) => worst = Math.max(worst, Math.abs(x - want[i]) / largest));
    }
  }
  console.log(`largest difference ${worst.toExponential(1)} of a tensor's largest element`);
  assert.ok(worst < 3e-5, `A gradient differs by ${worst} of its tensor's largest element.`);
  gpu.close();
});
