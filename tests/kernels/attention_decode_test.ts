import assert from "node:assert/strict";
import { attention } from "../../kernels/attention.ts";
import { type Attending, attentionDecode } from "../../kernels/attention_decode.ts";
import { cacheFill } from "../../kernels/cache_fill.ts";
import { padded, rowStride } from "../../kernels/kernel.ts";
import { rope } from "../../kernels/rope.ts";
import { readFloats, upload } from "../../src/gpu/buffers.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { runOnce } from "../../src/gpu/run.ts";
import { random, relativeError, testOnProfiles } from "./helpers.ts";

const UNTOUCHED = 7;

/** [rows, count·ds] of random numbers with zero padding columns, rows `rowStride` apart. */
function vectors(floats: (n: number) => Float32Array, rows: number, count: number, headDim: number) {
  const ds = padded(headDim), ld = rowStride(count * ds);
  const out = floats(rows * ld);
  return out.map((x, i) => i % ld < count * ds && i % ld % ds < headDim ? 2 * x : 0) as Float32Array<
    ArrayBuffer
  >;
}

interface Heads extends Attending {
  heads: number;
  kvHeads: number;
  headDim: number;
}

/** Packs prompts, fills the cache from them, then decodes one token per row; `fresh` is the new tokens' qkv, rotated. */
async function decode(
  gpu: Gpu,
  lengths: number[],
  capacity: number,
  shape: Heads,
  { seed = 1, rotary = false } = {},
) {
  const { heads, kvHeads, headDim, rotaryDims = headDim } = shape;
  const rows = lengths.length, ds = padded(headDim), ld = rowStride((heads + 2 * kvHeads) * ds);
  const ldo = rowStride(heads * ds);
  const { floats } = random(seed);
  const first: number[] = [];
  let tokens = 0;
  for (const length of lengths) {
    first.push(tokens);
    tokens = Math.ceil((tokens + length) / 8) * 8;
  }
  const prefill = vectors(floats, tokens, heads + 2 * kvHeads, headDim);
  const fresh = vectors(floats, rows, heads + 2 * kvHeads, headDim);
  const cache = new Float32Array((rows * capacity + 3) * kvHeads * ds).fill(UNTOUCHED);
  const angles = floats((Math.max(...lengths) + 1) * rotaryDims / 2).map((x) => 3 * x);
  const buffers = {
    prefill: upload(gpu, prefill),
    qkv: upload(gpu, fresh),
    rotated: upload(gpu, fresh),
    first: upload(gpu, Uint32Array.from(first)),
    lengths: upload(gpu, Uint32Array.from(lengths)),
    keys: upload(gpu, cache),
    values: upload(gpu, cache),
    out: upload(gpu, new Float32Array(rows * ldo).fill(UNTOUCHED)),
    cos: upload(gpu, angles.map(Math.cos)),
    sin: upload(gpu, angles.map(Math.sin)),
  };
  const { qkv, lengths: positions, keys, values, out, cos, sin } = buffers;
  const size = { rows, capacity, ...shape };
  const maxLength = Math.max(...lengths);
  const turn = { tokens: rows, ld, heads: heads + kvHeads, rotaryDims, headStride: ds };
  runOnce(gpu, [
    cacheFill(gpu.profile, { ...buffers, qkv: buffers.prefill }, { ...size, maxLength }),
    attentionDecode(
      gpu.profile,
      { qkv, positions, keys, values, out, ...(rotary ? { cos, sin } : {}) },
      size,
    ),
    ...(rotary ? [rope(gpu.profile, { x: buffers.rotated, positions, cos, sin }, turn, false)] : []),
  ]);
  const read = async (name: "qkv" | "rotated" | "keys" | "values" | "out", count: number) =>
    (await readFloats(gpu, buffers[name])).slice(0, count);
  assert.deepEqual(await read("qkv", fresh.length), fresh);
  const result = {
    first,
    prefill,
    fresh: await read("rotated", fresh.length),
    out: await read("out", rows * ldo),
    keys: await read("keys", cache.length),
    values: await read("values", cache.length),
    ds,
    ld,
    ldo,
  };
  for (const { buffer } of Object.values(buffers)) buffer.destroy();
  return result;
}

