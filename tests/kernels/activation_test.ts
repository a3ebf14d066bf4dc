import assert from "node:assert/strict";
import { type Activation, activation, activationBackward, isGated } from "../../kernels/activation.ts";
import { padded, rowStride } from "../../kernels/kernel.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { differences, OUTSIDE, run, unpadded } from "./launches.ts";
import { random, relativeError, stored, testOnProfiles } from "./helpers.ts";

const silu = (x: number) => x / (1 + Math.exp(-x));
const gelu = (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

/** erf, by its series, which converges everywhere and in float64 is exact enough up to 3, and by its continued fraction. */
function erf(x: number): number {
  const z = Math.abs(x);
  if (z < 3) {
    let term = z, sum = z;
    for (let n = 1; n < 80; n++) sum += (term *= -z * z / n) / (2 * n + 1);
    return Math.sign(x) * 2 / Math.sqrt(Math.PI) * sum;
  }
  let fraction = 0;
  for (let n = 60; n > 0; n--) fraction = n / 2 / (z + fraction);
  return Math.sign(x) * (1 - Math.exp(-z * z) / Math.sqrt(Math.PI) / (z + fraction));
}
const geluErf = (x: number) => 0.5 * x * (1 + erf(x / Math.SQRT2));

/** Runs the activation and its gradient on `x`: [rows, cols], or gates and ups of that size. */
async function runActivation(
  gpu: Gpu,
  kind: Activation,
  rows: number,
  cols: number,
  [gate, up]: Float32Array[],
  dy: Float32Array,
) {
  const half = padded(cols), ld = rowStride(cols), width = rowStride(isGated(kind) ? 2 * half : cols);
  const x = new Float32Array((rows + 1) * width).fill(OUTSIDE);
  for (let r = 0; r < rows; r++) {
    x.fill(0, r * width, r * width + (isGated(kind) ? 2 * half : half));
    x.set(gate.subarray(r * cols, r * cols + cols), r * width);
    if (isGated(kind)) x.set(up.subarray(r * cols, r * cols + cols), r * width + half);
  }
  const outside = { extraRows: 1, outside: OUTSIDE };
  const data = {
    x,
    dy: stored(dy, rows, cols, outside),
    y: stored(dy, rows, cols, outside),
    dx: x.map(() => OUTSIDE),
  };
  const got = await run(gpu, data, ({ x, y, dy, dx }) => [
    activation(gpu.profile, kind, { x, y }, { rows, cols }),
    activationBackward(gpu.profile, kind, { x, dy, dx }, { rows, cols }),
  ]);
  const part = (first: number) => {
    const out = new Float32Array((rows + 1) * ld).fill(OUTSIDE);
    for (let r = 0; r < rows; r++) {
      out.set(got.dx.subarray(r * width + first, r * width + first + half), r * ld);
    }
    return unpadded(out, rows, cols, `${kind} dx`);
  };
  assert.ok(got.dx.subarray(rows * width).every((v) => v === OUTSIDE), "dx was written below its last row");
  return {
    y: unpadded(got.y, rows, cols, `${kind} y`),
    dgate: part(0),
    dup: isGated(kind) ? part(half) : undefined,
  };
}

testOnProfiles("activations and their gradients equal float64", async (gpu) => {
  for (const [rows, cols] of [[1, 1], [7, 5], [33, 115], [5, 64], [3, 512], [2, 1021]]) {
    const { floats } = random(rows * cols);
    const gate = floats(rows * cols).map((v) => 4 * v), up = floats(gate.length), dy = floats(gate.length);
    const close = (what: string, have: Float32Array, want: ArrayLike<number>) => {
      const error = relativeError(have, want);
      assert.ok(error < 2e-6, `${what} [${rows}, ${cols}] has a relative error of ${error}`);
    };
    const slope = (f: (x: number) => number, x: number) => differences([x], ([v]) => f(v))[0];
    for (const [kind, of] of [["swiglu", silu], ["geglu", gelu]] as const) {
      const gated = await runActivation(gpu, kind, rows, cols, [gate, up], dy);
      close(kind, gated.y, Array.from(gate, (g, i) => of(g) * up[i]));
      close(`${kind} dgate`, gated.dgate, Array.from(gate, (g, i) => dy[i] * up[i] * slope(of, g)));
      close(`${kind} dup`, gated.dup!, Array.from(gate, (g, i) => dy[i] * of(g)));
    }
    for (const [kind, of] of [["gelu", gelu], ["gelu_erf", geluErf]] as const) {
      const plain = await runActivation(gpu, kind, rows, cols, [gate], dy);
      close(kind, plain.y, Array.from(gate, of));
      close(`${kind} dx`, plain.dgate, Array.from(gate, (g, i) => dy[i] * slope(of, g)));
    }
  }
});

testOnProfiles("large inputs stay finite and take their limits", async (gpu) => {
  const x = new Float32Array([-3e4, -1e3, -89, -30, 30, 89, 1e3, 3e4]), ones = x.map(() => 1);
  for (const kind of ["swiglu", "geglu", "gelu", "gelu_erf"] as const) {
    const { y, dgate } = await runActivation(gpu, kind, 2, 4, [x, ones], ones);
    for (let i = 0; i < x.length; i++) {
      assert.ok(Math.abs(y[i] - Math.max(0, x[i])) <= 1e-11 + 1e-6 * Math.abs(x[i]), `f(${x[i]}) = ${y[i]}`);
      assert.ok(Math.abs(dgate[i] - (x[i] > 0 ? 1 : 0)) < 1e-6, `f'(${x[i]}) = ${dgate[i]}`);
    }
  }
});

testOnProfiles("the exact GELU is erf's along the whole line, where its formulas meet too", async (gpu) => {
  // They change at |x| = √2.
  const x = Float32Array.from(
    { length: 4096 },
    (_, i) => i < 4000 ? (i - 2000) / 150 : Math.SQRT2 + (i - 4048) * 1e-6,
  );
  const { y, dgate } = await runActivation(gpu, "gelu_erf", 64, 64, [x], x.map(() => 1));
  x.forEach((v, i) => {
    const normal = 0.5 * (1 + erf(v / Math.SQRT2)), density = Math.exp(-v * v / 2) / Math.sqrt(2 * Math.PI);
    assert.ok(Math.abs(y[i] - v * normal) <= 3e-7 * Math.max(Math.abs(v), 0.1), `gelu(${v}) is ${y[i]}`);
    assert.ok(Math.abs(dgate[i] - normal - v * density) <= 6e-7, `its slope at ${v} is ${dgate[i]}`);
  });
});
