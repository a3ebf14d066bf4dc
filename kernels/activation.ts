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

/** Which activation. */
export type Activation = "swiglu" | "gelu";

// ½(1 + tanh z) = σ(2z): one exponential instead of a tanh, whose argument is clamped where the result is 0 or 1 anyway.
const SHARE = `fn share(x: vec4f) -> vec4f {
  let twice = 1.5957691216057308 * (x + 0.044715 * x * x * x);
  return 1.0 / (1.0 + exp(clamp(-twice, vec4f(-60.0), vec4f(60.0))));
}`;

/** WGSL of the functions `gelu(x)` and `swiglu(gate, up)` on vec4s. */
export const ACTIVATION_CODE: Record<Activation, string> = {
  gelu: `${SHARE}
fn gelu(x: vec4f) -> vec4f { return x * share(x); }`,
  swiglu: "fn swiglu(gate: vec4f, up: vec4f) -> vec4f { return gate / (1.0 + exp(-gate)) * up; }",
};

/** Where vec4 number i of the result lies, in x (`at`, the gate for swiglu) and in y (`to`). */
const PLACE = `let row = i / u.quads;
  let quad = i % u.quads;
  let at = row * u.ldx + quad;
  let to = row * u.ldy + quad;`;

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
    uniforms: { count: "u32", quads: "u32", ldx: "u32", ldy: "u32" },
    workgroup: WORKGROUP,
    module: ACTIVATION_CODE[kind],
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.count) { return; }
  ${PLACE}
  y[to] = ${kind === "gelu" ? "gelu(x[at])" : "swiglu(x[at], x[at + u.quads])"};`,
  }));
  return launch(kernel, kind, buffers, rows, cols);
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
    uniforms: { count: "u32", quads: "u32", ldx: "u32", ldy: "u32" },
    workgroup: WORKGROUP,
    module: kind === "gelu" ? SHARE : "",
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.count) { return; }
  ${PLACE}
  ${
      kind === "gelu"
        ? `let v = x[at];
  let s = share(v);
  let slope = 1.5957691216057308 * (1.0 + 0.134145 * v * v);
  dx[at] = dy[to] * (s + v * s * (1.0 - s) * slope);`
        : `let gate = x[at];
  let up = x[at + u.quads];
  let s = 1.0 / (1.0 + exp(-gate));
  let d = dy[to];
  dx[at] = d * up * s * (1.0 + gate * (1.0 - s));
  dx[at + u.quads] = d * gate * s;`
    }`,
  }));
  return launch(kernel, kind, buffers, rows, cols);
}

function launch<B>(
  kernel: Launch<B>["kernel"],
  kind: Activation,
  buffers: Record<string, B>,
  rows: number,
  cols: number,
): Launch<B> {
  const width = padded(cols), quads = width / 4, count = rows * quads;
  const ldx = rowStride(kind === "swiglu" ? 2 * width : cols) / 4, ldy = rowStride(cols) / 4;
  return {
    kernel,
    buffers,
    uniforms: { count, quads, ldx, ldy },
    grid: linearGrid(Math.ceil(count / WORKGROUP)),
  };
}
