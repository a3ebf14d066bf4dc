import assert from "node:assert/strict";
import { type Activation, activation, activationBackward } from "../../kernels/activation.ts";
import { padded, rowStride } from "../../kernels/kernel.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { differences, OUTSIDE, run, unpadded } from "./launches.ts";
import { random, relativeError, stored, testOnProfiles } from "./helpers.ts";

const silu = (x: number) => x / (1 + Math.exp(-x));
const gelu = (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));

/** Runs the activation and its gradient on `x`: [rows, cols], or gates and ups of that size. */
async function runActivation(
  gpu: Gpu,
  kind: Activation,
  rows: number,
  cols: number,
  [gate, up]: Float32Array[],
  dy: Float32Array,
) {
  const half = padded(cols), ld = rowStride(cols), width = rowStride(kind === "swiglu" ? 2 * half : cols);
  const x = new Float32Array((rows + 1) * width).fill(OUTSIDE);
  for (let r = 0; r < rows; r++) {
    x.fill(0, r * width, r * width + (kind === "swiglu" ? 2 * half : half));
    x.set(gate.subarray(r * cols, r * cols + cols), r * width);
    if (kind === "swiglu") x.set(up.subarray(r * cols, r * cols + cols), r * width + half);
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
    dup: kind === "swiglu" ? part(half) : undefined,
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
    const swiglu = await runActivation(gpu, "swiglu", rows, cols, [gate, up], dy);
    close("swiglu", swiglu.y, Array.from(gate, (g, i) => silu(g) * up[i]));
    close("swiglu dgate", swiglu.dgate, Array.from(gate, (g, i) => dy[i] * up[i] * slope(silu, g)));
    close("swiglu dup", swiglu.dup!, Array.from(gate, (g, i) => dy[i] * silu(g)));
    const plain = await runActivation(gpu, "gelu", rows, cols, [gate], dy);
    close("gelu", plain.y, Array.from(gate, gelu));
    close("gelu dx", plain.dgate, Array.from(gate, (g, i) => dy[i] * slope(gelu, g)));
  }
});

testOnProfiles("large inputs stay finite and take their limits", async (gpu) => {
  const x = new Float32Array([-3e4, -1e3, -89, -30, 30, 89, 1e3, 3e4]), ones = x.map(() => 1);
  const swiglu = await runActivation(gpu, "swiglu", 2, 4, [x, ones], ones);
  const plain = await runActivation(gpu, "gelu", 2, 4, [x], ones);
  for (const { y, dgate } of [swiglu, plain]) {
    for (let i = 0; i < x.length; i++) {
      assert.ok(Math.abs(y[i] - Math.max(0, x[i])) <= 1e-11 + 1e-6 * Math.abs(x[i]), `f(${x[i]}) = ${y[i]}`);
      assert.ok(Math.abs(dgate[i] - (x[i] > 0 ? 1 : 0)) < 1e-6, `f'(${x[i]}) = ${dgate[i]}`);
    }
  }
});
