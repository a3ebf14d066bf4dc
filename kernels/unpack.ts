/**
 * A stored matrix (`storage.ts`) as plain float32: y [rows, cols] = stored.
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
import { loadStored, type Storage, storedStride } from "./storage.ts";

const WORKGROUP = 64;

/** y = the matrix, from row `first` on. */
export function unpack<B>(
  _profile: Profile,
  buffers: { x: B; y: B },
  { rows, cols, storage, first = 0 }: { rows: number; cols: number; storage: Storage; first?: number },
): Launch<B> {
  const isPlain = storage === "F32";
  const kernel = cachedKernel(`unpack_${storage}`, () => ({
    storage: { x: isPlain ? "vec4f" : "u32", y: "vec4f" },
    writes: ["y"],
    uniforms: { count: "u32", quads: "u32", ldx: "u32", ldy: "u32", first: "u32" },
    workgroup: WORKGROUP,
    module: isPlain ? "" : loadStored(storage, "x"),
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.count) { return; }
  let at = i / u.quads * u.ldx + i % u.quads;
  y[(u.first + i / u.quads) * u.ldy + i % u.quads] = ${isPlain ? "x[at]" : "load_x(at)"};`,
  }));
  const quads = padded(cols) / 4, count = rows * quads;
  return {
    kernel,
    buffers,
    uniforms: { count, quads, ldx: storedStride(storage, cols), ldy: rowStride(cols) / 4, first },
    grid: linearGrid(Math.ceil(count / WORKGROUP)),
  };
}