/** The new token's attention in float64. */
function reference(
  r: Awaited<ReturnType<typeof decode>>,
  lengths: number[],
  { heads, kvHeads, headDim, scale, window = Infinity, softCap }: Heads,
) {
  const { ds, ld, ldo } = r;
  const capped = (s: number) => softCap === undefined ? s : softCap * Math.tanh(s / softCap);
  const out = new Float64Array(lengths.length * ldo);
  lengths.forEach((length, row) => {
    const rowOf = (slot: number) =>
      slot < length ? r.prefill.subarray((r.first[row] + slot) * ld) : r.fresh.subarray(row * ld);
    for (let h = 0; h < heads; h++) {
      const g = Math.floor(h * kvHeads / heads), k = (heads + g) * ds, v = (heads + kvHeads + g) * ds;
      const scores = Array.from({ length: length + 1 }, (_, slot) => {
        let s = 0;
        for (let d = 0; d < headDim; d++) s += r.fresh[row * ld + h * ds + d] * rowOf(slot)[k + d];
        return length - slot < window ? capped(s * scale) : -Infinity;
      });
      const top = Math.max(...scores);
      const sum = scores.reduce((a, s) => a + Math.exp(s - top), 0);
      scores.forEach((s, slot) => {
        for (let d = 0; d < headDim; d++) {
          out[row * ldo + h * ds + d] += Math.exp(s - top) / sum * rowOf(slot)[v + d];
        }
      });
    }
  });
  return out;
}

for (const headDim of [8, 10, 12, 16, 20, 32, 64, 80]) {
  testOnProfiles(`a decoded token attends to its row's cache with heads of ${headDim}`, async (gpu) => {
    const shape = { heads: 4, kvHeads: 2, headDim, scale: 1 / Math.sqrt(headDim) };
    const lengths = [5, 0, 131, 64, 17];
    for (const rotary of [false, true]) {
      const got = await decode(gpu, lengths, 140, shape, { rotary });
      const error = relativeError(got.out, reference(got, lengths, shape));
      assert.ok(error < 2e-6, `the relative error is ${error}`);
      assert.ok(got.out.every((x, i) => i % got.ds < headDim || x === 0), "the padding columns are not zero");
    }
  });
}

/** Forms of attention beside the plain one; the rotated columns are whole vec4s, halves of one, and none past them. */
const FORMS: [headDim: number, Omit<Attending, "scale">][] = [
  [8, { window: 1 }],
  [10, { window: 7, rotaryDims: 6 }],
  [12, { softCap: 2 }],
  [16, { window: 70, softCap: 3, rotaryDims: 4 }],
  [20, { window: 16, softCap: 0.7, rotaryDims: 16 }],
  [80, { window: 33, softCap: 4, rotaryDims: 20 }],
  [256, { window: 70, softCap: 4 }],
];

/** A software driver takes long to compile the gpu profile's text for the middle sizes; large heads go through loops. */
const formsFor = (gpu: Gpu) =>
  FORMS.filter(([headDim]) => gpu.profile.kind === "cpu" || headDim <= 16 || headDim > 128);

/** Few enough heads that rows lie next to each other. */
const headsOf = (headDim: number) => ({
  headDim,
  ...(headDim === 256 ? { heads: 3, kvHeads: 1 } : { heads: 4, kvHeads: 2 }),
});

testOnProfiles("windows, soft caps and partly turned heads are float64's", async (gpu) => {
  for (const [headDim, form] of formsFor(gpu)) {
    const shape = { ...headsOf(headDim), scale: 1 / Math.sqrt(headDim), ...form };
    const lengths = [5, 0, 131, 64, 17];
    const got = await decode(gpu, lengths, 140, shape, { rotary: true });
    const error = relativeError(got.out, reference(got, lengths, shape));
    assert.ok(error < 2e-6, `${JSON.stringify(shape)}: the relative error is ${error}`);
    assert.ok(got.out.every((x, i) => i % got.ds < headDim || x === 0), "the padding columns are not zero");
  }
});

