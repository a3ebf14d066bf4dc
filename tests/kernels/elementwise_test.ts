import assert from "node:assert/strict";
import { elementwise, fill } from "../../kernels/elementwise.ts";
import { padded } from "../../kernels/kernel.ts";
import { OUTSIDE, run, vector } from "./launches.ts";
import { random, relativeError, testOnProfiles } from "./helpers.ts";

const COUNTS = [1, 3, 4, 63, 257, 1000];

testOnProfiles("a map computes its expression and touches nothing past its last vec4", async (gpu) => {
  for (const count of COUNTS) {
    const { floats } = random(count);
    const a = floats(count), b = floats(count), s = floats(1), old = floats(count);
    const data = { a: vector(a), b: vector(b), s, out: vector(old), added: vector(old) };
    const expression = "a * s + exp(b)";
    const got = await run(gpu, data, ({ a, b, s, out, added }) => [
      elementwise(gpu.profile, { name: "test", expression, scalars: ["s"] }, { a, b, s }, out, count),
      elementwise(
        gpu.profile,
        { name: "test", expression, scalars: ["s"], accumulate: true },
        { a, b, s },
        added,
        count,
      ),
    ]);
    const want = Array.from(a, (v, i) => v * s[0] + Math.exp(b[i]));
    assert.ok(relativeError(got.out.subarray(0, count), want) < 2e-6, `${count} elements`);
    assert.ok(
      relativeError(got.added.subarray(0, count), want.map((v, i) => v + old[i])) < 2e-6,
      `${count} elements added`,
    );
    for (const out of [got.out, got.added]) {
      assert.ok(out.subarray(padded(count)).every((v) => v === OUTSIDE), `${count} elements: wrote too far`);
    }
  }
});

testOnProfiles("fill sets every element to one number", async (gpu) => {
  for (const count of COUNTS) {
    const data = { out: vector(new Float32Array(count).fill(NaN)) };
    const { out } = await run(gpu, data, ({ out }) => [fill(gpu.profile, out, count, -0.3)]);
    assert.ok(out.subarray(0, count).every((v) => v === Math.fround(-0.3)));
    assert.ok(out.subarray(padded(count)).every((v) => v === OUTSIDE));
  }
});

testOnProfiles(
  "a map over more workgroups than one grid dimension holds reaches the last element",
  async (gpu) => {
    const count = 65535 * 64 * 4 + 12;
    const out = new Float32Array(count + 4).fill(OUTSIDE);
    const got = await run(gpu, { out }, ({ out }) => [fill(gpu.profile, out, count, 1)]);
    assert.ok(got.out.subarray(0, count).every((v) => v === 1));
    assert.equal(got.out[count], OUTSIDE);
  },
);
