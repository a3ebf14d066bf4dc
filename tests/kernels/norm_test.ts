import assert from "node:assert/strict";
import { norm, normBackward, type NormKind } from "../../kernels/norm.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { differences, OUTSIDE, run, unpadded, vector } from "./launches.ts";
import { random, relativeError, stored, testOnProfiles } from "./helpers.ts";

const EPS = 1e-5;

/** A row's mean and 1/√(variance + eps); the mean is 0 for RMSNorm. */
function statistics(kind: NormKind, x: Float64Array): { mean: number; r: number } {
  const mean = kind === "rms" ? 0 : x.reduce((a, b) => a + b) / x.length;
  const variance = x.reduce((sum, v) => sum + (v - mean) ** 2, 0) / x.length;
  return { mean, r: 1 / Math.sqrt(variance + EPS) };
}

function reference(
  kind: NormKind,
  x: Float64Array,
  w: ArrayLike<number>,
  b: ArrayLike<number>,
): Float64Array {
  const { mean, r } = statistics(kind, x);
  return x.map((v, c) => (v - mean) * r * w[c] + (kind === "layer" ? b[c] : 0));
}

async function check(
  gpu: Gpu,
  kind: NormKind,
  rows: number,
  cols: number,
  { mean = 0, tolerance = 2e-6, plusOne = false } = {},
) {
  const { floats } = random(rows * 1000 + cols);
  const x = floats(rows * cols).map((v) => v + mean),
    w = floats(cols),
    b = floats(cols),
    dy = floats(x.length);
  const old = floats(x.length);
  const shape = { kind, rows, cols, eps: EPS, plusOne };
  const gains = Float64Array.from(w, (v) => plusOne ? 1 + v : v);
  const count = kind === "rms" ? rows : 2 * rows;
  const matrix = (values: ArrayLike<number>) =>
    stored(values, rows, cols, { extraRows: 2, outside: OUTSIDE });
  const data = {
    x: matrix(x),
    w: stored(w, 1, cols),
    b: stored(b, 1, cols),
    dy: matrix(dy),
    y: matrix(old).fill(OUTSIDE),
    stats: vector(new Float32Array(count)),
    dx: matrix(old).fill(OUTSIDE),
    added: matrix(old),
  };
  const got = await run(gpu, data, ({ x, w, b, dy, y, stats, dx, added }) => [
    norm(gpu.profile, { x, w, ...(kind === "layer" ? { b } : {}), y, stats }, shape),
    normBackward(gpu.profile, { x, w, stats, dy, dx }, shape, false),
    normBackward(gpu.profile, { x, w, stats, dy, dx: added }, shape, true),
  ]);

  const name = `${kind} [${rows}, ${cols}]`;
  const row = (values: Float32Array, r: number) =>
    Float64Array.from(values.subarray(r * cols, r * cols + cols));
  const y: number[] = [], dx: number[] = [], stats: number[] = new Array(count);
  for (let r = 0; r < rows; r++) {
    const values = row(x, r), g = row(dy, r);
    const { mean, r: inverse } = statistics(kind, values);
    stats[r] = inverse;
    if (kind === "layer") stats[rows + r] = mean;
    y.push(...reference(kind, values, gains, b));
    dx.push(
      ...differences(
        values,
        (v) => reference(kind, v, gains, b).reduce((sum, out, c) => sum + out * g[c], 0),
      ),
    );
  }
  const close = (what: string, have: Float32Array, want: number[]) => {
    const error = relativeError(have, want);
    assert.ok(error < tolerance, `${name}: ${what} has a relative error of ${error}`);
  };
  close("y", unpadded(got.y, rows, cols, `${name} y`), y);
  close("stats", got.stats, stats);
  close("dx", unpadded(got.dx, rows, cols, `${name} dx`), dx);
  close("dx added", unpadded(got.added, rows, cols, `${name} added`), dx.map((v, i) => v + old[i]));
}

for (const kind of ["rms", "layer"] as const) {
  testOnProfiles(`${kind} norm and its gradient equal float64 for odd shapes`, async (gpu) => {
    for (const [rows, cols] of [[1, 6], [7, 5], [33, 115], [70, 64], [3, 331], [129, 7], [2, 1024]]) {
      await check(gpu, kind, rows, cols);
    }
  });

  testOnProfiles(`${kind} norm is exact for rows far from zero, whatever their padding`, async (gpu) => {
    // A mean of 30 over a spread of 1 costs f32 about five bits; the padding must cost nothing on top.
    for (const cols of [5, 6, 7, 8]) await check(gpu, kind, 9, cols, { mean: 30, tolerance: 2e-5 });
  });
}

testOnProfiles("Gemma's norm multiplies with one more than its weight, in the gradient too", async (gpu) => {
  for (const [rows, cols] of [[1, 6], [7, 5], [33, 115], [2, 1024]]) {
    await check(gpu, "rms", rows, cols, { plusOne: true });
  }
});

testOnProfiles("layer norm of one column is its bias, with no gradient", async (gpu) => {
  const x = new Float32Array([3, -40, 1000]);
  const shape = { kind: "layer", rows: 3, cols: 1, eps: EPS } as const;
  const got = await run(gpu, {
    x: stored(x, 3, 1),
    w: stored([2], 1, 1),
    b: stored([0.5], 1, 1),
    dy: stored([1, 2, 3], 3, 1),
    y: new Float32Array(12),
    stats: new Float32Array(8),
    dx: new Float32Array(12).fill(OUTSIDE),
  }, ({ x, w, b, y, stats, dy, dx }) => [
    norm(gpu.profile, { x, w, b, y, stats }, shape),
    normBackward(gpu.profile, { x, w, stats, dy, dx }, shape, false),
  ]);
  assert.deepEqual([...unpadded(got.y, 3, 1)], [0.5, 0.5, 0.5]);
  assert.ok(relativeError(got.stats.subarray(0, 3), [1, 1, 1].map(() => 1 / Math.sqrt(EPS))) < 1e-6);
  assert.ok(unpadded(got.dx, 3, 1).every((d) => d === 0));
});
