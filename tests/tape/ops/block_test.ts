/** The pieces of a transformer block against float64. */
import assert from "node:assert/strict";
import { padded } from "../../../kernels/kernel.ts";
import {
  activation,
  attention,
  embedding,
  headNorm,
  norm,
  rope,
  slidingWindow,
} from "../../../src/tape/ops/block.ts";
import { add, multiply } from "../../../src/tape/ops/elementwise.ts";
import { Tape } from "../../../src/tape/tape.ts";
import { random, testOnProfiles } from "../../kernels/helpers.ts";
import { checkOperation, type HostTensor, uniform } from "../gradients.ts";

const integers = (values: ArrayLike<number>): HostTensor => ({
  shape: [values.length],
  values,
  integers: true,
});

/** Applies `f` to each row of a row-major matrix. */
function byRow(x: Float64Array, cols: number, f: (row: Float64Array) => Float64Array): Float64Array {
  const out = new Float64Array(x.length);
  for (let at = 0; at < x.length; at += cols) out.set(f(x.subarray(at, at + cols)), at);
  return out;
}

testOnProfiles("norms have the right values and gradients", async (gpu) => {
  const eps = 1e-5;
  const variance = (row: Float64Array, mean: number) =>
    row.reduce((sum, x) => sum + (x - mean) ** 2, 0) / row.length;
  for (const [rows, cols] of [[1, 3], [9, 7], [40, 12]]) {
    const x = uniform(1, [rows, cols]), w = uniform(2, [cols]), bias = uniform(3, [cols]);
    await checkOperation(gpu, `rms norm [${rows}, ${cols}]`, {
      parameters: { x, w },
      record: (tape, { x, w }) => norm(tape, x, w, { eps }),
      reference: ({ x, w }) =>
        byRow(x, cols, (row) => row.map((v, c) => v / Math.sqrt(variance(row, 0) + eps) * w[c])),
      tolerance: 1e-5,
    });
    await checkOperation(gpu, `rms norm of one more [${rows}, ${cols}]`, {
      parameters: { x, w },
      record: (tape, { x, w }) => norm(tape, x, w, { eps, plusOne: true }),
      reference: ({ x, w }) =>
        byRow(x, cols, (row) => row.map((v, c) => v / Math.sqrt(variance(row, 0) + eps) * (1 + w[c]))),
      tolerance: 1e-5,
    });
    await checkOperation(gpu, `layer norm [${rows}, ${cols}]`, {
      parameters: { x, w, bias },
      record: (tape, { x, w, bias }) => norm(tape, x, w, { kind: "layer", eps, bias }),
      reference: ({ x, w, bias }) =>
        byRow(x, cols, (row) => {
          const mean = row.reduce((a, b) => a + b) / cols;
          return row.map((v, c) => (v - mean) / Math.sqrt(variance(row, mean) + eps) * w[c] + bias[c]);
        }),
      tolerance: 1e-5,
    });
  }
});

