/** A layer in one launch against the launches it stands for, to the bit; those have tests against float64. */
import assert from "node:assert/strict";
import { activation } from "../../kernels/activation.ts";
import { attentionDecode } from "../../kernels/attention_decode.ts";
import { decodeLayer, LAYER_WEIGHTS, layerWork } from "../../kernels/decode_layer.ts";
import { embedding } from "../../kernels/embedding.ts";
import { padded, rowStride } from "../../kernels/kernel.ts";
import { matmul } from "../../kernels/matmul.ts";
import { norm, type NormKind } from "../../kernels/norm.ts";
import { readFloats, slice, upload } from "../../src/gpu/buffers.ts";
import type { Gpu, GpuWindow } from "../../src/gpu/device.ts";
import { runOnce } from "../../src/gpu/run.ts";
import { random, testOnProfiles } from "./helpers.ts";

interface Case {
  rows: number;
  width: number;
  inner: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  norm: NormKind;
  activation: "swiglu" | "gelu";
  rotary: boolean;
  biased: boolean;
  /** First and last layer at once; otherwise one between them. */
  ends: boolean;
}

const EPS = 1e-3, CAPACITY = 21, VOCAB = 91, OUTSIDE = 7;

/** Runs the layer both ways on the same numbers and compares x, the keys and the values. */
async function check(gpu: Gpu, c: Case): Promise<void> {
  const { rows, width, inner, heads, kvHeads, headDim, rotary, biased } = c;
  const { floats, below } = random(rows * 7 + width + headDim);
  const ds = padded(headDim), qkvColumns = (heads + 2 * kvHeads) * ds, outColumns = heads * ds;
  const upRows = c.activation === "swiglu" ? 2 * padded(inner) : inner;

  // The arena: matrices with zero padding columns, where a row or column stands for no head's or block's element zeros too.
  const arena: number[] = [];
  const spare = (column: number, count: number) => column % ds >= headDim && column < count;
  const place = (values: number[]): number => {
    const at = arena.length;
    arena.push(...values);
    while (arena.length % 64) arena.push(NaN);
    return at;
  };
  const matrix = (out: number, columns: number, keep: (row: number, column: number) => boolean) => {
    const ld = rowStride(columns), numbers = floats(out * ld);
    return place(Array.from(numbers, (x, i) => {
      const row = Math.floor(i / ld), column = i % ld;
      return column < columns && keep(row, column) ? x / Math.sqrt(columns) : 0;
    }));
  };
  const vector = (count: number, keep: (i: number) => boolean, around = 0) =>
    place(Array.from(floats(padded(count)), (x, i) => i < count && keep(i) ? around + 0.3 * x : 0));
  const gated = (row: number) => c.activation !== "swiglu" || row % padded(inner) < inner;
  const weights = {
    attnNorm: vector(width, () => true, 1),
    qkv: matrix(qkvColumns, width, (row) => !spare(row, qkvColumns)),
    out: matrix(width, outColumns, (_, column) => !spare(column, outColumns)),
    mlpNorm: vector(width, () => true, 1),
    up: matrix(upRows, width, gated),
    down: matrix(width, inner, () => true),
  };
  const biases = {
    attnNorm: vector(width, () => true),
    qkv: vector(qkvColumns, (i) => !spare(i, qkvColumns)),
    out: vector(width, () => true),
    mlpNorm: vector(width, () => true),
    up: vector(upRows, gated),
    down: vector(width, () => true),
  };
  const table = matrix(VOCAB, width, () => true), positionTable = matrix(CAPACITY + 3, width, () => true);
  const finalNorm = vector(width, () => true, 1), finalBias = vector(width, () => true);
  const given = Float32Array.from(
    floats(rows * rowStride(width)),
    (v, i) => i % rowStride(width) < width ? 3 * v : 0,
  );
  const cache = floats((rows * CAPACITY + 1) * kvHeads * ds).map((v, i) => i % ds < headDim ? v : 0);
  const positions = Uint32Array.from({ length: rows }, (_, i) => i === 1 ? CAPACITY + 2 : below(CAPACITY));
  const angles = floats((CAPACITY + 3) * headDim / 2).map((v) => 3 * v);
  const shape = { ...c, capacity: CAPACITY, eps: EPS, vocab: VOCAB, scale: 0.3 };
  const parts = layerWork(gpu.profile, shape);
  const parameters = upload(gpu, Float32Array.from(arena));
  const ids = upload(gpu, Uint32Array.from({ length: rows }, () => below(VOCAB + 5)));
  const shared = { positions: upload(gpu, positions) };
  const tables = rotary
    ? { cos: upload(gpu, angles.map(Math.cos)), sin: upload(gpu, angles.map(Math.sin)) }
    : {};
  const work = new Float32Array(parts.size + 8).fill(OUTSIDE);
  work.fill(NaN, 0, parts.size);
  if (!c.ends) work.set(given);
  const together = { work: upload(gpu, work), keys: upload(gpu, cache), values: upload(gpu, cache) };
  const places = {
    weights,
    ...(biased ? { biases } : {}),
    ...(c.ends
      ? {
        embedding: { tokens: table, ...(rotary ? {} : { positions: positionTable }) },
        head: { norm: finalNorm, normBias: finalBias, matrix: table },
      }
      : {}),
  };
  const buffers = { weights: parameters, ids, ...together, ...shared, ...tables };
  runOnce(gpu, [decodeLayer(gpu.profile, buffers, shape, places)]);

  // One launch for each operation.
  const at = (from: number, count: number) => slice(parameters, from * 4, padded(count) * 4);
  const nothing = (count: number) => upload(gpu, new Float32Array(rows * rowStride(count)));
  const apart = { x: upload(gpu, given), keys: upload(gpu, cache), values: upload(gpu, cache) };
  const qkv = nothing(qkvColumns),
    attended = nothing(outColumns),
    both = nothing(upRows),
    block = nothing(inner);
  const y = nothing(width), stats = upload(gpu, new Float32Array(2 * padded(rows)));
  const normed = (x: GpuWindow, weight: number, bias: number) => {
    const b = c.norm === "layer" ? { b: at(bias, width) } : {};
    const size = { kind: c.norm, rows, cols: width, eps: EPS };
    return norm(gpu.profile, { x, w: at(weight, width), ...b, y, stats }, size);
  };
  const lookUp = (ids: GpuWindow, from: number, vocab: number, add: boolean) => {
    const size = { tokens: rows, vocab, cols: width };
    return embedding(gpu.profile, { ids, table: at(from, vocab * rowStride(width)), y: apart.x }, size, add);
  };
  const product = (
    a: GpuWindow,
    name: (typeof LAYER_WEIGHTS)[number],
    n: number,
    k: number,
    out: GpuWindow,
    residual?: GpuWindow,
  ) => {
    const b = at(weights[name], n * rowStride(k)), bias = biased ? { bias: at(biases[name], n) } : {};
    const buffers = { a, b, c: out, ...bias, ...(residual ? { residual } : {}) };
    return matmul(gpu.profile, buffers, { trans: "nt", m: rows, n, k });
  };
  const middle = nothing(width), last = nothing(width), logits = nothing(VOCAB);
  const cached = { keys: apart.keys, values: apart.values };
  runOnce(gpu, [
    ...(c.ends ? [lookUp(ids, table, VOCAB, false)] : []),
    ...(c.ends && !rotary ? [lookUp(shared.positions, positionTable, CAPACITY + 3, true)] : []),
    normed(apart.x, weights.attnNorm, biases.attnNorm),
    product(y, "qkv", qkvColumns, width, qkv),
    attentionDecode(gpu.profile, { qkv, out: attended, ...cached, ...shared, ...tables }, shape),
    product(attended, "out", width, outColumns, middle, apart.x),
    normed(middle, weights.mlpNorm, biases.mlpNorm),
    product(y, "up", upRows, width, both),
    activation(gpu.profile, c.activation, { x: both, y: block }, { rows, cols: inner }),
    product(block, "down", width, inner, last, middle),
    normed(last, finalNorm, finalBias),
    matmul(gpu.profile, { a: y, b: at(table, VOCAB * rowStride(width)), c: logits }, {
      trans: "nt",
      m: rows,
      n: VOCAB,
      k: width,
    }),
  ]);
  const name = JSON.stringify(c);
  const got = await readFloats(gpu, together.work), want = await readFloats(gpu, last);
  assert.ok(want.every(Number.isFinite), name);
  assert.deepEqual(got.slice(0, rows * rowStride(width)), want.slice(0, rows * rowStride(width)), name);
  if (c.ends) {
    const count = rows * rowStride(VOCAB);
    const all = await readFloats(gpu, logits);
    assert.deepEqual(got.slice(parts.logits, parts.logits + count), all.slice(0, count), `logits ${name}`);
  }
  assert.ok(
    got.subarray(parts.size, parts.size + 8).every((v) => v === OUTSIDE),
    `${name} wrote behind its work`,
  );
  for (const which of ["keys", "values"] as const) {
    assert.deepEqual(
      await readFloats(gpu, together[which]),
      await readFloats(gpu, apart[which]),
      `${which} ${name}`,
    );
  }
}

