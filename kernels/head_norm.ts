/**
 * RMSNorm of every query and key head on its own, in the fused projection (Qwen 3, arXiv 2505.09388).
 *
 *   y = x · r · w     r = 1/√(mean(x²) + eps), the mean over the head's `headDim` columns
 *
 * x, y and d are fused projections [tokens, (heads + 2·kvHeads)·ds] as in `attention.ts`: the first heads + kvHeads heads are
 * normed, query heads with `wq` and key heads with `wk` [headDim], the values' heads pass. Padding columns stay zero.
 *
 * Forward overwrites y and `stats` [tokens, heads + kvHeads] with r. Backward turns d, the gradient by y, into that by x.
 * `gains` [tokens, headDim] is overwritten with each token's share of the gradient of wq or wk; its columns are summed with
 * `column_sums.ts`.
 *
 * @module
 */
import {
  cachedKernel,
  type Launch,
  LINEAR_GROUP,
  linearGrid,
  padded,
  type Profile,
  rowStride,
} from "./kernel.ts";

const WORKGROUP = 64;

/** Size of a head norm. */
export interface HeadNormShape {
  tokens: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  eps: number;
}

const uniforms: Record<string, "u32" | "f32"> = {
  count: "u32",
  tokens: "u32",
  heads: "u32",
  normed: "u32",
  quads: "u32",
  dim: "u32",
  ld: "u32",
  eps: "f32",
};

function uniformValues({ tokens, heads, kvHeads, headDim, eps }: HeadNormShape, count: number) {
  const quads = padded(headDim) / 4;
  const ld = rowStride(4 * (heads + 2 * kvHeads) * quads) / 4;
  return { count, tokens, heads, normed: heads + kvHeads, quads, dim: headDim, ld, eps };
}

/** `head`, `at` (its first vec4) of invocation i, which norms head i % normed of token i / normed. */
const PLACE = `let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.count) { return; }
  let head = i % u.normed;
  let at = i / u.normed * u.ld + head * u.quads;
  let isQuery = head < u.heads;`;

/** y = norm of x, head by head. */
export function headNorm<B>(
  _profile: Profile,
  buffers: { x: B; wq: B; wk: B; y: B; stats: B },
  shape: HeadNormShape,
): Launch<B> {
  const kernel = cachedKernel("head_norm", () => ({
    storage: { x: "vec4f", wq: "vec4f", wk: "vec4f", y: "vec4f", stats: "f32" },
    writes: ["y", "stats"],
    uniforms,
    workgroup: WORKGROUP,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.count) { return; }
  let all = 2u * u.normed - u.heads;
  let head = i % all;
  let at = i / all * u.ld + head * u.quads;
  if (head >= u.normed) {
    for (var q = 0u; q < u.quads; q++) { y[at + q] = x[at + q]; }
    return;
  }
  var squares = vec4f();
  for (var q = 0u; q < u.quads; q++) { squares = fma(x[at + q], x[at + q], squares); }
  let r = inverseSqrt((squares.x + squares.y + squares.z + squares.w) / f32(u.dim) + u.eps);
  stats[i / all * u.normed + head] = r;
  for (var q = 0u; q < u.quads; q++) { y[at + q] = x[at + q] * r * select(wk[q], wq[q], head < u.heads); }`,
  }));
  const count = shape.tokens * (shape.heads + 2 * shape.kvHeads);
  return {
    kernel,
    buffers,
    uniforms: uniformValues(shape, count),
    grid: linearGrid(Math.ceil(count / WORKGROUP)),
  };
}

/** d = gradient by x, in place of the gradient by y; the values' heads pass. */
export function headNormBackward<B>(
  _profile: Profile,
  buffers: { x: B; wq: B; wk: B; stats: B; d: B },
  shape: HeadNormShape,
): Launch<B> {
  const kernel = cachedKernel("head_norm_backward", () => ({
    storage: { x: "vec4f", wq: "vec4f", wk: "vec4f", stats: "f32", d: "vec4f" },
    writes: ["d"],
    uniforms,
    workgroup: WORKGROUP,
    body: `
  ${PLACE}
  let r = stats[i];
  var along = vec4f();
  for (var q = 0u; q < u.quads; q++) {
    along = fma(d[at + q] * select(wk[q], wq[q], isQuery), x[at + q] * r, along);
  }
  let a = (along.x + along.y + along.z + along.w) / f32(u.dim);
  for (var q = 0u; q < u.quads; q++) {
    d[at + q] = r * (d[at + q] * select(wk[q], wq[q], isQuery) - x[at + q] * r * a);
  }`,
  }));
  const count = shape.tokens * (shape.heads + shape.kvHeads);
  return {
    kernel,
    buffers,
    uniforms: uniformValues(shape, count),
    grid: linearGrid(Math.ceil(count / WORKGROUP)),
  };
}

/** gains [tokens, headDim] = Σ d · x · r over the query heads or the key heads; d is still the gradient by y. */
export function headNormGains<B>(
  _profile: Profile,
  buffers: { x: B; stats: B; d: B; gains: B },
  shape: HeadNormShape,
  of: "queries" | "keys",
): Launch<B> {
  const kernel = cachedKernel("head_norm_gains", () => ({
    storage: { x: "vec4f", stats: "f32", d: "vec4f", gains: "vec4f" },
    writes: ["gains"],
    uniforms: { ...uniforms, first: "u32", end: "u32", ldg: "u32" },
    workgroup: WORKGROUP,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.count) { return; }
  let token = i / u.quads;
  let quad = i % u.quads;
  var total = vec4f();
  for (var head = u.first; head < u.end; head++) {
    let at = token * u.ld + head * u.quads + quad;
    total += d[at] * (x[at] * stats[token * u.normed + head]);
  }
  gains[token * u.ldg + quad] = total;`,
  }));
  const { tokens, heads, kvHeads, headDim } = shape;
  const [first, end] = of === "queries" ? [0, heads] : [heads, heads + kvHeads];
  const count = tokens * padded(headDim) / 4;
  return {
    kernel,
    buffers,
    uniforms: { ...uniformValues(shape, count), first, end, ldg: rowStride(headDim) / 4 },
    grid: linearGrid(Math.ceil(count / WORKGROUP)),
  };
}
