/**
 * Activations of the feed-forward block.
 *
 *   swiglu (arXiv 2002.05202): y = silu(gate) · up, x [rows, 2·cols'] = [gate | up], cols' = padded(cols)
 *   geglu (the same): y = gelu(gate) · up
 *   gelu (arXiv 1606.08415, tanh form): y = ½x(1 + tanh(√(2/π)(x + 0.044715x³)))
 *   gelu_erf (the same, exact form): y = ½x(1 + erf(x/√2))
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
export type Activation = "swiglu" | "geglu" | "gelu" | "gelu_erf";

/** Whether an activation takes gates and ups, twice the columns that it gives. */
export function isGated(kind: Activation): kind is "swiglu" | "geglu" {
  return kind === "swiglu" || kind === "geglu";
}

// ½(1 + tanh z) = σ(2z): one exponential instead of a tanh, whose argument is clamped where the result is 0 or 1 anyway.
const SHARE = `fn share(x: vec4f) -> vec4f {
  let twice = 1.5957691216057308 * (x + 0.044715 * x * x * x);
  return 1.0 / (1.0 + exp(clamp(-twice, vec4f(-60.0), vec4f(60.0))));
}`;

// The normal distribution, Φ(x) = ½(1 + erf(x/√2)). Both polynomials are our own Chebyshev fits: erf(z)/z in z² below z = 1, and
// beyond it erfc(z)·exp(z²)/t in t = 1/(1 + z/2); together they are within 1.3e-7.
const NORMAL = `fn normal(x: vec4f) -> vec4f {
  let z = abs(x) * 0.70710678118654752;
  let y = z * z;
  var p = vec4f(7.88249712e-05);
  ${
  [-0.0008018855, 0.00518931194, -0.0268543288, 0.112835975, -0.376126269, 1.12837917]
    .map((c) => `p = fma(p, y, vec4f(${c}));`).join(" ")
}
  let t = 1.0 / (1.0 + 0.5 * z);
  var q = vec4f(0.0741725628);
  ${
  [-0.32402373, 0.360871782, 0.0486280146, 0.280175242, 0.277428702, 0.282367019]
    .map((c) => `q = fma(q, t, vec4f(${c}));`).join(" ")
}
  let tail = 0.5 * select(t * q * exp(-min(y, vec4f(80.0))), 1.0 - z * p, z < vec4f(1.0));
  return select(tail, 1.0 - tail, x > vec4f());
}`;

/** WGSL of the functions `gelu(x)`, `gelu_erf(x)`, `swiglu(gate, up)` and `geglu(gate, up)` on vec4s. */
export const ACTIVATION_CODE: Record<Activation, string> = {
  gelu: `${SHARE}
fn gelu(x: vec4f) -> vec4f { return x * share(x); }`,
  gelu_erf: `${NORMAL}
fn gelu_erf(x: vec4f) -> vec4f { return x * normal(x); }`,
  swiglu: "fn swiglu(gate: vec4f, up: vec4f) -> vec4f { return gate / (1.0 + exp(-gate)) * up; }",
  geglu: `${SHARE}
fn geglu(gate: vec4f, up: vec4f) -> vec4f { return gate * share(gate) * up; }`,
};

/** Slope of {@linkcode SHARE}'s argument. */
const slope = (x: string) => `(1.5957691216057308 * (1.0 + 0.134145 * ${x} * ${x}))`;

/** Statements that fill dx, and the functions that they call. */
const BACKWARD: Record<Activation, { module: string; body: string }> = {
  gelu: {
    module: SHARE,
    body: `let v = x[at];
  let s = share(v);
  dx[at] = dy[to] * (s + v * s * (1.0 - s) * ${slope("v")});`,
  },
  gelu_erf: {
    module: NORMAL,
    body: `let v = x[at];
  dx[at] = dy[to] * (normal(v) + v * 0.3989422804014327 * exp(-0.5 * v * v));`,
  },
  swiglu: {
    module: "",
    body: `let gate = x[at];
  let up = x[at + u.quads];
  let s = 1.0 / (1.0 + exp(-gate));
  let d = dy[to];
  dx[at] = d * up * s * (1.0 + gate * (1.0 - s));
  dx[at + u.quads] = d * gate * s;`,
  },
  geglu: {
    module: SHARE,
    body: `let gate = x[at];
  let up = x[at + u.quads];
  let s = share(gate);
  let d = dy[to];
  dx[at] = d * up * (s + gate * s * (1.0 - s) * ${slope("gate")});
  dx[at + u.quads] = d * gate * s;`,
  },
};

/** Where vec4 number i of the result lies, in x (`at`, the gate for swiglu) and in y (`to`). */
const PLACE = `let row = i / u.quads;
  let quad = i % u.quads;
  let at = row * u.ldx + quad;
  let to = row * u.ldy + quad;`;

/** y = activation(x): x [rows, 2·padded(cols)] where it is gated, else [rows, cols]; y [rows, cols]. */
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
  y[to] = ${kind}(x[at]${isGated(kind) ? ", x[at + u.quads]" : ""});`,
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
    module: BACKWARD[kind].module,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.count) { return; }
  ${PLACE}
  ${BACKWARD[kind].body}`,
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
  const ldx = rowStride(isGated(kind) ? 2 * width : cols) / 4, ldy = rowStride(cols) / 4;
  return {
    kernel,
    buffers,
    uniforms: { count, quads, ldx, ldy },
    grid: linearGrid(Math.ceil(count / WORKGROUP)),
  };
}
