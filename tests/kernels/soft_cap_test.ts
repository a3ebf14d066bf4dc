import assert from "node:assert/strict";
import { padded } from "../../kernels/kernel.ts";
import { softCap, softCapBackward } from "../../kernels/soft_cap.ts";
import { differences, OUTSIDE, run, vector } from "./launches.ts";
import { random, relativeError, testOnProfiles } from "./helpers.ts";

testOnProfiles("a soft cap and its gradient equal float64", async (gpu) => {
  for (const [count, cap, size] of [[1, 30, 40], [7, 8, 8], [300, 50, 0.5], [1021, 3, 20], [4096, 30, 400]]) {
    const { floats } = random(count);
    const x = floats(count).map((v) => size * v), d = floats(count);
    const data = { x: vector(x), y: vector(x).fill(OUTSIDE), d: vector(d) };
    const got = await run(gpu, data, ({ x, y, d }) => [
      softCap(gpu.profile, { x, y }, { count, cap }),
      softCapBackward(gpu.profile, { x, d }, { count, cap }),
    ]);
    const of = (v: number) => cap * Math.tanh(v / cap);
    for (let i = 0; i < count; i++) {
      // Each number is right to a few units in its last place, small ones too: their share of the cap is no excuse.
      const want = of(x[i]), error = Math.abs(got.y[i] - want) / Math.abs(want);
      assert.ok(error < 4e-7, `${cap}·tanh(${x[i]} / ${cap}) is ${got.y[i]}, not ${want}`);
    }
    const slopes = Array.from(x, (v, i) => d[i] * differences([v], ([v]) => of(v), 1e-4 * cap)[0]);
    // Where the cap is reached, 1 − tanh² is a small difference: its error is that of tanh.
    const error = relativeError(got.d.subarray(0, count), slopes);
    assert.ok(error < 2e-6, `the gradient has a relative error of ${error}`);
    for (const values of [got.y, got.d]) {
      assert.ok(values.subarray(padded(count)).every((v) => v === OUTSIDE), "written behind the end");
    }
    assert.ok(got.y.subarray(count, padded(count)).every((v) => v === 0), "the padding is not zero");
  }
});

testOnProfiles("a soft cap is even where its two formulas meet, and at its limits", async (gpu) => {
  // The formulas change at 0.6 of the cap.
  const near = Array.from({ length: 64 }, (_, i) => 0.6 + (i - 32) * 2 ** -20);
  const x = Float32Array.from([
    ...near,
    ...near.map((v) => -v),
    0,
    -0,
    1e4,
    -1e4,
    3e38,
    -3e38,
    1e-30,
    -1e-38,
  ]);
  const got = await run(gpu, { x, y: x.slice() }, ({ x, y }) => [
    softCap(gpu.profile, { x, y }, { count: x.size / 4, cap: 1 }),
  ]);
  got.y.forEach((y, i) => {
    const want = Math.tanh(x[i]);
    assert.ok(Math.abs(y - want) <= 2e-7 * Math.abs(want), `tanh(${x[i]}) is ${y}, not ${want}`);
    assert.ok(Math.abs(y) <= 1);
  });
  for (let i = 0; i < 64; i++) assert.equal(got.y[64 + i], -got.y[i]);
});
