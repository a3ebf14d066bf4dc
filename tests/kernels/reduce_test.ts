import assert from "node:assert/strict";
import { gather, scatterAdd, sum, sumPartials } from "../../kernels/reduce.ts";
import { OUTSIDE, run } from "./launches.ts";
import { random, testOnProfiles } from "./helpers.ts";

testOnProfiles("a sum of any length equals float64 and ignores what follows", async (gpu) => {
  for (const count of [1, 3, 64, 65, 4096, 4097, 20_001, 300_003]) {
    const { floats } = random(count);
    const x = floats(count);
    const data = {
      x: new Float32Array([...x, NaN, NaN]),
      partials: new Float32Array(sumPartials(count)),
      partials2: new Float32Array(sumPartials(count)),
      out: new Float32Array([0, OUTSIDE, OUTSIDE, OUTSIDE]),
      squares: new Float32Array([0, OUTSIDE, OUTSIDE, OUTSIDE]),
    };
    const got = await run(gpu, data, ({ x, partials, partials2, out, squares }) => [
      ...sum(gpu.profile, { x, partials, out }, count),
      ...sum(gpu.profile, { x, partials: partials2, out: squares }, count, true),
    ]);
    // A sum of numbers of both signs is as exact as the numbers are large, not as the sum is.
    const size = x.reduce((a, b) => a + Math.abs(b), 0);
    const want = x.reduce((a, b) => a + b, 0), wantSquares = x.reduce((a, b) => a + b * b, 0);
    assert.ok(Math.abs(got.out[0] - want) <= 2e-6 * size, `${count}: ${got.out[0]} instead of ${want}`);
    assert.ok(Math.abs(got.squares[0] - wantSquares) <= 2e-6 * wantSquares, `${count} squares`);
    for (const out of [got.out, got.squares]) assert.deepEqual([...out.subarray(1)], [7, 7, 7]);
  }
});

testOnProfiles("gather picks rows in any order and scatter adds them back", async (gpu) => {
  for (const [rows, count, width] of [[1, 1, 1], [50, 17, 1], [9, 9, 4], [31, 12, 116]]) {
    const { floats, below } = random(rows * width);
    const x = floats(rows * width), dout = floats(count * width), old = floats(rows * width);
    const all = [...Array(rows).keys()];
    const index = Uint32Array.from({ length: count }, () => all.splice(below(all.length), 1)[0]);
    const data = {
      x,
      index,
      out: new Float32Array(count * width + 4).fill(OUTSIDE),
      dout,
      dx: new Float32Array([...old, ...new Array(4).fill(OUTSIDE)]),
    };
    const got = await run(gpu, data, ({ x, index, out, dout, dx }) => [
      gather(gpu.profile, { x, index, out }, { count, width }),
      scatterAdd(gpu.profile, { dout, index, dx }, { count, width }),
    ]);
    const source = (i: number) => index[Math.floor(i / width)] * width + i % width;
    for (let i = 0; i < count * width; i++) assert.equal(got.out[i], x[source(i)]);
    const dx = Float32Array.from(old);
    dout.forEach((d, i) => dx[source(i)] += d);
    assert.deepEqual(got.dx.subarray(0, dx.length), dx);
    for (const out of [got.out.subarray(count * width), got.dx.subarray(dx.length)]) {
      assert.ok(out.every((v) => v === OUTSIDE));
    }
  }
});
