import assert from "node:assert/strict";
import { attention, type AttentionShape } from "../../kernels/attention.ts";
import { attentionBackward } from "../../kernels/attention_backward.ts";
import { padded, rowStride } from "../../kernels/kernel.ts";
import { readFloats, upload } from "../../src/gpu/buffers.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { runOnce } from "../../src/gpu/run.ts";
import { random, relativeError, stored, testOnProfiles } from "./helpers.ts";

/** Lengths of documents become `starts` and `ends`: aligned to 8 tokens, filler tokens see themselves, `window` limits the view. */
function pack(
  lengths: number[],
  tokens: number,
  window = Infinity,
): { starts: Uint32Array; ends: Uint32Array; first: number[] } {
  const starts = Uint32Array.from({ length: tokens }, (_, i) => i);
  const first: number[] = [];
  let at = 0;
  for (const length of lengths) {
    first.push(at);
    for (let i = at; i < at + length; i++) starts[i] = Math.max(at, i - window + 1);
    at = Math.ceil((at + length) / 8) * 8;
  }
  assert.ok(at <= Math.ceil(tokens / 8) * 8);
  const ends = new Uint32Array(tokens);
  for (let i = 0; i < tokens; i++) for (let j = starts[i]; j <= i; j++) ends[j] = i + 1;
  return { starts, ends, first };
}

/** A fused qkv (or dout) with zero padding columns. */
function heads(
  values: Float32Array,
  rows: number,
  count: number,
  headDim: number,
): Float32Array<ArrayBuffer> {
  const ds = padded(headDim);
  const out = new Float32Array(rows * count * ds);
  for (let i = 0; i < rows * count; i++) {
    for (let d = 0; d < headDim; d++) out[i * ds + d] = values[i * headDim + d];
  }
  return out;
}

/** Forward and gradients in float64, written from the formulas. */
function reference(qkv: Float32Array, dout: Float32Array, starts: Uint32Array, shape: AttentionShape) {
  const { tokens, heads, kvHeads, headDim, scale, softCap } = shape;
  const ds = padded(headDim), ld = (heads + 2 * kvHeads) * ds;
  const capped = (s: number) => softCap === undefined ? s : softCap * Math.tanh(s / softCap);
  const slope = (c: number) => softCap === undefined ? 1 : 1 - (c / softCap) ** 2;
  const out = new Float64Array(tokens * heads * ds), lse = new Float64Array(heads * tokens);
  const dqkv = new Float64Array(tokens * ld);
  for (let h = 0; h < heads; h++) {
    const g = Math.floor(h * kvHeads / heads);
    const q = h * ds, k = (heads + g) * ds, v = (heads + kvHeads + g) * ds;
    for (let i = 0; i < tokens; i++) {
      const scores: number[] = [];
      for (let j = starts[i]; j <= i; j++) {
        let s = 0;
        for (let d = 0; d < headDim; d++) s += qkv[i * ld + q + d] * qkv[j * ld + k + d];
        scores.push(capped(s * scale));
      }
      const top = Math.max(...scores);
      const sum = scores.reduce((a, s) => a + Math.exp(s - top), 0);
      lse[h * tokens + i] = top + Math.log(sum);
      const p = scores.map((s) => Math.exp(s - top) / sum);
      const at = i * heads * ds + q;
      p.forEach((weight, x) => {
        for (let d = 0; d < headDim; d++) out[at + d] += weight * qkv[(starts[i] + x) * ld + v + d];
      });
      let delta = 0;
      for (let d = 0; d < headDim; d++) delta += dout[at + d] * out[at + d];
      p.forEach((weight, x) => {
        const j = starts[i] + x;
        let dp = 0;
        for (let d = 0; d < headDim; d++) dp += dout[at + d] * qkv[j * ld + v + d];
        const w = weight * (dp - delta) * scale * slope(scores[x]);
        for (let d = 0; d < headDim; d++) {
          dqkv[i * ld + q + d] += w * qkv[j * ld + k + d];
          dqkv[j * ld + k + d] += w * qkv[i * ld + q + d];
          dqkv[j * ld + v + d] += weight * dout[at + d];
        }
      });
    }
  }
  return { out, lse, dqkv };
}

async function run(
  gpu: Gpu,
  qkv: Float32Array,
  dout: Float32Array,
  { starts, ends }: { starts: Uint32Array; ends: Uint32Array },
  shape: AttentionShape,
) {
  const { tokens } = shape, lse = new Float32Array(shape.heads * tokens);
  const matrix = (values: Float32Array) => upload(gpu, stored(values, tokens, values.length / tokens));
  const buffers = {
    qkv: matrix(qkv),
    starts: upload(gpu, starts),
    ends: upload(gpu, ends),
    out: matrix(new Float32Array(dout.length).fill(7)),
    lse: upload(gpu, lse),
    dout: matrix(dout),
    delta: upload(gpu, lse),
    dqkv: matrix(new Float32Array(qkv.length).fill(7)),
  };
  runOnce(gpu, [
    attention(
      gpu.profile,
      { qkv: buffers.qkv, starts: buffers.starts, out: buffers.out, lse: buffers.lse },
      shape,
    ),
    ...attentionBackward(gpu.profile, buffers, shape),
  ]);
  const tight = (memory: Float32Array, width: number) => {
    const values = new Float32Array(tokens * width), ld = rowStride(width);
    for (let t = 0; t < tokens; t++) values.set(memory.subarray(t * ld, t * ld + width), t * width);
    return values;
  };
  const result = {
    out: tight(await readFloats(gpu, buffers.out), dout.length / tokens),
    lse: (await readFloats(gpu, buffers.lse)).slice(0, lse.length),
    dqkv: tight(await readFloats(gpu, buffers.dqkv), qkv.length / tokens),
  };
  for (const { buffer } of Object.values(buffers)) buffer.destroy();
  return result;
}

