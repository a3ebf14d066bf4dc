/**
 * Activations of the feed-forward block.
 *
 *   swiglu (arXiv 2002.05202): y = silu(gate) · up, x [rows, 2·cols'] = [gate | up], cols' = padded(cols)
 *   gelu (arXiv 1606.08415, tanh form): y = ½x(1 + tanh(√(2/π)(x + 0.044715x³)))
 *
 * Padding columns are zero in x and stay zero in y and dx.
 *
 * @module
 */
import { cachedKernel, type Launch, LINEAR_GROUP, linearGrid, padded, type Profile } from "./kernel.ts";

const WORKGROUP = 64;

/** Which activation. */
export type Activation = "swiglu" | "gelu";

// tanh overflows to NaN on some drivers for large arguments, so its argument is clamped where the result is ±1 anyway.
const GELU = `fn inner(x: vec4f) -> vec4f {
  return tanh(clamp(0.7978845608028654 * (x + 0.044715 * x * x * x), vec4f(-15.0), vec4f(15.0)));
}`;

/** y = activation(x): x [rows, 2·padded(cols)] for swiglu, [rows, cols] for gelu; y [rows, cols]. */
export function activation<B>(
  _profile: Profile,
  kind: Activation,
  buffers: { x: B; y: B },
  { rows, cols }: { rows: number; cols: number },
): Launch<B> {
  const kernel = cachedKernel(kind, () => ({
    storage: { x: "vec4f", y: "vec4f" },
    writes: ["y"],
    uniforms: { count: "u32", quads: "u32" },
    workgroup: WORKGROUP,
    module: kind === "gelu" ? GELU : "",
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.count) { return; }
  ${
      kind === "gelu"
        ? `let v = x[i];
  y[i] = 0.5 * v * (1.0 + inner(v));`
        : `let at = i + i / u.quads * u.quads;
  let gate = x[at];
  y[i] = gate / (1.0 + exp(-gate)) * x[at + u.quads];`
    }`,
  }));
  return launch(kernel, buffers, rows, cols);
}

/** dx = dL/dx from x and dy. */
export function activationBackward<B>(
  _profile: Profile,
  kind: Activation,
  buffers: { x: B; dy: B; dx: B },
  { rows, cols }: { rows: number; cols: number },
): Launch<B> {
  const kernel = cachedKernel(`${kind}_backward`, () => ({
    storage: { x: "vec4f", dy: "vec4f", dx: "vec4f" },
    writes: ["dx"],
    uniforms: { count: "u32", quads: "u32" },
    workgroup: WORKGROUP,
    module: kind === "gelu" ? GELU : "",
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.count) { return; }
  ${
      kind === "gelu"
        ? `let v = x[i];
  let t = inner(v);
  let slope = 0.7978845608028654 * (1.0 + 0.134145 * v * v);
  dx[i] = dy[i] * (0.5 * (1.0 + t) + 0.5 * v * (1.0 - t * t) * slope);`
        : `let at = i + i / u.quads * u.quads;
  let gate = x[at];
  let up = x[at + u.quads];
  let s = 1.0 / (1.0 + exp(-gate));
  let d = dy[i];
  dx[at] = d * up * s * (1.0 + gate * (1.0 - s));
  dx[at + u.quads] = d * gate * s;`
    }`,
  }));
  return launch(kernel, buffers, rows, cols);
}

function launch<B>(
  kernel: Launch<B>["kernel"],
  buffers: Record<string, B>,
  rows: number,
  cols: number,
): Launch<B> {
  const quads = padded(cols) / 4, count = rows * quads;
  return { kernel, buffers, uniforms: { count, quads }, grid: linearGrid(Math.ceil(count / WORKGROUP)) };
}
