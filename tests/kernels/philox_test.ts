import assert from "node:assert/strict";
import { defineKernel } from "../../kernels/kernel.ts";
import { PHILOX } from "../../kernels/philox.ts";
import { philox } from "../../src/random/stream.ts";
import { run, words } from "./launches.ts";
import { random, testOnProfiles } from "./helpers.ts";

const kernel = defineKernel({
  name: "philox_test",
  storage: { counters: "vec4u", keys: "vec2u", out: "vec4u", units: "f32" },
  writes: ["out", "units"],
  workgroup: 64,
  module: PHILOX,
  body: `
  let i = group.x * 64u + lane;
  if (i >= arrayLength(&out)) { return; }
  let drawn = philox(counters[i], keys[i]);
  out[i] = drawn;
  units[i] = unitFloat(drawn.x);`,
});

testOnProfiles("Philox on the GPU is Philox on the host, bit for bit", async (gpu) => {
  const { below } = random(3);
  const count = 500;
  const extremes = [0, 1, 0xffff, 0x10000, 0xffffffff];
  const word = (i: number) => i < 200 ? extremes[below(5)] : below(2 ** 32);
  const counters = Uint32Array.from({ length: 4 * count }, (_, i) => word(i / 4));
  const keys = Uint32Array.from({ length: 2 * count }, (_, i) => word(i / 2));
  const data = { counters, keys, out: new Uint32Array(4 * count), units: new Float32Array(count) };
  const got = await run(gpu, data, (buffers) => [{ kernel, buffers, uniforms: {}, grid: [8, 1, 1] }]);
  const out = words(got.out);
  for (let i = 0; i < count; i++) {
    const [a, b, c, d] = counters.subarray(4 * i, 4 * i + 4);
    const want = philox([keys[2 * i], keys[2 * i + 1]], [a, b, c, d]);
    assert.deepEqual([...out.subarray(4 * i, 4 * i + 4)], want);
    assert.equal(got.units[i], ((want[0] >>> 9) + 0.5) / 2 ** 23);
    assert.ok(got.units[i] > 0 && got.units[i] < 1);
  }
});

testOnProfiles("the smallest and largest words give numbers strictly between 0 and 1", async (gpu) => {
  const ends = defineKernel({
    name: "philox_ends_test",
    storage: { word: "u32", units: "f32" },
    writes: ["units"],
    workgroup: 1,
    module: PHILOX,
    body: `units[group.x] = unitFloat(word[group.x]);`,
  });
  const data = { word: new Uint32Array([0, 0xffffffff]), units: new Float32Array(2) };
  const got = await run(gpu, data, (buffers) => [{ kernel: ends, buffers, uniforms: {}, grid: [2, 1, 1] }]);
  assert.deepEqual([...got.units.subarray(0, 2)], [0.5 / 2 ** 23, 1 - 0.5 / 2 ** 23]);
});
