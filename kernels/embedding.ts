/**
 * Embedding lookup and its deterministic gradient.
 *
 * Forward: y[t] = table[ids[t]], or += (a second table, e.g. learned positions).
 * Backward: dtable[v] += Σ dy[t] over the tokens with ids[t] = v. `order` lists the tokens sorted by id (stable), so each
 * run of equal ids is summed by one invocation, in token order, without atomics.
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

/** Size of a lookup. Ids at or past `vocab` read row 0. */
export interface EmbeddingShape {
  tokens: number;
  vocab: number;
  cols: number;
}

/** y = table[ids], or += when `accumulate`. */
export function embedding<B>(
  _profile: Profile,
  buffers: { ids: B; table: B; y: B },
  { tokens, vocab, cols }: EmbeddingShape,
  accumulate = false,
): Launch<B> {
  const kernel = cachedKernel(`embedding${accumulate ? "_add" : ""}`, () => ({
    storage: { ids: "u32", table: "vec4f", y: "vec4f" },
    writes: ["y"],
    uniforms: { count: "u32", quads: "u32", ld: "u32", vocab: "u32" },
    workgroup: WORKGROUP,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.count) { return; }
  let token = i / u.quads;
  let quad = i % u.quads;
  let id = ids[token];
  let row = select(0u, id, id < u.vocab);
  let at = token * u.ld + quad;
  y[at] = ${accumulate ? "y[at] + " : ""}table[row * u.ld + quad];`,
  }));
  const quads = padded(cols) / 4, count = tokens * quads;
  return {
    kernel,
    buffers,
    uniforms: { count, quads, ld: rowStride(cols) / 4, vocab },
    grid: linearGrid(Math.ceil(count / WORKGROUP)),
  };
}

/** dtable += scattered dy. */
export function embeddingBackward<B>(
  _profile: Profile,
  buffers: { ids: B; order: B; dy: B; dtable: B },
  { tokens, vocab, cols }: EmbeddingShape,
): Launch<B> {
  const kernel = cachedKernel("embedding_backward", () => ({
    storage: { ids: "u32", order: "u32", dy: "vec4f", dtable: "vec4f" },
    writes: ["dtable"],
    uniforms: { tokens: "u32", quads: "u32", ld: "u32", vocab: "u32" },
    workgroup: WORKGROUP,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  let place = i / u.quads;
  if (place >= u.tokens) { return; }
  let quad = i % u.quads;
  let id = ids[order[place]];
  if (id >= u.vocab) { return; }
  if (place > 0u) {
    if (ids[order[place - 1u]] == id) { return; }
  }
  var total = vec4f();
  for (var j = place; j < u.tokens; j++) {
    let token = order[j];
    if (ids[token] != id) { break; }
    total += dy[token * u.ld + quad];
  }
  dtable[id * u.ld + quad] += total;`,
  }));
  const quads = padded(cols) / 4;
  return {
    kernel,
    buffers,
    uniforms: { tokens, quads, ld: rowStride(cols) / 4, vocab },
    grid: linearGrid(Math.ceil(tokens * quads / WORKGROUP)),
  };
}
