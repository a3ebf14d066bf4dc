/**
 * Moving one array towards another, as running averages of weights do.
 *
 * @module
 */
import { cachedKernel, type Launch, LINEAR_GROUP, linearGrid, type Profile } from "./kernel.ts";

const WORKGROUP = 64;

/** y = y + share[0] · (x − y) over `count` floats. */
export function blend<B>(
  _profile: Profile,
  buffers: { x: B; y: B; share: B },
  { count }: { count: number },
): Launch<B> {
  const kernel = cachedKernel("blend", () => ({
    storage: { x: "vec4f", y: "vec4f", share: "f32" },
    writes: ["y"],
    uniforms: { quads: "u32" },
    workgroup: WORKGROUP,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i < u.quads) { y[i] = y[i] + share[0] * (x[i] - y[i]); }`,
  }));
  const quads = Math.ceil(count / 4);
  return { kernel, buffers, uniforms: { quads }, grid: linearGrid(Math.ceil(quads / WORKGROUP)) };
}
