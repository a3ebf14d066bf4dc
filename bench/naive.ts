/** The kernels one would write first, for comparison: one invocation per query or row, local arrays, several passes. */
import { cachedKernel, type Launch, padded, rowStride } from "../kernels/kernel.ts";
import type { AttentionShape } from "../kernels/attention.ts";

/** Causal attention with one thread per query; reads and writes what `attention` does. */
export function naiveAttention<B>(
  buffers: { qkv: B; out: B; lse: B },
  { tokens, heads, headDim, scale }: AttentionShape,
): Launch<B> {
  const quads = padded(headDim) / 4;
  const kernel = cachedKernel(`naive_attention_${headDim}`, () => ({
    storage: { qkv: "vec4f", out: "vec4f", lse: "f32" },
    writes: ["out", "lse"],
    uniforms: { tokens: "u32", heads: "u32", scale: "f32" },
    workgroup: 64,
    body: `
  let i = group.x * 64u + lane;
  if (i >= u.tokens) { return; }
  let ld = 3u * u.heads * ${quads}u;
  let column = group.y * ${quads}u;
  var q: array<vec4f, ${quads}>;
  var o: array<vec4f, ${quads}>;
  for (var d = 0u; d < ${quads}u; d++) { q[d] = qkv[i * ld + column + d] * u.scale; o[d] = vec4f(); }
  var most = -1e30;
  var sum = 0.0;
  for (var j = 0u; j <= i; j++) {
    var s = 0.0;
    for (var d = 0u; d < ${quads}u; d++) { s += dot(q[d], qkv[j * ld + u.heads * ${quads}u + column + d]); }
    let top = max(most, s);
    let keep = exp(most - top);
    let p = exp(s - top);
    sum = sum * keep + p;
    most = top;
    for (var d = 0u; d < ${quads}u; d++) {
      o[d] = o[d] * keep + p * qkv[j * ld + 2u * u.heads * ${quads}u + column + d];
    }
  }
  for (var d = 0u; d < ${quads}u; d++) { out[i * u.heads * ${quads}u + column + d] = o[d] / sum; }
  lse[group.y * u.tokens + i] = most + log(sum);`,
  }));
  return { kernel, buffers, uniforms: { tokens, heads, scale }, grid: [Math.ceil(tokens / 64), heads, 1] };
}

/** Log-probability, entropy and log-sum-exp in three passes over scalars with one thread per row. */
export function naiveLogProb<B>(
  buffers: { logits: B; targets: B; logprob: B; entropy: B; lse: B },
  { rows, vocab }: { rows: number; vocab: number },
): Launch<B> {
  const kernel = cachedKernel("naive_log_prob", () => ({
    storage: { logits: "f32", targets: "u32", logprob: "f32", entropy: "f32", lse: "f32" },
    writes: ["logprob", "entropy", "lse"],
    uniforms: { rows: "u32", vocab: "u32", ld: "u32" },
    workgroup: 64,
    body: `
  let row = group.x * 64u + lane;
  if (row >= u.rows) { return; }
  let base = row * u.ld;
  var most = -1e30;
  for (var i = 0u; i < u.vocab; i++) { most = max(most, logits[base + i]); }
  var sum = 0.0;
  for (var i = 0u; i < u.vocab; i++) { sum += exp(logits[base + i] - most); }
  let total = most + log(sum);
  var h = 0.0;
  for (var i = 0u; i < u.vocab; i++) { let logp = logits[base + i] - total; h -= exp(logp) * logp; }
  logprob[row] = logits[base + targets[row]] - total;
  entropy[row] = h;
  lse[row] = total;`,
  }));
  return {
    kernel,
    buffers,
    uniforms: { rows, vocab, ld: rowStride(vocab) },
    grid: [Math.ceil(rows / 64), 1, 1],
  };
}
