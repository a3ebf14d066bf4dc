/**
 * Filling the cache of keys and values from a packed prefill; its layout is described in `attention_decode.ts`.
 *
 * @module
 */
import { type DecodeShape, qkvStride } from "./attention_decode.ts";
import { quadsOf } from "./attention_text.ts";
import { cachedKernel, type Launch, LINEAR_GROUP, linearGrid, type Profile } from "./kernel.ts";

const WORKGROUP = 64;

/**
 * keys, values [row, s] = k, v of token first[row] + s of a packed prefill, for s < lengths[row]; `first` and `lengths` are
 * [rows] u32, no length exceeds `maxLength`.
 */
export function cacheFill<B>(
  _profile: Profile,
  buffers: { qkv: B; first: B; lengths: B; keys: B; values: B },
  { rows, maxLength, capacity, heads, kvHeads, headDim }: DecodeShape & { maxLength: number },
): Launch<B> {
  const kernel = cachedKernel("cache_fill", () => ({
    storage: { qkv: "vec4f", first: "u32", lengths: "u32", keys: "vec4f", values: "vec4f" },
    writes: ["keys", "values"],
    uniforms: { count: "u32", slots: "u32", capacity: "u32", ld: "u32", q: "u32", kv: "u32" },
    workgroup: WORKGROUP,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.count) { return; }
  let column = i % u.kv;
  let slot = i / u.kv % u.slots;
  let row = i / u.kv / u.slots;
  if (slot >= lengths[row]) { return; }
  let source = (first[row] + slot) * u.ld + u.q + column;
  let place = (row * u.capacity + slot) * u.kv + column;
  keys[place] = qkv[source];
  values[place] = qkv[source + u.kv];`,
  }));
  const slots = Math.min(maxLength, capacity);
  const quads = quadsOf(headDim), kv = kvHeads * quads, count = rows * slots * kv;
  return {
    kernel,
    buffers,
    uniforms: { count, slots, capacity, ld: qkvStride(heads, kvHeads, quads), q: heads * quads, kv },
    grid: linearGrid(Math.ceil(count / WORKGROUP)),
  };
}
