/**
 * Embedding lookup and its deterministic gradient.
 *
 * Forward: y[t] = scale · table[ids[t]], or += (a second table, e.g. learned positions).
 * Backward: dtable[v] += scale · Σ dy[t] over the tokens with ids[t] = v. `order` lists the tokens sorted by id (stable), so each
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
import { loadStored, type Storage, storedStride } from "./storage.ts";

const WORKGROUP = 64;

/** Size of a lookup. An id at or past all rows reads the first. */
export interface EmbeddingShape {
  tokens: number;
  /** Rows of the table that is bound. */
  vocab: number;
  /** Which rows of the whole table those are, where it is bound in parts, a launch each; all by default. */
  part?: { first: number; of: number };
  cols: number;
  /** Factor of every row, 1 by default. */
  scale?: number;
  /** How the table is stored (`storage.ts`); F32 by default, and only then there is a gradient. */
  storage?: Storage;
}

/** y = scale · table[ids], or += when `accumulate`. */
export function embedding<B>(
  _profile: Profile,
  buffers: { ids: B; table: B; y: B },
  shape: EmbeddingShape,
  accumulate = false,
): Launch<B> {
  const { tokens, vocab, cols, scale = 1, part = { first: 0, of: vocab } } = shape;
  const { storage = "F32" } = shape, isPlain = storage === "F32";
  const name = `embedding${isPlain ? "" : `_${storage}`}${accumulate ? "_add" : ""}`;
  const kernel = cachedKernel(name, () => ({
    storage: { ids: "u32", table: isPlain ? "vec4f" : "u32", y: "vec4f" },
    writes: ["y"],
    uniforms: {
      count: "u32",
      quads: "u32",
      ld: "u32",
      ldt: "u32",
      vocab: "u32",
      first: "u32",
      all: "u32",
      scale: "f32",
    },
    workgroup: WORKGROUP,
    module: isPlain ? "" : loadStored(storage, "table"),
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.count) { return; }
  let token = i / u.quads;
  let quad = i % u.quads;
  let id = ids[token];
  let row = select(0u, id, id < u.all) - u.first;
  if (row >= u.vocab) { return; }
  let at = token * u.ld + quad;
  let entry = row * u.ldt + quad;
  y[at] = ${accumulate ? "y[at] + " : ""}u.scale * ${isPlain ? "table[entry]" : "load_table(entry)"};`,
  }));
  const quads = padded(cols) / 4, count = tokens * quads;
  return {
    kernel,
    buffers,
    uniforms: {
      count,
      quads,
      ld: rowStride(cols) / 4,
      ldt: storedStride(storage, cols),
      vocab,
      first: part.first,
      all: part.of,
      scale,
    },
    grid: linearGrid(Math.ceil(count / WORKGROUP)),
  };
}

/** dtable += scale · scattered dy. */
export function embeddingBackward<B>(
  _profile: Profile,
  buffers: { ids: B; order: B; dy: B; dtable: B },
  { tokens, vocab, cols, scale = 1, part = { first: 0, of: vocab } }: EmbeddingShape,
): Launch<B> {
  const kernel = cachedKernel("embedding_backward", () => ({
    storage: { ids: "u32", order: "u32", dy: "vec4f", dtable: "vec4f" },
    writes: ["dtable"],
    uniforms: {
      tokens: "u32",
      quads: "u32",
      ld: "u32",
      vocab: "u32",
      first: "u32",
      all: "u32",
      scale: "f32",
    },
    workgroup: WORKGROUP,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  let place = i / u.quads;
  if (place >= u.tokens) { return; }
  let quad = i % u.quads;
  let id = ids[order[place]];
  if (id - u.first >= u.vocab) { return; }
  if (place > 0u) {
    if (ids[order[place - 1u]] == id) { return; }
  }
  var total = vec4f();
  for (var j = place; j < u.tokens; j++) {
    let token = order[j];
    if (ids[token] != id) { break; }
    total += dy[token * u.ld + quad];
  }
  dtable[(id - u.first) * u.ld + quad] += u.scale * total;`,
  }));
  const quads = padded(cols) / 4;
  return {
    kernel,
    buffers,
    uniforms: { tokens, quads, ld: rowStride(cols) / 4, vocab, first: part.first, all: part.of, scale },
    grid: linearGrid(Math.ceil(tokens * quads / WORKGROUP)),
  };
}
