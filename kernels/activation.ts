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

// ½(1 + tanh z) = σ(2z): one exponential instead of a tanh, whose argument is clamped where the result is 0 or 1 anyway.
const GELU = `fn share(x: vec4f) -> vec4f {
  let twice = 1.5957691216057308 * (x + 0.044715 * x * x * x);
  return 1.0 / (1.0 + exp(clamp(-twice, vec4f(-60.0), vec4f(60.0))));
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
  y[i] = v * share(v);`
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
  let s = share(v);
  let slope = 1.5957691216057308 * (1.0 + 0.134145 * v * v);
  dx[i] = dy[i] * (s + v * s * (1.0 - s) * slope);`
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