testOnProfiles("embeddings have the right values and gradients", async (gpu) => {
  const ids = [4, 0, 4, 2, 4, 0, 5], order = [1, 5, 3, 0, 2, 4, 6];
  await checkOperation(gpu, "embedding", {
    parameters: { table: uniform(4, [6, 5]) },
    constants: { ids: integers(ids), order: integers(order) },
    record: (tape, { table, ids, order }) => embedding(tape, table, ids, { order }),
    reference: ({ table }) => ids.flatMap((id) => [...table.subarray(5 * id, 5 * id + 5)]),
  });
  await checkOperation(gpu, "scaled embedding in parts", {
    parameters: { low: uniform(4, [4, 5]), high: uniform(5, [2, 5]) },
    constants: { ids: integers(ids), order: integers(order) },
    record: (tape, { low, high, ids, order }) => embedding(tape, [low, high], ids, { order, scale: 2.5 }),
    reference: ({ low, high }) =>
      ids.flatMap((id) => Array.from({ length: 5 }, (_, c) => 2.5 * [...low, ...high][5 * id + c])),
  });
  assert.throws(() => {
    const tape = new Tape(gpu.profile);
    const table = tape.tensor("table", [6, 4], { differentiable: true });
    const y = embedding(tape, table, tape.input("ids", [3], "u32"));
    tape.backward(y, y);
  }, /needs the tokens' order/);
});

testOnProfiles("activations have the right values and gradients", async (gpu) => {
  const gelu = (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
  await checkOperation(gpu, "gelu", {
    parameters: { x: uniform(5, [9, 7], 3) },
    record: (tape, { x }) => activation(tape, "gelu", x, 7),
    reference: ({ x }) => x.map(gelu),
  });
  // Gate and up are padded(cols) wide; the padding holds zeros.
  const rows = 6, cols = 7, ld = padded(cols);
  const { floats } = random(6);
  const values = Array.from({ length: rows * 2 * ld }, (_, i) => i % ld < cols ? 3 * floats(1)[0] : 0);
  for (const [kind, of] of [["swiglu", (x: number) => x / (1 + Math.exp(-x))], ["geglu", gelu]] as const) {
    await checkOperation(gpu, kind, {
      parameters: { x: { shape: [rows, 2 * ld], values } },
      record: (tape, { x }) => activation(tape, kind, x, cols),
      reference: ({ x }) =>
        Float64Array.from({ length: rows * cols }, (_, i) => {
          const at = Math.floor(i / cols) * 2 * ld + i % cols;
          return of(x[at]) * x[at + ld];
        }),
    });
  }
});

const HEADS = { heads: 4, kvHeads: 2, headDim: 6 };
const STRIDE = padded(HEADS.headDim);
const WIDTH = (HEADS.heads + 2 * HEADS.kvHeads) * STRIDE;

/** A fused projection of `tokens` tokens, zero in the heads' padding. */
function fused(tokens: number): HostTensor {
  const { floats } = random(tokens);
  const values = Array.from(
    { length: tokens * WIDTH },
    (_, i) => i % STRIDE < HEADS.headDim ? floats(1)[0] : 0,
  );
  return { shape: [tokens, WIDTH], values };
}

for (const rotaryDims of [6, 4]) {
  testOnProfiles(
    `rope turns ${rotaryDims} columns of queries and keys, and its gradient turns back`,
    async (gpu) => {
      const positions = [0, 1, 2, 0, 7], half = rotaryDims / 2, most = 9;
      const angle = (position: number, d: number) => position * 50 ** (-d / half);
      const table = (f: (x: number) => number): HostTensor => ({
        shape: [most * half],
        values: Array.from({ length: most * half }, (_, i) => f(angle(Math.floor(i / half), i % half))),
      });
      const zero: HostTensor = { shape: [5, WIDTH], values: new Float32Array(5 * WIDTH) };
      await checkOperation(gpu, "rope", {
        parameters: { x: fused(5) },
        constants: { zero, positions: integers(positions), cos: table(Math.cos), sin: table(Math.sin) },
        // It works in place, so it gets a copy of the parameter.
        record: (tape, { x, zero, positions, cos, sin }) =>
          rope(tape, add(tape, x, zero), positions, { cos, sin }, { ...HEADS, rotaryDims }),
        reference: ({ x }) => {
          const y = x.slice();
          positions.forEach((position, t) => {
            for (let head = 0; head < HEADS.heads + HEADS.kvHeads; head++) {
              for (let d = 0; d < half; d++) {
                const low = t * WIDTH + head * STRIDE + d, a = angle(position, d);
                y[low] = x[low] * Math.cos(a) - x[low + half] * Math.sin(a);
                y[low + half] = x[low + half] * Math.cos(a) + x[low] * Math.sin(a);
              }
            }
          });
          return y;
        },
      });
    },
  );
}

testOnProfiles("head norms have the right values and gradients", async (gpu) => {
  const { heads, kvHeads, headDim } = HEADS, eps = 1e-6;
  await checkOperation(gpu, "head norm", {
    parameters: { qkv: fused(9), wq: uniform(8, [headDim]), wk: uniform(9, [headDim]) },
    constants: {
      columns: {
        shape: [9, WIDTH],
        values: Array.from({ length: 9 * WIDTH }, (_, i) => i % STRIDE < headDim ? 1 : 0),
      },
    },
    // The gradient that reaches a head's padding is zero, as after attention.
    record: (tape, { qkv, wq, wk, columns }) =>
      multiply(tape, headNorm(tape, qkv, wq, wk, { ...HEADS, eps }), columns),
    reference: ({ qkv, wq, wk }) => {
      const y = qkv.map((v, i) => i % STRIDE < headDim ? v : 0);
      for (let t = 0; t < 9; t++) {
        for (let h = 0; h < heads + kvHeads; h++) {
          const at = t * WIDTH + h * STRIDE, row = qkv.subarray(at, at + headDim);
          const r = 1 / Math.sqrt(row.reduce((sum, v) => sum + v * v, 0) / headDim + eps);
          row.forEach((v, d) => y[at + d] = v * r * (h < heads ? wq : wk)[d]);
        }
      }
      return y;
    },
    tolerance: 1e-5,
  });
});

/** Causal attention inside documents in float64. */
function attentionReference(
  qkv: Float64Array,
  starts: number[],
  { window = Infinity, softCap = Infinity } = {},
): Float64Array {
  const { heads, kvHeads, headDim } = HEADS, tokens = starts.length;
  const out = new Float64Array(tokens * heads * STRIDE);
  const at = (token: number, slot: number, d: number) => qkv[token * WIDTH + slot * STRIDE + d];
  for (let i = 0; i < tokens; i++) {
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor(h * kvHeads / heads);
      const weights = Array.from({ length: i - starts[i] + 1 }, (_, n) => {
        let score = 0;
        for (let d = 0; d < headDim; d++) score += at(i, h, d) * at(starts[i] + n, heads + kv, d);
        if (i - starts[i] - n >= window) return 0;
        const scaled = score / Math.sqrt(headDim);
        return Math.exp(softCap === Infinity ? scaled : softCap * Math.tanh(scaled / softCap));
      });
      const total = weights.reduce((a, b) => a + b);
      weights.forEach((weight, n) => {
        for (let d = 0; d < headDim; d++) {
          out[(i * heads + h) * STRIDE + d] += weight / total * at(starts[i] + n, heads + kvHeads + kv, d);
        }
      });
    }
  }
  return out;
}

testOnProfiles("attention sees its own document up to itself, forward and back", async (gpu) => {
  const starts = [0, 0, 0, 3, 4, 5, 6, 7, 8, 8, 8], ends = [3, 3, 3, 4, 5, 6, 7, 8, 11, 11, 11];
  const width = HEADS.heads * STRIDE;
  const heads: HostTensor = {
    shape: [starts.length, width],
    values: Array.from({ length: starts.length * width }, (_, i) => i % STRIDE < HEADS.headDim ? 1 : 0),
  };
  const forms = [{}, { window: 2 }, { softCap: 0.4 }, { window: 1, softCap: 2 }, { window: 3, softCap: 50 }];
  for (const form of forms as { window?: number; softCap?: number }[]) {
    await checkOperation(gpu, `attention ${JSON.stringify(form)}`, {
      parameters: { qkv: fused(starts.length) },
      constants: { starts: integers(starts), ends: integers(ends), heads },
      // The gradient that reaches a head's padding is zero, as after a projection.
      record: (tape, { qkv, starts, ends, heads }) => {
        const view = form.window ? slidingWindow(tape, { starts, ends }, form.window) : { starts, ends };
        const scores = { scale: 1 / Math.sqrt(HEADS.headDim), softCap: form.softCap };
        return multiply(tape, attention(tape, qkv, view, HEADS, scores), heads);
      },
      reference: ({ qkv }) => attentionReference(qkv, starts, form),
      tolerance: 1e-5,
    });
  }
});
