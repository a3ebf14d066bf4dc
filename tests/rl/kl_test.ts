/** KL estimators against TRL and against the divergence itself, and the controller against TRL's traces. */
import assert from "node:assert/strict";
import { klEstimate, updateKlCoef } from "../../src/rl/kl.ts";
import { random } from "../kernels/helpers.ts";
import { cases, klTraces, LENGTHS, rowOf } from "./ppo_functions.ts";

Deno.test("k1 and k3 are TRL's, token by token", () => {
  const seen = new Set<string>();
  for (const { id, config } of cases("rollout")) {
    const kind = config.kl_estimator as "k1" | "k3";
    seen.add(kind);
    LENGTHS.forEach((length, i) => {
      const logprobs = rowOf("in/logprobs", i),
        ref = rowOf("in/ref_logprobs", i),
        want = rowOf(`${id}/kl`, i);
      for (let t = 0; t < length; t++) {
        assert.ok(
          Math.abs(klEstimate(kind, logprobs[t], ref[t]) - want[t]) < 1e-6,
          `${id} row ${i} token ${t}`,
        );
      }
    });
  }
  assert.deepEqual([...seen], ["k1", "k3"]);
});

Deno.test("the distance is the same in both directions", () => {
  assert.equal(klEstimate("abs", -1, -3), 2);
  assert.equal(klEstimate("abs", -3, -1), 2);
});

Deno.test("k1 and k3 have the exact divergence as their mean, k2 has it to second order", () => {
  const { float } = random(4);
  const softmax = (z: number[]) => {
    const e = z.map(Math.exp), total = e.reduce((a, b) => a + b);
    return e.map((x) => x / total);
  };
  const z = Array.from({ length: 37 }, () => 2 * float()), step = z.map(() => float());
  const expectation = (kind: "k1" | "k2" | "k3", scale: number) => {
    const p = softmax(z), q = softmax(z.map((x, v) => x + scale * step[v]));
    const exact = p.reduce((sum, x, v) => sum + x * (Math.log(x) - Math.log(q[v])), 0);
    const mean = p.reduce((sum, x, v) => sum + x * klEstimate(kind, Math.log(x), Math.log(q[v])), 0);
    return { exact, mean };
  };
  for (const kind of ["k1", "k3"] as const) {
    const { exact, mean } = expectation(kind, 1);
    assert.ok(exact > 0.1 && Math.abs(mean / exact - 1) < 1e-12, `${kind}: ${mean} for ${exact}`);
  }
  const far = expectation("k2", 1), near = expectation("k2", 0.01);
  assert.ok(Math.abs(far.mean / far.exact - 1) > 1e-3, "k2 is biased");
  assert.ok(Math.abs(near.mean / near.exact - 1) < 0.02, `k2: ${near.mean} for ${near.exact}`);
});

Deno.test("k2 and k3 are never negative, and k3 is exact where the two are close", () => {
  const { float } = random(5);
  for (let i = 0; i < 1000; i++) {
    const a = -5 * Math.abs(float()), b = -5 * Math.abs(float());
    assert.ok(klEstimate("k2", a, b) >= 0 && klEstimate("k3", a, b) >= 0);
  }
  // e^-d - 1 + d = d²/2 - d³/6 + …, which a difference of exponentials would lose.
  const d = 1e-6;
  assert.ok(Math.abs(klEstimate("k3", d, 0) / (d * d / 2 - d ** 3 / 6) - 1) < 1e-4);
});

Deno.test("the adaptive coefficient follows TRL's controller", () => {
  for (const { init_kl_coef, target, horizon, trace } of klTraces) {
    let klCoef = init_kl_coef;
    for (const { current, n_steps, value } of trace) {
      klCoef = updateKlCoef({ klCoef, target, horizon }, current, n_steps);
      assert.ok(Math.abs(klCoef - value) <= 1e-12, `${klCoef}, not ${value}`);
    }
    assert.equal(trace.length, 12);
  }
});

Deno.test("a coefficient without a target stays", () => {
  assert.equal(updateKlCoef({ klCoef: 0.3, horizon: 100 }, 50, 1000), 0.3);
});
