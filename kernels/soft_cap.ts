/**
 * Soft caps (Gemma 2, arXiv 2408.00118): y = cap · tanh(x / cap), for logits and, inside the attention kernels, for scores.
 *
 * @module
 */
import { cachedKernel, type Launch, LINEAR_GROUP, linearGrid, type Profile } from "./kernel.ts";

const WORKGROUP = 64;

/** What WGSL promises of tanh is too little, and so is what some drivers keep. The polynomial is our own Chebyshev fit. */
function tanhCode(type: "f32" | "vec4f"): string {
  const constant = (x: string) => type === "f32" ? x : `vec4f(${x})`;
  return `fn exact_tanh(x: ${type}) -> ${type} {
  let y = x * x;
  var p = ${constant("-0.00627639014714276")};
  ${
    ["0.02111621602770039", "-0.05387513875212645", "0.13332924012042002", "-0.33333330431495545"]
      .map((c) => `p = fma(p, y, ${constant(c)});`).join(" ")
  }
  let size = abs(x);
  let large = sign(x) * (1.0 - 2.0 / (exp(min(2.0 * size, ${constant("60.0")})) + 1.0));
  return select(large, fma(x * y, p, x), size < ${constant("0.6")});
}`;
}

/** WGSL of `capped(s)`, a score s under the cap `u.cap`, and of `slope(c)`, its derivative where the capped score is c. */
export const CAPPED_SCORE = `${tanhCode("f32")}
fn capped(s: f32) -> f32 { return u.cap * exact_tanh(s / u.cap); }
fn slope(c: f32) -> f32 { return 1.0 - (c / u.cap) * (c / u.cap); }`;

/** y = cap · tanh(x / cap) over `count` floats. */
export function softCap<B>(
  _profile: Profile,
  buffers: { x: B; y: B },
  { count, cap }: { count: number; cap: number },
): Launch<B> {
  const kernel = cachedKernel("soft_cap", () => ({
    storage: { x: "vec4f", y: "vec4f" },
    writes: ["y"],
    uniforms: { quads: "u32", cap: "f32" },
    workgroup: WORKGROUP,
    module: tanhCode("vec4f"),
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i < u.quads) { y[i] = u.cap * exact_tanh(x[i] / u.cap); }`,
  }));
  return launch(kernel, buffers, count, cap);
}

/** d = d · (1 − tanh²(x / cap)) in place: the gradient by y becomes the gradient by x. */
export function softCapBackward<B>(
  _profile: Profile,
  buffers: { x: B; d: B },
  { count, cap }: { count: number; cap: number },
): Launch<B> {
  const kernel = cachedKernel("soft_cap_backward", () => ({
    storage: { x: "vec4f", d: "vec4f" },
    writes: ["d"],
    uniforms: { quads: "u32", cap: "f32" },
    workgroup: WORKGROUP,
    module: tanhCode("vec4f"),
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.quads) { return; }
  let t = exact_tanh(x[i] / u.cap);
  d[i] = d[i] * (1.0 - t * t);`,
  }));
  return launch(kernel, buffers, count, cap);
}

function launch<B>(
  kernel: Launch<B>["kernel"],
  buffers: Record<string, B>,
  count: number,
  cap: number,
): Launch<B> {
  const quads = Math.ceil(count / 4);
  return { kernel, buffers, uniforms: { quads, cap }, grid: linearGrid(Math.ceil(quads / WORKGROUP)) };
}
