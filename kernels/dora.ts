/**
 * What weight-decomposed adapters (DoRA, arXiv 2402.09353) add to low-rank ones: every output is scaled with m / ‖W + s·B·A‖,
 * the norm over its row, taken as a constant in the gradient.
 *
 * A module's outputs are `count` columns from `first` on of a wider matrix z [rows, cols]; columns of no module keep gain 1.
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

const WORKGROUP = 64;

/** A module's outputs among the columns. */
export interface Outputs {
  first: number;
  count: number;
}

/** For the rows r from `first` on of w [rows, cols]: norm[r] = ‖row‖, gain[r] = m[r − first] / norm, or 0 where the norm is 0. */
export function rowGains<B>(
  profile: Profile,
  buffers: { w: B; m: B; norm: B; gain: B },
  { first, count, cols }: Outputs & { cols: number },
): Launch<B> {
  const layout = rowLayout(profile);
  const kernel = cachedKernel(`dora_gains_${profile.kind}`, () => ({
    storage: { w: "vec4f", m: "f32", norm: "f32", gain: "f32" },
    writes: ["norm", "gain"],
    uniforms: { rows: "u32", quads: "u32", ld: "u32", first: "u32" },
    workgroup: layout.workgroup,
    module: layout.module,
    body: `
  let row = ${layout.row};
  if (row >= u.rows) { return; }
  var squares = vec4f();
  for (var i = ${layout.first}; i < u.quads; i += ${layout.step}) {
    let x = w[(u.first + row) * u.ld + i];
    squares = fma(x, x, squares);
  }
  ${layout.sum("total", "squares.x + squares.y + squares.z + squares.w")}
  if (${layout.leader}) {
    norm[u.first + row] = sqrt(total);
    gain[u.first + row] = select(0.0, m[row] / sqrt(total), total > 0.0);
  }`,
  }));
  return {
    kernel,
    buffers,
    uniforms: { rows: count, quads: padded(cols) / 4, ld: rowStride(cols) / 4, first },
    grid: layout.grid(count),
  };
}

/** y[r, c] = gain[c] · z[r, c] (+ bias[c]), or += when `accumulate`. */
export function scaleColumns<B>(
  _profile: Profile,
  buffers: { z: B; gain: B; y: B; bias?: B },
  { rows, cols }: { rows: number; cols: number },
  accumulate = false,
): Launch<B> {
  const shifted = buffers.bias !== undefined;
  const name = `scale_columns${shifted ? "_bias" : ""}${accumulate ? "_add" : ""}`;
  const kernel = cachedKernel(name, () => ({
    storage: { z: "vec4f", gain: "vec4f", y: "vec4f", ...(shifted ? { bias: "vec4f" } : {}) },
    writes: ["y"],
    uniforms: { count: "u32", quads: "u32", ld: "u32" },
    workgroup: WORKGROUP,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.count) { return; }
  let at = i / u.quads * u.ld + i % u.quads;
  y[at] = ${accumulate ? "y[at] + " : ""}gain[i % u.quads] * z[at]${shifted ? " + bias[i % u.quads]" : ""};`,
  }));
  const quads = padded(cols) / 4, count = rows * quads;
  return {
    kernel,
    buffers: buffers as unknown as Record<string, B>,
    uniforms: { count, quads, ld: rowStride(cols) / 4 },
    grid: linearGrid(Math.ceil(count / WORKGROUP)),
  };
}

/** dm[r] += dgain[first + r] / norm[first + r]. */
export function magnitudeGradient<B>(
  _profile: Profile,
  buffers: { dgain: B; norm: B; dm: B },
  { first, count }: Outputs,
): Launch<B> {
  const kernel = cachedKernel("dora_magnitude", () => ({
    storage: { dgain: "f32", norm: "f32", dm: "f32" },
    writes: ["dm"],
    uniforms: { count: "u32", first: "u32" },
    workgroup: WORKGROUP,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.count) { return; }
  let n = norm[u.first + i];
  dm[i] += select(0.0, dgain[u.first + i] / n, n > 0.0);`,
  }));
  return {
    kernel,
    buffers,
    uniforms: { count, first },
    grid: linearGrid(Math.ceil(count / WORKGROUP)),
  };
}
