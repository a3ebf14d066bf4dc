import assert from "node:assert/strict";
import { headNorm, headNormBackward, headNormGains } from "../../kernels/head_norm.ts";
import { padded, rowStride } from "../../kernels/kernel.ts";
import { differences, OUTSIDE, run, unpadded, vector } from "./launches.ts";
import { random, relativeError, testOnProfiles } from "./helpers.ts";

const EPS = 1e-6;

/** One head's values, normed, in float64. */
function normed(x: ArrayLike<number>, w: ArrayLike<number>): Float64Array {
  const square = Array.from(x).reduce((sum, v) => sum + v * v, 0) / x.length;
  return Float64Array.from(x, (v, d) => v / Math.sqrt(square + EPS) * w[d]);
}

testOnProfiles("query and key heads are normed on their own, and the values' heads pass", async (gpu) => {
  for (
    const [tokens, heads, kvHeads, headDim] of [[1, 1, 1, 2], [5, 4, 2, 6], [33, 3, 1, 10], [7, 6, 2, 16], [
      3,
      2,
      2,
      128,
    ], [70, 2, 1, 8]]
  ) {
    const { floats } = random(tokens * 100 + headDim);
    const all = heads + 2 * kvHeads, ds = padded(headDim), width = all * ds, ld = rowStride(width);
    const fused = () => {
      const out = new Float32Array((tokens + 1) * ld).fill(OUTSIDE), values = floats(tokens * width);
      for (let t = 0; t < tokens; t++) {
        for (let c = 0; c < width; c++) out[t * ld + c] = c % ds < headDim ? 3 * values[t * width + c] : 0;
      }
      return out;
    };
    const wq = floats(headDim), wk = floats(headDim), x = fused(), d = fused();
    const ldg = rowStride(headDim);
    const gains = () => new Float32Array((tokens + 1) * ldg).fill(OUTSIDE);
    const data = {
      x,
      d,
      wq: vector(wq),
      wk: vector(wk),
      y: fused().fill(OUTSIDE),
      stats: vector(new Float32Array(tokens * (heads + kvHeads))),
      ofQueries: gains(),
      ofKeys: gains(),
    };
    const shape = { tokens, heads, kvHeads, headDim, eps: EPS };
    const got = await run(gpu, data, ({ x, wq, wk, y, stats, d, ofQueries, ofKeys }) => [
      headNorm(gpu.profile, { x, wq, wk, y, stats }, shape),
      headNormGains(gpu.profile, { x, stats, d, gains: ofQueries }, shape, "queries"),
      headNormGains(gpu.profile, { x, stats, d, gains: ofKeys }, shape, "keys"),
      headNormBackward(gpu.profile, { x, wq, wk, stats, d }, shape),
    ]);

    const name = `[${tokens}, ${heads}, ${kvHeads}, ${headDim}]`;
    const y = Float64Array.from(x), dx = Float64Array.from(d), stats: number[] = [];
    const gainsQ = new Float64Array(tokens * headDim), gainsK = new Float64Array(tokens * headDim);
    for (let t = 0; t < tokens; t++) {
      for (let h = 0; h < heads + kvHeads; h++) {
        const at = t * ld + h * ds, w = h < heads ? wq : wk, sums = h < heads ? gainsQ : gainsK;
        const row = Float64Array.from(x.subarray(at, at + headDim)), g = d.subarray(at, at + headDim);
        y.set(normed(row, w), at);
        dx.set(differences(row, (v) => normed(v, w).reduce((sum, v, d) => sum + v * g[d], 0)), at);
        stats.push(normed(row, row.map(() => 1))[0] / row[0]);
        normed(row, row.map(() => 1)).forEach((v, d) => sums[t * headDim + d] += v * g[d]);
      }
    }
    const close = (what: string, have: ArrayLike<number>, want: ArrayLike<number>) => {
      const error = relativeError(have, want);
      assert.ok(error < 2e-6, `${name}: ${what} has a relative error of ${error}`);
    };
    // What follows the last token must be as it was; values and padding, which are copied, keep their bits.
    close("y", got.y.subarray(0, tokens * ld), y.subarray(0, tokens * ld));
    close("dx", got.d, dx);
    close("stats", got.stats.subarray(0, stats.length), stats);
    close("gains of queries", unpadded(got.ofQueries, tokens, headDim, name), gainsQ);
    close("gains of keys", unpadded(got.ofKeys, tokens, headDim, name), gainsK);
    for (let i = 0; i < tokens * ld; i++) {
      const column = i % ld, isValue = column >= (heads + kvHeads) * ds;
      if (column >= width) assert.equal(got.y[i], OUTSIDE);
      else if (isValue || column % ds >= headDim) {
        assert.equal(got.y[i], x[i], `${name}: y at ${i}`);
        assert.equal(got.d[i], d[i], `${name}: d at ${i}`);
      }
    }
    assert.ok(got.y.subarray(tokens * ld).every((v) => v === OUTSIDE));
    assert.ok(got.d.subarray(tokens * ld).every((v) => v === OUTSIDE));
  }
});

testOnProfiles("a head of zeros stays zero, with a finite gradient", async (gpu) => {
  const shape = { tokens: 1, heads: 1, kvHeads: 1, headDim: 4, eps: EPS }, ones = new Float32Array(4).fill(1);
  const zeros = new Float32Array(12);
  const data = { x: zeros, wq: ones, wk: ones, y: zeros, stats: new Float32Array(4), d: zeros.map(() => 1) };
  const got = await run(gpu, data, ({ x, wq, wk, y, stats, d }) => [
    headNorm(gpu.profile, { x, wq, wk, y, stats }, shape),
    headNormBackward(gpu.profile, { x, wq, wk, stats, d }, shape),
  ]);
  assert.ok(got.y.every((v) => v === 0));
  got.d.forEach((v, i) => assert.ok(Math.abs(v - (i < 8 ? 1000 : 1)) < 1e-3, `${v}`));
});
