import assert from "node:assert/strict";
import { padded, rowStride } from "../../kernels/kernel.ts";
import { matmul, type MatmulShape, type Trans } from "../../kernels/matmul.ts";
import { readFloats, upload } from "../../src/gpu/buffers.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { runOnce } from "../../src/gpu/run.ts";
import { random, relativeError, stored, testOnProfiles } from "./helpers.ts";

const OUTSIDE = 7;

interface Case extends MatmulShape {
  bias?: boolean;
  residual?: boolean;
  seed?: number;
}

/** Runs one product with everything around the operands poisoned and checks it against float64. */
async function check(gpu: Gpu, c: Case): Promise<void> {
  const { trans, m, n, k, batch, accumulate = false, scale = 1 } = c;
  const name = JSON.stringify(c);
  const count = batch?.count ?? 1;
  const { floats } = random(c.seed ?? m * 31 + n * 7 + k);
  const [rowsA, colsA] = trans === "tn" ? [k, m] : [m, k];
  const [rowsB, colsB] = trans === "nt" ? [n, k] : [k, n];
  const { lda = rowStride(colsA), ldb = rowStride(colsB), ldc = rowStride(n) } = c;
  const begin = { a: 0, b: 0, c: 0, bias: 0, ...c.offsets };
  /** Memory that begins before the operand. */
  const behind = (memory: Float32Array, floats: number, outside: number) => {
    const all = new Float32Array(floats + memory.length).fill(outside, 0, floats);
    all.set(memory, floats);
    return all;
  };
  const rowsPer = (stride: number | undefined, ld: number) => stride === undefined ? 0 : stride / ld;

  const a = Array.from({ length: count }, () => floats(rowsA * colsA));
  const b = Array.from({ length: count }, () => floats(rowsB * colsB));
  const old = Array.from({ length: count }, () => floats(m * n));
  const added = Array.from({ length: count }, () => floats(m * n));
  const bias = floats(n);
  const together = (
    parts: Float32Array[],
    rows: number,
    cols: number,
    ld: number,
    stride: number | undefined,
    outside: number,
  ) => {
    const extraRows = count === 1 ? 70 : rowsPer(stride, ld) - rows;
    const all = parts.map((part) => stored(part, rows, cols, { ld, extraRows, outside }));
    const joined = new Float32Array(all.length * all[0].length);
    all.forEach((part, i) => joined.set(part, i * part.length));
    return joined;
  };
  const buffers = {
    a: upload(gpu, behind(together(a, rowsA, colsA, lda, batch?.strideA, NaN), begin.a, NaN)),
    b: upload(gpu, behind(together(b, rowsB, colsB, ldb, batch?.strideB, NaN), begin.b, NaN)),
    c: upload(gpu, behind(together(old, m, n, ldc, batch?.strideC, OUTSIDE), begin.c, OUTSIDE)),
    ...(c.bias ? { bias: upload(gpu, behind(stored(bias, 1, n), begin.bias, NaN)) } : {}),
    ...(c.residual
      ? { residual: upload(gpu, behind(together(added, m, n, ldc, batch?.strideC, NaN), begin.c, NaN)) }
      : {}),
  };
  runOnce(gpu, [matmul(gpu.profile, buffers, c)]);
  const memory = await readFloats(gpu, buffers.c), got = memory.subarray(begin.c);
  assert.ok(memory.subarray(0, begin.c).every((x) => x === OUTSIDE), `${name} wrote before C`);

  const want: number[] = [], have: number[] = [];
  const strideC = batch?.strideC ?? 0;
  for (let z = 0; z < count; z++) {
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let x = 0; x < k; x++) {
          sum += (trans === "tn" ? a[z][x * m + i] : a[z][i * k + x]) *
            (trans === "nt" ? b[z][j * k + x] : b[z][x * n + j]);
        }
        sum *= scale;
        if (c.bias) sum += bias[j];
        if (c.residual) sum += added[z][i * n + j];
        if (accumulate) sum += old[z][i * n + j];
        want.push(sum);
        have.push(got[z * strideC + i * ldc + j]);
      }
      for (let j = n; j < ldc; j++) {
        assert.equal(got[z * strideC + i * ldc + j], j < padded(n) ? 0 : OUTSIDE, `${name} at ${i}, ${j}`);
      }
    }
    const end = z * strideC + m * ldc, next = (z + 1 < count) ? (z + 1) * strideC : got.length;
    assert.ok(got.subarray(end, next).every((x) => x === OUTSIDE), `${name} wrote below C`);
  }
  const error = relativeError(have, want);
  assert.ok(error < 2e-6, `${name} has a relative error of ${error}`);
  for (const { buffer } of Object.values(buffers)) buffer.destroy();
}

