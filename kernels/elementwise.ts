/**
 * Elementwise maps, written as one WGSL expression over vec4s.
 *
 * `out[i] = expression(a, b, c, …)`; an input listed in `scalars` is one float for all elements. `accumulate` adds to out.
 *
 * @module
 */
import { cachedKernel, type Launch, LINEAR_GROUP, linearGrid, type Profile } from "./kernel.ts";

const WORKGROUP = 64;

/** An elementwise map. The name identifies the expression. */
export interface Elementwise {
  name: string;
  /** WGSL over the input names (vec4f each); must not name `out`. */
  expression: string;
  /** Inputs that are a single float. */
  scalars?: string[];
  accumulate?: boolean;
}

/** out = expression(inputs) over `count` floats (rounded up to whole vec4s). */
export function elementwise<B>(
  _profile: Profile,
  { name, expression, scalars = [], accumulate = false }: Elementwise,
  inputs: Record<string, B>,
  out: B,
  count: number,
): Launch<B> {
  const names = Object.keys(inputs);
  const key = `${name}${scalars.length ? `_${scalars.join("")}` : ""}${accumulate ? "_add" : ""}`;
  const kernel = cachedKernel(`map_${key}`, () => ({
    storage: {
      ...Object.fromEntries(names.map((n) => [`in_${n}`, scalars.includes(n) ? "f32" : "vec4f"])),
      out: "vec4f",
    },
    writes: ["out"],
    uniforms: { quads: "u32" },
    workgroup: WORKGROUP,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.quads) { return; }
${names.map((n) => `  let ${n} = ${scalars.includes(n) ? `vec4f(in_${n}[0])` : `in_${n}[i]`};`).join("\n")}
  out[i] = ${accumulate ? "out[i] + " : ""}(${expression});`,
  }));
  const quads = Math.ceil(count / 4);
  return {
    kernel,
    buffers: { ...Object.fromEntries(names.map((n) => [`in_${n}`, inputs[n]])), out },
    uniforms: { quads },
    grid: linearGrid(Math.ceil(quads / WORKGROUP)),
  };
}

/** Sets `count` floats to `value`. */
export function fill<B>(_profile: Profile, out: B, count: number, value: number): Launch<B> {
  const kernel = cachedKernel("fill", () => ({
    storage: { out: "vec4f" },
    writes: ["out"],
    uniforms: { quads: "u32", value: "f32" },
    workgroup: WORKGROUP,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i < u.quads) { out[i] = vec4f(u.value); }`,
  }));
  const quads = Math.ceil(count / 4);
  return {
    kernel,
    buffers: { out },
    uniforms: { quads, value },
    grid: linearGrid(Math.ceil(quads / WORKGROUP)),
  };
}