const LLAMA = { norm: "rms", activation: "swiglu", rotary: true, biased: false } as const;
const GPT2 = { norm: "layer", activation: "gelu", rotary: false, biased: true } as const;

testOnProfiles("a layer in one launch has the bits of its operations one by one", async (gpu) => {
  await check(gpu, {
    ends: true,
    rows: 32,
    width: 64,
    inner: 172,
    heads: 8,
    kvHeads: 4,
    headDim: 8,
    ...LLAMA,
  });
  await check(gpu, {
    ends: false,
    rows: 8,
    width: 48,
    inner: 70,
    heads: 5,
    kvHeads: 3,
    headDim: 10,
    ...LLAMA,
  });
  await check(gpu, {
    ends: true,
    rows: 17,
    width: 33,
    inner: 9,
    heads: 3,
    kvHeads: 1,
    headDim: 12,
    ...LLAMA,
  });
  await check(gpu, {
    ends: true,
    rows: 24,
    width: 64,
    inner: 256,
    heads: 4,
    kvHeads: 4,
    headDim: 16,
    ...GPT2,
  });
  await check(gpu, {
    ends: false,
    rows: 3,
    width: 35,
    inner: 101,
    heads: 3,
    kvHeads: 3,
    headDim: 20,
    ...GPT2,
  });
  await check(gpu, {
    ends: true,
    rows: 9,
    width: 20,
    inner: 1024,
    heads: 1,
    kvHeads: 1,
    headDim: 80,
    ...GPT2,
    rotary: true,
  });
}, ["cpu"]);
