/** Losses and their gradients against TRL's, through the tape. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { readFloats, upload } from "../../src/gpu/buffers.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { readSafetensors } from "../../src/model/safetensors.ts";
import { bradleyTerryLoss, dftLoss, nllLoss, policyLoss, valueLoss } from "../../src/rl/losses.ts";
import { add } from "../../src/tape/ops/elementwise.ts";
import { logProb } from "../../src/tape/ops/log_prob.ts";
import { compile } from "../../src/tape/plan.ts";
import { Tape, type Tensor } from "../../src/tape/tape.ts";
import { golden } from "../assets.ts";
import { testOnProfiles } from "../kernels/helpers.ts";
import { logical, physical } from "../tape/gradients.ts";
import { cases, CONTEXT, LENGTHS, rowOf, ROWS, tensors, TIME } from "./ppo_functions.ts";

type Values = ArrayLike<number>;

/** A tensor of the tape with given values: a matrix where `columns` is given, differentiable where `trained` is set. */
type MakeTensor = (name: string, values: Values, options?: { columns?: number; trained?: boolean }) => Tensor;

/** Records a loss, runs it forward and backward and returns its outputs and the gradients of what is trained. */
async function evaluate(gpu: Gpu, record: (tape: Tape, tensor: MakeTensor) => Record<string, Tensor>) {
  const tape = new Tape(gpu.profile);
  const trained = new Map<string, { shape: number[]; gradient: ReturnType<typeof upload> }>();
  const { loss, ...others } = record(tape, (name, values, options = {}) => {
    const { columns, trained: differentiable } = options;
    const shape = columns ? [values.length / columns, columns] : [values.length];
    const memory = (of: Values) => upload(gpu, physical({ shape, values: of }));
    const gradient = differentiable ? memory(new Float32Array(values.length)) : undefined;
    if (gradient) trained.set(name, { shape, gradient });
    return tape.external(name, shape, memory(values), gradient);
  });
  for (const [name, tensor] of Object.entries({ loss, ...others })) tape.output(name, tensor);
  tape.backward(loss, tape.input("one", [1]));
  const out = await compile({ gpu }, tape).run({ one: new Float32Array([1]) });
  const gradients: Record<string, Float32Array> = {};
  for (const [name, { shape, gradient }] of trained) {
    gradients[name] = logical(await readFloats(gpu, gradient), shape);
  }
  return { out, gradients };
}

/** The tolerances of `tests/goldens/trl/README.md`. */
function checkLoss(what: string, got: number, want: number): void {
  const allowed = 2e-6 + 1e-5 * Math.abs(want);
  assert.ok(Math.abs(got - want) <= allowed, `${what} is ${got}, TRL has ${want} ± ${allowed}`);
}

function checkGradient(what: string, got: Values, want: Values): void {
  assert.equal(got.length, want.length);
  const largest = Array.from(want).reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  assert.ok(largest > 0);
  for (let i = 0; i < want.length; i++) {
    assert.ok(Math.abs(got[i] - want[i]) <= 3e-5 * largest, `${what}[${i}] is ${got[i]}, TRL has ${want[i]}`);
  }
}

const ones = (n: number, value: number) => new Float32Array(n).fill(value);

/** Rows `which` of a [rows, time] tensor, one after the other. */
const rowsOf = (name: string, which: number[]) => which.flatMap((i) => Array.from(rowOf(name, i)));

