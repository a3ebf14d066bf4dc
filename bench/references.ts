/** float64 references of the benchmarked kernels, written from the formulas. */
import type { AttentionShape } from "../kernels/attention.ts";
import { padded } from "../kernels/kernel.ts";
import type { Trans } from "../kernels/matmul.ts";

let state = 12345;

/** `count` numbers in [-1, 1), the same in every run. */
export function floats(count: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

export function productReference(
  trans: Trans,
  m: number,
  n: number,
  k: number,
  a: Float32Array,
  b: Float32Array,
): Float64Array<ArrayBuffer> {
  const c = new Float64Array(m * n);
  for (let i = 0; i < m; i++) {
    for (let x = 0; x < k; x++) {
      const value = trans === "tn" ? a[x * m + i] : a[i * k + x];
      if (trans === "nt") { for (let j = 0; j < n; j++) c[i * n + j] += value * b[j * k + x]; }
      else for (let j = 0; j < n; j++) c[i * n + j] += value * b[x * n + j];
    }
  }
  return c;
}

/** Causal attention of one document, as many key heads as query heads, and its gradient. */
export function attentionReference(
  qkv: Float32Array,
  dout: Float32Array,
  { tokens, heads, headDim, scale }: AttentionShape,
): { out: Float64Array; dqkv: Float64Array } {
  const ds = padded(headDim), width = heads * ds, ld = 3 * width;
  const out = new Float64Array(tokens * width), dqkv = new Float64Array(tokens * ld);
  const p = new Float64Array(tokens);
  for (let h = 0; h < heads; h++) {
    for (let i = 0; i < tokens; i++) {
      const q = i * ld + h * ds, o = i * width + h * ds;
      const k = (j: number) => j * ld + width + h * ds, v = (j: number) => j * ld + 2 * width + h * ds;
      let top = -Infinity, sum = 0;
      for (let j = 0; j <= i; j++) {
        let s = 0;
        for (let d = 0; d < headDim; d++) s += qkv[q + d] * qkv[k(j) + d];
        p[j] = s * scale;
        top = Math.max(top, p[j]);
      }
      for (let j = 0; j <= i; j++) sum += p[j] = Math.exp(p[j] - top);
      let delta = 0;
      for (let j = 0; j <= i; j++) {
        p[j] /= sum;
        for (let d = 0; d < headDim; d++) out[o + d] += p[j] * qkv[v(j) + d];
      }
      for (let d = 0; d < headDim; d++) delta += dout[o + d] * out[o + d];
      for (let j = 0; j <= i; j++) {
        let dp = 0;
        for (let d = 0; d < headDim; d++) dp += dout[o + d] * qkv[v(j) + d];
        const w = p[j] * (dp - delta) * scale;
        for (let d = 0; d < headDim; d++) {
          dqkv[q + d] += w * qkv[k(j) + d];
          dqkv[k(j) + d] += w * qkv[q + d];
          dqkv[v(j) + d] += p[j] * dout[o + d];
        }
      }
    }
  }
  return { out, dqkv };
}

/** Log-probability of each row's target. */
export function logProbReference(
  logits: Float32Array,
  targets: Uint32Array,
  rows: number,
  vocab: number,
): Float64Array {
  return Float64Array.from({ length: rows }, (_, r) => {
    const row = logits.subarray(r * vocab, (r + 1) * vocab);
    const top = row.reduce((a, b) => Math.max(a, b));
    let sum = 0;
    for (const x of row) sum += Math.exp(x - top);
    return row[targets[r]] - top - Math.log(sum);
  });
}
