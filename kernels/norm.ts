/**
 * RMSNorm (arXiv 1910.07467) and LayerNorm (arXiv 1607.06450) over the rows of a matrix.
 *
 *   rms:   y = x · r · w            r = 1/√(mean(x²) + eps); Gemma's has 1 + w in place of w
 *   layer: y = (x − μ) · r · w + b  r = 1/√(var(x) + eps)
 *
 * Forward reads x [rows, cols] and w [cols], overwrites y and `stats` (r; for layer also μ, in [2, rows]).
 * Backward reads x, w, stats, dy and overwrites dx, or adds to it. The gradients of w and b are column sums
 * (`kernels/column_sums.ts`).
 *
 * @module
 */
import { cachedKernel, type Launch, padded, type Profile, rowStride } from "./kernel.ts";
import { rowLayout } from "./rows.ts";

/** Which normalisation. */
export type NormKind = "rms" | "layer";

/** Size of a norm. */
export interface NormShape {
  kind: NormKind;
  rows: number;
  cols: number;
  eps: number;
  /** The gain is 1 + w. */
  plusOne?: boolean;
}

/** WGSL of the gain of quad `i`. */
const gain = (plusOne?: boolean) => plusOne ? "(1.0 + w[i])" : "w[i]";

/** True for the columns of quad `i` that are not padding: there a mean is not subtracted. */
const INSIDE = "vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u) < vec4u(u.cols)";

/** y = norm(x). `stats` has rows floats (rms) or 2·rows (layer: r, then μ). `b` only for layer. */
export function norm<B>(
  profile: Profile,
  buffers: { x: B; w: B; b?: B; y: B; stats: B },
  { kind, rows, cols, eps, plusOne }: NormShape,
): Launch<B> {
  const layout = rowLayout(profile);
  const kernel = cachedKernel(`norm_${kind}${plusOne ? "_plus" : ""}_${profile.kind}`, () => ({
    storage: {
      x: "vec4f",
      w: "vec4f",
      ...(kind === "layer" ? { b: "vec4f" } : {}),
      y: "vec4f",
      stats: "f32",
    },
    writes: ["y", "stats"],
    uniforms: { rows: "u32", cols: "u32", quads: "u32", ld: "u32", eps: "f32" },
    workgroup: layout.workgroup,
    module: layout.module,
    body: `
  let row = ${layout.row};
  if (row >= u.rows) { return; }
  let base = row * u.ld;
  let count = f32(u.cols);
  ${
      kind === "rms" ? "let mean = 0.0;" : `var total = vec4f();
  for (var i = ${layout.first}; i < u.quads; i += ${layout.step}) { total += x[base + i]; }
  ${layout.sum("totalSum", "total.x + total.y + total.z + total.w")}
  let mean = totalSum / count;`
    }
  var squares = vec4f();
  for (var i = ${layout.first}; i < u.quads; i += ${layout.step}) {
    let d = ${kind === "rms" ? "x[base + i]" : `select(vec4f(), x[base + i] - mean, ${INSIDE})`};
    squares = fma(d, d, squares);
  }
  ${layout.sum("squareSum", "squares.x + squares.y + squares.z + squares.w")}
  let r = inverseSqrt(squareSum / count + u.eps);
  if (${layout.leader}) {
    stats[row] = r;
    ${kind === "layer" ? "stats[u.rows + row] = mean;" : ""}
  }
  for (var i = ${layout.first}; i < u.quads; i += ${layout.step}) {
    y[base + i] = (x[base + i] - mean) * r * ${gain(plusOne)}${kind === "layer" ? " + b[i]" : ""};
  }`,
  }));
  return {
    kernel,
    buffers: buffers as unknown as Record<string, B>,
    uniforms: { rows, cols, quads: padded(cols) / 4, ld: rowStride(cols) / 4, eps },
    grid: layout.grid(rows),
  };
}

/** dx = dL/dx, or += when `accumulate`. */
export function normBackward<B>(
  profile: Profile,
  buffers: { x: B; w: B; stats: B; dy: B; dx: B },
  { kind, rows, cols, plusOne }: NormShape,
  accumulate: boolean,
): Launch<B> {
  const layout = rowLayout(profile);
  const name = `${kind}${plusOne ? "_plus" : ""}${accumulate ? "_add" : ""}_${profile.kind}`;
  const kernel = cachedKernel(`norm_backward_${name}`, () => ({
    storage: { x: "vec4f", w: "vec4f", stats: "f32", dy: "vec4f", dx: "vec4f" },
    writes: ["dx"],
    uniforms: { rows: "u32", cols: "u32", quads: "u32", ld: "u32" },
    workgroup: layout.workgroup,
    module: layout.module,
    body: `
  let row = ${layout.row};
  if (row >= u.rows) { return; }
  let base = row * u.ld;
  let r = stats[row];
  let mean = ${kind === "layer" ? "stats[u.rows + row]" : "0.0"};
  var along = vec4f();
  ${kind === "layer" ? "var plain = vec4f();" : ""}
  for (var i = ${layout.first}; i < u.quads; i += ${layout.step}) {
    let g = dy[base + i] * ${gain(plusOne)};
    along = fma(g, (x[base + i] - mean) * r, along);
    ${kind === "layer" ? "plain += g;" : ""}
  }
  ${layout.sum("alongSum", "along.x + along.y + along.z + along.w")}
  let a = alongSum / f32(u.cols);
  ${
      kind === "layer"
        ? `${layout.sum("plainSum", "plain.x + plain.y + plain.z + plain.w")}
  let p = plainSum / f32(u.cols);`
        : ""
    }
  for (var i = ${layout.first}; i < u.quads; i += ${layout.step}) {
    let xhat = (x[base + i] - mean) * r;
    var d = r * (dy[base + i] * ${gain(plusOne)} - xhat * a${kind === "layer" ? " - p" : ""});
    ${kind === "layer" ? `d = select(vec4f(), d, ${INSIDE});` : ""}
    dx[base + i] = ${accumulate ? "dx[base + i] + d" : "d"};
  }`,
  }));
  return {
    kernel,
    buffers,
    uniforms: { rows, cols, quads: padded(cols) / 4, ld: rowStride(cols) / 4 },
    grid: layout.grid(rows),
  };
}