for (const { id, config, micro_batch_inds: which, loss, metrics } of cases("loss")) {
  testOnProfiles(`PPO's loss ${id} and its gradients are TRL's`, async (gpu) => {
    const c = config as Record<string, number>;
    const window = (name: string, columns: number) => {
      const all = tensors.read(name);
      return which.flatMap((i) => {
        const start = (i * (CONTEXT + TIME) + CONTEXT - 1) * columns;
        return Array.from(all.subarray(start, start + TIME * columns));
      });
    };
    const vocab = 23, logits = window("in/logits", vocab), values = window("in/vpred_full", 1);
    const ids = tensors.readIntegers("in/responses");
    const targets = Uint32Array.from(which.flatMap((i) => [...ids.subarray(i * TIME, (i + 1) * TIME)]));
    /** `weight` over the number of counted tokens, for those tokens; a row counts `extra` tokens after its end. */
    const weights = (extra: number, weight: number) => {
      const counted = which.flatMap((i) => Array.from({ length: TIME }, (_, t) => t < LENGTHS[i] + extra));
      const count = counted.filter(Boolean).length;
      return counted.map((is) => is ? weight / count : 0);
    };
    const identity = Float32Array.from(
      { length: vocab * vocab },
      (_, i) => i % (vocab + 1) === 0 ? 1 : 0,
    );

    const { out, gradients } = await evaluate(gpu, (tape, tensor) => {
      const target = tape.external("targets", [targets.length], upload(gpu, targets));
      target.dtype = "u32";
      const hidden = tensor("logits", logits, { columns: vocab, trained: true });
      const head = tensor("identity", identity, { columns: vocab });
      const { logprob } = logProb(tape, hidden, { parts: [head] }, target, c.temperature + 1e-7);
      const { loss: pg } = policyLoss(tape, {
        logprob,
        oldLogprob: tensor("old", rowsOf("in/loss_old_logprobs", which)),
        advantages: tensor("advantages", rowsOf("in/loss_advantages", which)),
        weights: tensor("weights", weights(0, 1)),
        low: tensor("low", [1 - c.cliprange]),
        high: tensor("high", [1 + c.cliprange]),
      });
      const vf = valueLoss(tape, {
        values: tensor("values", values, { trained: true }),
        oldValues: tensor("old values", rowsOf("in/loss_values", which)),
        returns: tensor("returns", rowsOf("in/loss_returns", which)),
        weights: tensor("value weights", weights(1, 0.5 * c.vf_coef)),
        low: tensor("value low", [-c.cliprange_value]),
        high: tensor("value high", [c.cliprange_value]),
      });
      return { loss: add(tape, pg, vf), pg, vf };
    });
    checkLoss("the loss", out.loss[0], loss);
    checkLoss("the policy loss", out.pg[0], metrics.pg_loss);
    checkLoss("the value loss", out.vf[0] / c.vf_coef, metrics.vf_loss);
    checkGradient("d logits", gradients.logits, window(`${id}/grad/logits`, vocab));
    checkGradient("d values", gradients.values, window(`${id}/grad/vpred_full`, 1));
    assert.equal(which.length, id.endsWith("half") ? 3 : ROWS);
  });
}

testOnProfiles("a second clip bounds the loss of a token whose advantage is negative", async (gpu) => {
  const logprob = [-0.2, -0.3, -3, -0.1, -2, -1], old = [-2.2, -0.4, -1, -4, -1, -1];
  const advantages = [-1.5, -2, -1, 2, 0.5, -1], c = 3, weight = 0.25;
  const { out, gradients } = await evaluate(gpu, (tape, tensor) => ({
    ...policyLoss(tape, {
      logprob: tensor("logprob", logprob, { trained: true }),
      oldLogprob: tensor("old", old),
      advantages: tensor("advantages", advantages),
      weights: tensor("weights", ones(6, weight)),
      low: tensor("low", [0.8]),
      high: tensor("high", [1.2]),
      ceiling: tensor("ceiling", advantages.map((a) => a < 0 ? -c * a : 3e38)),
    }),
  }));
  let want = 0;
  const slopes = logprob.map((logp, i) => {
    const a = advantages[i], ratio = Math.exp(logp - old[i]);
    const once = Math.max(-a * ratio, -a * Math.min(1.2, Math.max(0.8, ratio)));
    const twice = a < 0 ? Math.min(once, -c * a) : once;
    want += weight * twice;
    return twice === -a * ratio ? -weight * a * ratio : 0;
  });
  // The first ratio is 7.4: only the second clip stops it.
  assert.equal(slopes[0], 0);
  assert.equal(slopes.filter((x) => x !== 0).length, 3);
  checkLoss("the loss", out.loss[0], want);
  checkGradient("d logprob", gradients.logprob, slopes);
});

