import assert from "node:assert/strict";
import { magnitudeGradient, rowGains, scaleColumns } from "../../kernels/dora.ts";
import { OUTSIDE, run, unpadded, vector } from "./launches.ts";
import { random, relativeError, stored, testOnProfiles } from "./helpers.ts";

testOnProfiles("gains are magnitudes over the norms of rows, for the rows of one module", async (gpu) => {
  for (
    const [rows, cols, first, count] of [[1, 1, 0, 1], [9, 7, 4, 4], [40, 33, 8, 24], [12, 1024, 0, 12], [
      130,
      5,
      100,
      30,
    ]]
  ) {
    const { floats } = random(rows + cols), w = floats(rows * cols), m = floats(count);
    // A row of zeros has no direction: gain 0, not NaN.
    if (count > 5) w.fill(0, (first + 3) * cols, (first + 4) * cols);
    const old = floats(rows), dgain = floats(rows), dm = floats(count);
    const data = {
      w: stored(w, rows, cols, { extraRows: 2 }),
      m: vector(m),
      norm: vector(old),
      gain: vector(old),
      dgain: vector(dgain),
      dm: vector(dm),
    };
    const got = await run(gpu, data, ({ w, m, norm, gain, dgain, dm }) => [
      rowGains(gpu.profile, { w, m, norm, gain }, { first, count, cols }),
      magnitudeGradient(gpu.profile, { dgain, norm, dm }, { first, count }),
    ]);
    const norms = Array.from({ length: count }, (_, r) => {
      return Math.hypot(...w.subarray((first + r) * cols, (first + r + 1) * cols));
    });
    const inside = (values: Float32Array) => values.subarray(first, first + count);
    const over = (x: number, norm: number) => norm > 0 ? x / norm : 0;
    const close = (what: string, have: Float32Array, want: number[]) => {
      const error = relativeError(have, want);
      assert.ok(error < 1e-6, `${what} of [${rows}, ${cols}] has a relative error of ${error}`);
    };
    close("norms", inside(got.norm), norms);
    close("gains", inside(got.gain), norms.map((norm, r) => over(m[r], norm)));
    close("dm", got.dm.subarray(0, count), norms.map((norm, r) => dm[r] + over(dgain[first + r], norm)));
    for (const [name, before] of [["norm", data.norm], ["gain", data.gain]] as const) {
      const others = got[name].filter((v, i) => (i < first || i >= first + count) && v !== before[i]);
      assert.equal(others.length, 0, `${name} was written outside its rows`);
    }
    assert.deepEqual(got.dm.subarray(count), data.dm.subarray(count));
  }
});

testOnProfiles("columns are scaled, shifted and added, with their padding zero", async (gpu) => {
  for (const [rows, cols] of [[1, 1], [7, 5], [33, 115], [3, 1024]]) {
    const { floats } = random(rows * cols), z = floats(rows * cols), gain = floats(cols);
    const bias = floats(cols), old = floats(z.length);
    const matrix = (values: Float32Array) => stored(values, rows, cols, { extraRows: 1, outside: OUTSIDE });
    const data = {
      z: matrix(z),
      gain: stored(gain, 1, cols),
      bias: stored(bias, 1, cols),
      y: matrix(z).fill(OUTSIDE),
      shifted: matrix(z).fill(OUTSIDE),
      added: matrix(old),
    };
    const got = await run(gpu, data, ({ z, gain, bias, y, shifted, added }) => [
      scaleColumns(gpu.profile, { z, gain, y }, { rows, cols }),
      scaleColumns(gpu.profile, { z, gain, y: shifted, bias }, { rows, cols }),
      scaleColumns(gpu.profile, { z, gain, y: added }, { rows, cols }, true),
    ]);
    const want = z.map((v, i) => v * gain[i % cols]), name = `[${rows}, ${cols}]`;
    assert.deepEqual(unpadded(got.y, rows, cols, name), want);
    assert.ok(
      relativeError(
        unpadded(got.shifted, rows, cols, name),
        z.map((v, i) => v * gain[i % cols] + bias[i % cols]),
      ) < 1e-6,
    );
    assert.ok(
      relativeError(unpadded(got.added, rows, cols, name), old.map((v, i) => v + z[i] * gain[i % cols])) <
        1e-6,
    );
  }
});