async function check(gpu: Gpu, lengths: number[], shape: AttentionShape, window?: number): Promise<void> {
  const { tokens, heads: h, kvHeads, headDim } = shape;
  const { floats } = random(tokens * 131 + headDim * 7 + h);
  const qkv = heads(
    floats(tokens * (h + 2 * kvHeads) * headDim).map((x) => 2 * x),
    tokens,
    h + 2 * kvHeads,
    headDim,
  );
  const dout = heads(floats(tokens * h * headDim), tokens, h, headDim);
  const packed = pack(lengths, tokens, window);
  const got = await run(gpu, qkv, dout, packed, shape);
  const want = reference(qkv, dout, packed.starts, shape);
  for (const name of ["out", "lse", "dqkv"] as const) {
    const error = relativeError(got[name], want[name]);
    assert.ok(error < 2e-6, `${name} has a relative error of ${error} for ${JSON.stringify(shape)}`);
  }
  const ds = padded(headDim);
  for (const values of [got.out, got.dqkv]) {
    assert.ok(values.every((x, i) => i % ds < headDim || x === 0), "the padding columns are not zero");
  }
}

const scaleOf = (headDim: number) => 1 / Math.sqrt(headDim);

for (const headDim of [8, 10, 12, 16, 20, 32, 64]) {
  testOnProfiles(`attention and its gradients equal float64 with heads of ${headDim}`, async (gpu) => {
    const shape = { headDim, scale: scaleOf(headDim) };
    await check(gpu, [19, 1, 40, 7], { tokens: 83, heads: 2, kvHeads: 2, ...shape });
    await check(gpu, [70], { tokens: 70, heads: 4, kvHeads: 2, ...shape });
  });
}

// The text of the gpu profile takes a software driver half a minute to compile for heads of this size.
testOnProfiles("attention and its gradients equal float64 with heads of 80", async (gpu) => {
  await check(gpu, [19, 20], { tokens: 44, heads: 4, kvHeads: 2, headDim: 80, scale: scaleOf(80) });
}, ["cpu"]);

testOnProfiles("attention and its gradients equal float64 with Gemma's heads of 256", async (gpu) => {
  const shape = { tokens: 44, heads: 4, kvHeads: 2, headDim: 256, scale: scaleOf(256), softCap: 2 };
  await check(gpu, [19, 20], shape, 13);
});

testOnProfiles("rows of 1024 and 2048 columns lie further apart", async (gpu) => {
  await check(gpu, [19, 5], { tokens: 29, heads: 16, kvHeads: 8, headDim: 64, scale: scaleOf(64) });
});

testOnProfiles("query heads share key heads in any ratio", async (gpu) => {
  for (const [h, kvHeads] of [[3, 1], [6, 2], [5, 3]]) {
    await check(gpu, [21, 30], { tokens: 64, heads: h, kvHeads, headDim: 8, scale: 0.4 });
  }
});

testOnProfiles("a sliding window limits what a query sees", async (gpu) => {
  await check(gpu, [90, 33], { tokens: 150, heads: 2, kvHeads: 1, headDim: 8, scale: 0.3 }, 13);
});

testOnProfiles("soft caps bend the scores, forward and back, with windows and without", async (gpu) => {
  // Scores reach several times the cap, and with the second cap hardly a hundredth.
  for (
    const [headDim, softCap, window] of [[8, 2, undefined], [12, 50, 5], [20, 0.5, 13], [64, 3, 9]] as const
  ) {
    const shape = { headDim, scale: softCap === 50 ? 0.1 : scaleOf(headDim), softCap };
    await check(gpu, [19, 1, 40, 7], { tokens: 83, heads: 4, kvHeads: 2, ...shape }, window);
  }
});

testOnProfiles("a single token attends to itself", async (gpu) => {
  await check(gpu, [1], { tokens: 1, heads: 2, kvHeads: 2, headDim: 8, scale: 1 });
});

testOnProfiles("a document has the same bits wherever it lies and whatever lies beside it", async (gpu) => {
  const h = 2, kvHeads = 1, headDim = 12, ds = padded(headDim), length = 29;
  const ld = (h + 2 * kvHeads) * ds;
  const { floats } = random(11);
  const own = { qkv: floats(length * (h + 2 * kvHeads) * headDim), dout: floats(length * h * headDim) };
  const place = async (before: number[], after: number[], tokens: number) => {
    const packed = pack([...before, length, ...after], tokens);
    const at = packed.first[before.length];
    const qkv = heads(
      floats(tokens * (h + 2 * kvHeads) * headDim).map((x) => 9 * x),
      tokens,
      h + 2 * kvHeads,
      headDim,
    );
    const dout = heads(floats(tokens * h * headDim), tokens, h, headDim);
    qkv.set(heads(own.qkv, length, h + 2 * kvHeads, headDim), at * ld);
    dout.set(heads(own.dout, length, h, headDim), at * h * ds);
    const got = await run(gpu, qkv, dout, packed, {
      tokens,
      heads: h,
      kvHeads,
      headDim,
      scale: scaleOf(headDim),
    });
    return {
      out: got.out.slice(at * h * ds, (at + length) * h * ds),
      lse: [0, 1].map((x) => got.lse.slice(x * tokens + at, x * tokens + at + length)),
      dqkv: got.dqkv.slice(at * ld, (at + length) * ld),
    };
  };
  const alone = await place([], [], 32);
  assert.deepEqual(await place([3], [9, 50], 128), alone);
  assert.deepEqual(await place([17, 8, 30], [], 96), alone);
  assert.deepEqual(await place([100], [1], 160), alone);
});