interface SmallCase {
  id: string;
  config: {
    margin?: boolean;
    center_rewards_coefficient?: number;
    loss_type?: string;
    num_items_in_batch?: number;
  };
  loss: number;
}

const open = (name: string) => ({
  cases: JSON.parse(readFileSync(golden(`trl/${name}.json`), "utf8")).cases as SmallCase[],
  recorded: readSafetensors(golden(`trl/${name}.safetensors`)),
});

testOnProfiles("Bradley–Terry losses and their gradients are TRL's", async (gpu) => {
  const { cases, recorded } = open("losses_reward");
  const rewards = recorded.read("in/rewards"), pairs = rewards.length / 2;
  for (const { id, config, loss } of cases) {
    const { out, gradients } = await evaluate(gpu, (tape, tensor) => ({
      loss: bradleyTerryLoss(
        tape,
        {
          chosen: tensor("chosen", rewards.subarray(0, pairs), { trained: true }),
          rejected: tensor("rejected", rewards.subarray(pairs), { trained: true }),
          margin: tensor("margin", config.margin ? recorded.read("in/margin") : ones(pairs, 0)),
          weights: tensor("weights", ones(pairs, 1 / pairs)),
        },
        config.center_rewards_coefficient ? tensor("center", [config.center_rewards_coefficient]) : undefined,
      ),
    }));
    checkLoss(id, out.loss[0], loss);
    checkGradient(id, [...gradients.chosen, ...gradients.rejected], recorded.read(`${id}/grad/rewards`));
  }
  assert.equal(cases.length, 4);
});

testOnProfiles("Bradley–Terry losses are exact for scores far apart", async (gpu) => {
  const chosen = [60, -60, 200, -200, 0], rejected = [-60, 60, -200, 200, 0];
  const { out, gradients } = await evaluate(gpu, (tape, tensor) => ({
    loss: bradleyTerryLoss(tape, {
      chosen: tensor("chosen", chosen, { trained: true }),
      rejected: tensor("rejected", rejected),
      margin: tensor("margin", ones(5, 0)),
      weights: tensor("weights", ones(5, 1)),
    }),
  }));
  checkLoss("the loss", out.loss[0], 120 + 400 + Math.LN2);
  [0, -1, 0, -1, -0.5].forEach((d, i) => assert.ok(Math.abs(gradients.chosen[i] - d) < 1e-6, `pair ${i}`));
});

testOnProfiles("SFT's losses and their gradients are TRL's", async (gpu) => {
  const { cases, recorded } = open("losses_sft");
  const logprobs = recorded.read("in/logps"), mask = recorded.readIntegers("in/mask");
  const counted = mask.reduce((a, b) => a + b);
  for (const { id, config, loss } of cases) {
    const weights = Float32Array.from(mask, (m) => m / (config.num_items_in_batch ?? counted));
    const { out, gradients } = await evaluate(gpu, (tape, tensor) => {
      const x = tensor("logprobs", logprobs, { trained: true }), w = tensor("weights", weights);
      return { loss: config.loss_type === "dft" ? dftLoss(tape, x, w) : nllLoss(tape, x, w) };
    });
    checkLoss(id, out.loss[0], loss);
    // TRL sums the log-probabilities of masked tokens, too, which are 0 there: their gradients mean nothing.
    const counting = (x: Float32Array) => x.filter((_, i) => mask[i] === 1);
    checkGradient(id, counting(gradients.logprobs), counting(recorded.read(`${id}/grad/logps`)));
    assert.ok(gradients.logprobs.every((d, i) => mask[i] === 1 || d === 0));
  }
  assert.deepEqual(cases.map((one) => one.config.loss_type), ["nll", "nll", "dft", "dft"]);
});
