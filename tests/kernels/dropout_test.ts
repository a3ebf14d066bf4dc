import assert from "node:assert/strict";
import { dropout } from "../../kernels/dropout.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { philox } from "../../src/random/stream.ts";
import { OUTSIDE, run, unpadded } from "./launches.ts";
import { random, stored, testOnProfiles } from "./helpers.ts";

interface Draw {
  rows: number;
  cols: number;
  rate: number;
  salt?: number;
  key?: number[];
}

/** What dropout makes of `x`, and of the same as a gradient that is added to `old`. */
async function drop(gpu: Gpu, { rows, cols, rate, salt = 3, key = [5, 9] }: Draw, x: Float32Array, old = x) {
  const matrix = (values: ArrayLike<number>) =>
    stored(values, rows, cols, { extraRows: 1, outside: OUTSIDE });
  const data = { x: matrix(x), key: Uint32Array.from(key), y: matrix(x).fill(OUTSIDE), added: matrix(old) };
  const shape = { rows, cols, rate, salt };
  const got = await run(gpu, data, ({ x, key, y, added }) => [
    dropout(gpu.profile, { x, key, y }, shape),
    dropout(gpu.profile, { x, key, y: added }, shape, true),
  ]);
  return { y: unpadded(got.y, rows, cols, "y"), added: unpadded(got.added, rows, cols, "added") };
}

const ones = (n: number) => new Float32Array(n).fill(1);

testOnProfiles(
  "numbers are dropped where Philox says, the others are scaled, in the gradient too",
  async (gpu) => {
    for (const [rows, cols, rate] of [[1, 1, 0.5], [7, 5, 0.1], [33, 115, 0.75], [3, 1024, 0.05]]) {
      const { floats } = random(rows + cols), x = floats(rows * cols), old = floats(x.length);
      const salt = rows, key = [cols, 77], scale = Math.fround(1 / (1 - rate));
      const { y, added } = await drop(gpu, { rows, cols, rate, salt, key }, x, old);
      for (let r = 0; r < rows; r++) {
        for (let c = 0; c < cols; c++) {
          const word = philox([key[0], key[1]], [c >> 2, r, salt, 0x64726f70])[c & 3];
          const kept = ((word >>> 9) + 0.5) / 2 ** 23 >= Math.fround(rate), i = r * cols + c;
          const want = kept ? Math.fround(scale * x[i]) : 0;
          assert.equal(Math.abs(y[i] - want), 0, `[${rows}, ${cols}] at ${r}, ${c}: ${y[i]}, not ${want}`);
          // A fused multiply and add rounds once.
          const sum = kept ? old[i] + scale * x[i] : old[i];
          assert.ok(
            Math.abs(added[i] - sum) <= 2 ** -23 * (Math.abs(old[i]) + Math.abs(want)),
            `added at ${r}, ${c}`,
          );
        }
      }
    }
  },
);

testOnProfiles("as many are dropped as the rate says, and the mean stays", async (gpu) => {
  const rows = 300, cols = 400, count = rows * cols;
  for (const rate of [0.01, 0.3, 0.9]) {
    const { y } = await drop(gpu, { rows, cols, rate }, ones(count));
    const dropped = y.filter((v) => v === 0).length, deviation = Math.sqrt(count * rate * (1 - rate));
    assert.ok(Math.abs(dropped - rate * count) < 4 * deviation, `${dropped} of ${count} at ${rate}`);
    const mean = y.reduce((a, b) => a + b) / count;
    assert.ok(Math.abs(mean - 1) < 4 * deviation / count / (1 - rate), `the mean is ${mean}`);
    // No row and no column is dropped as its neighbour is.
    const same = (step: number) =>
      y.filter((v, i) => i >= step && (v === 0) === (y[i - step] === 0)).length / count;
    const expected = rate ** 2 + (1 - rate) ** 2;
    for (const step of [1, 2, 4, cols]) assert.ok(Math.abs(same(step) - expected) < 0.01, `step ${step}`);
  }
});

testOnProfiles("another salt, key or row drops others; a rate of 0 drops none", async (gpu) => {
  const shape = { rows: 9, cols: 40, rate: 0.5 }, x = ones(360);
  const { y } = await drop(gpu, shape, x);
  const masks = [y];
  for (const change of [{ salt: 4 }, { key: [6, 9] }, { key: [5, 10] }]) {
    masks.push((await drop(gpu, { ...shape, ...change }, x)).y);
  }
  for (const [i, a] of masks.entries()) {
    for (const b of masks.slice(i + 1)) {
      const same = a.filter((v, at) => v === b[at]).length;
      assert.ok(same > 130 && same < 230, `${same} of 360 are alike`);
    }
  }
  assert.notDeepEqual(y.subarray(0, 40), y.subarray(40, 80));
  // What a row loses does not depend on how many rows there are.
  assert.deepEqual((await drop(gpu, { ...shape, rows: 3 }, ones(120))).y, y.slice(0, 120));
  assert.deepEqual((await drop(gpu, { ...shape, rate: 0 }, x)).y, x);
});
