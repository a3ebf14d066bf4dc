/**
 * A head with one output: out[r] = Σ_c x[r, c] · w[c], for reward and value models.
 *
 * The gradient of w is a column sum (`kernels/column_sums.ts`, kind `rows`).
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
import { rowLayout } from "./rows.ts";

/** out [rows] = x [rows, cols] · w [cols]. */
export function rowDot<B>(
  profile: Profile,
  buffers: { x: B; w: B; out: B },
  { rows, cols }: { rows: number; cols: number },
): Launch<B> {
  const layout = rowLayout(profile);
  const kernel = cachedKernel(`row_dot_${profile.kind}`, () => ({
    storage: { x: "vec4f", w: "vec4f", out: "f32" },
    writes: ["out"],
    uniforms: { rows: "u32", quads: "u32", ld: "u32" },
    workgroup: layout.workgroup,
    module: layout.module,
    body: `
  let row = ${layout.row};
  if (row >= u.rows) { return; }
  var total = vec4f();
  for (var i = ${layout.first}; i < u.quads; i += ${layout.step}) {
    total = fma(x[row * u.ld + i], w[i], total);
  }
  ${layout.sum("all", "total.x + total.y + total.z + total.w")}
  if (${layout.leader}) { out[row] = all; }`,
  }));
  return {
    kernel,
    buffers,
    uniforms: { rows, quads: padded(cols) / 4, ld: rowStride(cols) / 4 },
    grid: layout.grid(rows),
  };
}

const WORKGROUP = 64;

/** dx[r, c] = dout[r] · w[c], or += when `accumulate`. */
export function rowDotBackward<B>(
  _profile: Profile,
  buffers: { dout: B; w: B; dx: B },
  { rows, cols }: { rows: number; cols: number },
  accumulate: boolean,
): Launch<B> {
  const kernel = cachedKernel(`row_dot_backward${accumulate ? "_add" : ""}`, () => ({
    storage: { dout: "f32", w: "vec4f", dx: "vec4f" },
    writes: ["dx"],
    uniforms: { count: "u32", quads: "u32", ld: "u32" },
    workgroup: WORKGROUP,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.count) { return; }
  let row = i / u.quads;
  let quad = i % u.quads;
  let at = row * u.ld + quad;
  dx[at] = ${accumulate ? "dx[at] + " : ""}dout[row] * w[quad];`,
  }));
  const quads = padded(cols) / 4, count = rows * quads;
  return {
    kernel,
    buffers,
    uniforms: { count, quads, ld: rowStride(cols) / 4 },
    grid: linearGrid(Math.ceil(count / WORKGROUP)),
  };
}