const transpositions: Trans[] = ["nn", "nt", "tn"];

testOnProfiles("a product equals float64 for odd shapes in every transposition", async (gpu) => {
  const shapes = [[1, 1, 1], [3, 5, 2], [1, 115, 331], [8, 64, 16], [24, 96, 37], [33, 33, 115], [70, 3, 4], [
    115,
    36,
    9,
  ]];
  for (const trans of transpositions) {
    for (const [m, n, k] of shapes) await check(gpu, { trans, m, n, k });
  }
});

testOnProfiles("a large product uses the large tile and equals float64", async (gpu) => {
  for (const trans of transpositions) await check(gpu, { trans, m: 701, n: 725, k: 19 });
});

testOnProfiles(
  "the stores add bias, residual and the old C, scaled and with padding kept zero",
  async (gpu) => {
    for (const trans of transpositions) {
      const size = { trans, m: 21, n: 39, k: 18, scale: -0.37 };
      await check(gpu, { ...size, bias: true });
      await check(gpu, { ...size, residual: true });
      await check(gpu, { ...size, accumulate: true });
      await check(gpu, { ...size, bias: true, residual: true, accumulate: true });
    }
  },
);

testOnProfiles(
  "matrices of 1024 columns lie further apart, and nothing between their rows is touched",
  async (gpu) => {
    for (const trans of transpositions) {
      await check(gpu, { trans, m: 1024, n: 36, k: 11, residual: true });
      await check(gpu, { trans, m: 5, n: 1024, k: 2048 });
    }
  },
);

testOnProfiles("leading dimensions may be larger than the matrix", async (gpu) => {
  for (const trans of transpositions) {
    await check(gpu, { trans, m: 13, n: 22, k: 27, lda: 44, ldb: 36, ldc: 32 });
  }
});

testOnProfiles("a batch of products reads and writes at its strides", async (gpu) => {
  for (const trans of transpositions) {
    const m = 9, n = 14, k = 11;
    const lda = padded(trans === "tn" ? m : k), ldb = padded(trans === "nt" ? k : n);
    const batch = { count: 5, strideA: 17 * lda, strideB: 19 * ldb, strideC: 12 * padded(n) };
    await check(gpu, { trans, m, n, k, batch });
    await check(gpu, { trans, m, n, k, batch, accumulate: true });
  }
});

testOnProfiles("operands may begin inside what is bound, as parts of wider matrices", async (gpu) => {
  for (const trans of transpositions) {
    const offsets = { a: 8, b: 20, c: 12, bias: 4 };
    await check(gpu, { trans, m: 13, n: 22, k: 27, lda: 44, ldb: 36, ldc: 64, offsets, bias: true });
    await check(gpu, {
      trans,
      m: 40,
      n: 5,
      k: 9,
      ldc: 36,
      offsets,
      residual: true,
      accumulate: true,
      scale: 2,
    });
  }
});

testOnProfiles("a row has the same bits alone and in a batch of any size", async (gpu) => {
  const n = 67, k = 91;
  const { floats } = random(5);
  const rows = floats(50 * k);
  const b = upload(gpu, stored(floats(n * k), n, k));
  const run = async (from: number, to: number) => {
    const m = to - from;
    const a = upload(gpu, stored(rows.subarray(from * k, to * k), m, k));
    const c = upload(gpu, new Float32Array(m * padded(n)));
    runOnce(gpu, [matmul(gpu.profile, { a, b, c }, { trans: "nt", m, n, k })]);
    return await readFloats(gpu, c);
  };
  const all = await run(0, 50);
  for (const [from, to] of [[0, 1], [3, 12], [7, 30], [41, 50]]) {
    assert.deepEqual(await run(from, to), all.slice(from * padded(n), to * padded(n)));
  }
});

Deno.test("a leading dimension or offset that is no multiple of four is refused", () => {
  const profile = { kind: "cpu", lanes: 8 } as const;
  const shape = { trans: "nn", m: 2, n: 2, k: 2, lda: 5 } as const;
  assert.throws(() => matmul(profile, { a: 0, b: 0, c: 0 }, shape), /multiple of 4/);
  const offset = { ...shape, lda: 4, offsets: { c: 2 } };
  assert.throws(() => matmul(profile, { a: 0, b: 0, c: 0 }, offset), /offset of 2 floats/);
});