testOnProfiles("query heads share cached heads in any ratio", async (gpu) => {
  for (const [heads, kvHeads, headDim] of [[3, 1, 8], [5, 3, 8], [2, 2, 8], [6, 1, 64], [9, 3, 64]]) {
    const shape = { heads, kvHeads, headDim, scale: 3 / headDim };
    const got = await decode(gpu, [9, 3], 16, shape, { rotary: true });
    assert.ok(relativeError(got.out, reference(got, [9, 3], shape)) < 2e-6, `${heads}:${kvHeads}`);
  }
});

testOnProfiles("rows may be further apart than their columns", async (gpu) => {
  const shape = { heads: 16, kvHeads: 8, headDim: 64, scale: 0.1 };
  const got = await decode(gpu, [9, 3], 16, shape);
  assert.ok(got.ldo > 1024);
  const columns = (x: ArrayLike<number>) => Array.from(x).filter((_, i) => i % got.ldo < 1024);
  assert.ok(relativeError(columns(got.out), columns(reference(got, [9, 3], shape))) < 2e-6);
});

testOnProfiles("the caches hold the prompt, then the new token, and nothing else is touched", async (gpu) => {
  for (const [heads, kvHeads, headDim] of [[2, 2, 10], [6, 2, 12], [5, 3, 16]]) {
    const lengths = [5, 0, 12, 20], capacity = 12;
    const shape = { heads, kvHeads, headDim, scale: 1 };
    const got = await decode(gpu, lengths, capacity, shape, { rotary: true });
    const width = kvHeads * got.ds;
    for (const [name, column] of [["keys", heads * got.ds], ["values", heads * got.ds + width]] as const) {
      const want = new Float32Array(got[name].length).fill(UNTOUCHED);
      lengths.forEach((length, row) => {
        for (let slot = 0; slot <= Math.min(length, capacity - 1); slot++) {
          const from = slot < length
            ? got.prefill.subarray((got.first[row] + slot) * got.ld + column)
            : got.fresh.subarray(row * got.ld + column);
          want.set(from.subarray(0, width), (row * capacity + slot) * width);
        }
      });
      if (gpu.profile.kind === "cpu") assert.deepEqual(got[name], want);
      else assert.ok(relativeError(got[name], want) < 1e-7);
    }
  }
});

testOnProfiles("a decoded token has the numbers that the packed forward pass gives it", async (gpu) => {
  const plain = [8, 10, 20, 32, 64, 80].map((headDim): typeof FORMS[0] => [headDim, {}]);
  for (const [headDim, form] of [...plain, ...formsFor(gpu)]) {
    const shape = { ...headsOf(headDim), scale: 1 / Math.sqrt(headDim), ...form };
    const length = 37, tokens = 64, first = 16, window = form.window ?? Infinity;
    const got = await decode(gpu, [length], 40, shape, { seed: headDim, rotary: true });
    const qkv = vectors(random(9).floats, tokens, shape.heads + 2 * shape.kvHeads, headDim);
    qkv.set(got.prefill.subarray(0, length * got.ld), first * got.ld);
    qkv.set(got.fresh, (first + length) * got.ld);
    const starts = Uint32Array.from({ length: tokens }, (_, i) => {
      return Math.max(i - window + 1, i < first ? 0 : i < 56 ? first : 56);
    });
    const buffers = {
      qkv: upload(gpu, qkv),
      starts: upload(gpu, starts),
      out: upload(gpu, new Float32Array(tokens * got.ldo)),
      lse: upload(gpu, new Float32Array(tokens * shape.heads)),
    };
    runOnce(gpu, [attention(gpu.profile, buffers, { tokens, ...shape })]);
    const at = (first + length) * got.ldo;
    const packed = (await readFloats(gpu, buffers.out)).slice(at, at + got.ldo);
    if (gpu.profile.kind === "cpu") assert.deepEqual(got.out, packed);
    else assert.ok(relativeError(got.out, packed) < 1e-6, JSON.stringify(shape));
  }
});
