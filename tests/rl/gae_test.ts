/** Advantages against TRL's returns, and against the sum that the recursion stands for. */
import assert from "node:assert/strict";
import { gae } from "../../src/rl/gae.ts";
import { random } from "../kernels/helpers.ts";
import { cases, LENGTHS, rowOf, TIME } from "./ppo_functions.ts";

Deno.test("returns are TRL's for its rewards and values", () => {
  for (const { id, config } of cases("rollout")) {
    LENGTHS.forEach((length, i) => {
      const slots = Math.min(length + 1, TIME);
      const rewards = rowOf(`${id}/rewards`, i).subarray(0, slots);
      const values = rowOf("in/values", i).subarray(0, slots), want = rowOf(`${id}/returns`, i);
      const { returns } = gae(rewards, values, config.gamma as number, config.lam as number);
      returns.forEach((x, t) => assert.ok(Math.abs(x - want[t]) < 1e-5, `${id} row ${i} token ${t}`));
    });
  }
});

Deno.test("an advantage is the discounted sum of temporal differences", () => {
  const { float, below } = random(7);
  for (const [gamma, lam] of [[1, 1], [1, 0.95], [0.9, 0.7], [0.97, 0], [0, 0.5]]) {
    const length = 1 + below(40);
    const rewards = Array.from({ length }, float), values = Array.from({ length }, float);
    const { advantages, returns } = gae(rewards, values, gamma, lam);
    for (let t = 0; t < length; t++) {
      let want = 0;
      for (let l = 0; t + l < length; l++) {
        const delta = rewards[t + l] + gamma * (values[t + l + 1] ?? 0) - values[t + l];
        want += (gamma * lam) ** l * delta;
      }
      assert.ok(Math.abs(advantages[t] - want) < 1e-12);
      assert.ok(Math.abs(returns[t] - want - values[t]) < 1e-12);
    }
  }
});

Deno.test("nothing comes of nothing, and arrays of different lengths are refused", () => {
  assert.equal(gae([], [], 1, 1).advantages.length, 0);
  assert.throws(() => gae([1, 2], [1], 1, 1), /as many values as rewards; got 1 and 2/);
});
