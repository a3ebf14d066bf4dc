/** What is counted while PPO learns, against TRL's statistics of the same mini-batches. */
import assert from "node:assert/strict";
import { microStats } from "../../src/train/ppo_stats.ts";
import type { Advantages } from "../../src/train/rollout.ts";
import { cases, CONTEXT, LENGTHS, recordedRollouts, rowOf, tensors, TIME } from "../rl/ppo_functions.ts";

const VOCAB = 23;

/** ln softmax of a recorded row of logits at a temperature. */
function logSoftmax(at: number, temperature: number): Float64Array {
  const z = Float64Array.from(
    tensors.read("in/logits").subarray(at * VOCAB, (at + 1) * VOCAB),
    (x) => x / temperature,
  );
  const top = z.reduce((a, b) => Math.max(a, b));
  const lse = top + Math.log(z.reduce((sum, x) => sum + Math.exp(x - top), 0));
  return z.map((x) => x - lse);
}

for (const { id, config, micro_batch_inds: which, metrics } of cases("loss")) {
  Deno.test(`clip fractions of ${id} are TRL's, and the other means leave padding out`, () => {
    const c = config as Record<string, number>;
    const rollouts = recordedRollouts({ logprobs: "in/loss_old_logprobs", values: "in/loss_values" });
    const ids = tensors.readIntegers("in/responses"), predicted = tensors.read("in/vpred_full");
    const advantages = LENGTHS.map((length, i): Advantages => ({
      advantages: Float64Array.from(rowOf("in/loss_advantages", i).subarray(0, length)),
      returns: Float64Array.from(rowOf("in/loss_returns", i).subarray(0, length + 1)),
      rewards: new Float64Array(length),
      kl: new Float64Array(length),
      score: 0,
    }));
    const logprob = new Float32Array(which.length * TIME),
      values = logprob.slice(),
      entropy = logprob.slice();
    const want = { kl: 0, ratio: 0, entropy: 0 };
    let tokens = 0, slots = 0;
    which.forEach((i, row) => {
      tokens += LENGTHS[i];
      slots += advantages[i].returns.length;
      for (let t = 0; t < TIME; t++) {
        const at = i * (CONTEXT + TIME) + CONTEXT - 1 + t, logp = logSoftmax(at, c.temperature + 1e-7);
        logprob[row * TIME + t] = logp[ids[i * TIME + t]];
        entropy[row * TIME + t] = -logp.reduce((sum, l) => sum + Math.exp(l) * l, 0);
        values[row * TIME + t] = predicted[at];
        if (t >= LENGTHS[i]) continue;
        const difference = logp[ids[i * TIME + t]] - rowOf("in/loss_old_logprobs", i)[t];
        want.kl += difference ** 2 / 2;
        want.ratio += Math.exp(difference);
        want.entropy += entropy[row * TIME + t];
      }
    });
    const firsts = which.map((_, row) => row * TIME), one = Float32Array.of(0.25);
    const got = microStats(
      which,
      firsts,
      rollouts,
      advantages,
      { logprob, values, entropy, pg: one, vf: one },
      { cliprange: c.cliprange, cliprangeValue: c.cliprange_value },
    );
    assert.equal(Math.fround(got.clipped / tokens), metrics.pg_clipfrac);
    assert.equal(Math.fround(got.valueClipped / slots), metrics.vf_clipfrac);
    for (const name of ["kl", "ratio", "entropy"] as const) {
      assert.ok(Math.abs(got[name] - want[name]) < 1e-5 * Math.abs(want[name]), `${name} is ${got[name]}`);
    }
    assert.deepEqual([got.pg, got.vf], [0.25, 0.25]);
  });
}
