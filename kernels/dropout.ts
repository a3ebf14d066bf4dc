/**
 * Dropout: y = x / (1 − rate) where a random number is at least `rate`, else 0.
 *
 * The numbers are Philox's, keyed by `key` [2] u32 and counted by `salt`, row and vec4: the same launch with other buffers makes
 * the same choice, so the gradient is the same kernel over dy. x and y are [rows, cols]; padding columns stay zero.
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
import { PHILOX } from "./philox.ts";

const WORKGROUP = 64;

/** Size and chance of a dropout; `salt` tells launches of one key apart. */
export interface DropoutShape {
  rows: number;
  cols: number;
  rate: number;
  salt: number;
}

/** y = dropout(x), or += when `accumulate`. */
export function dropout<B>(
  _profile: Profile,
  buffers: { x: B; key: B; y: B },
  { rows, cols, rate, salt }: DropoutShape,
  accumulate = false,
): Launch<B> {
  const kernel = cachedKernel(`dropout${accumulate ? "_add" : ""}`, () => ({
    storage: { x: "vec4f", key: "u32", y: "vec4f" },
    writes: ["y"],
    uniforms: { count: "u32", quads: "u32", ld: "u32", salt: "u32", rate: "f32", scale: "f32" },
    workgroup: WORKGROUP,
    module: PHILOX,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.count) { return; }
  let row = i / u.quads;
  let quad = i % u.quads;
  let at = row * u.ld + quad;
  let words = philox(vec4u(quad, row, u.salt, 0x64726f70u), vec2u(key[0], key[1]));
  let chance = vec4f(unitFloat(words.x), unitFloat(words.y), unitFloat(words.z), unitFloat(words.w));
  let kept = select(vec4f(), u.scale * x[at], chance >= vec4f(u.rate));
  y[at] = ${accumulate ? "y[at] + " : ""}kept;`,
  }));
  const quads = padded(cols) / 4, count = rows * quads;
  return {
    kernel,
    buffers,
    uniforms: { count, quads, ld: rowStride(cols) / 4, salt, rate, scale: 1 / (1 - rate) },
    grid: linearGrid(Math.ceil(count / WORKGROUP)),
  };
}
