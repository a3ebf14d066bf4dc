import assert from "node:assert/strict";
import { blend } from "../../kernels/blend.ts";
import { padded } from "../../kernels/kernel.ts";
import { OUTSIDE, run, vector } from "./launches.ts";
import { random, testOnProfiles } from "./helpers.ts";

testOnProfiles("an array moves towards another by a share of the difference", async (gpu) => {
  for (const [count, share] of [[1, 0.5], [7, 0], [300, 1], [1021, 0.008]]) {
    const { floats } = random(count), x = floats(count), y = floats(count);
    const data = { x: vector(x), y: vector(y), share: Float32Array.of(share, 0, 0, 0) };
    data.y.fill(OUTSIDE, padded(count));
    const got = await run(gpu, data, (buffers) => [blend(gpu.profile, buffers, { count })]);
    for (let i = 0; i < count; i++) {
      const want = y[i] + Math.fround(share) * (x[i] - y[i]);
      assert.ok(Math.abs(got.y[i] - want) < 2e-7, `${got.y[i]}, not ${want}`);
    }
    assert.ok(got.y.subarray(padded(count)).every((v) => v === OUTSIDE), "written behind the end");
  }
});
