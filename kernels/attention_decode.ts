/**
 * Attention while sampling: one new token per row against a cache of keys and values.
 *
 * The caches `keys` and `values` are [rows, capacity, kvHeads·ds] with ds = headDim rounded up to 4; slot s of a row holds
 * its token s. `lengths` [rows] u32 counts the tokens before the new one, whose slot is therefore lengths[row]. Slots at or
 * past `capacity` are never read or written. The fused qkv is laid out as in `attention.ts`.
 *
 * On the cpu profile a query walks over its keys in the same groups and with the same arithmetic as the packed forward
 * kernel, so a sampled token has the very bits it will have when it is trained on.
 *
 * @module
 */
import { addWeighted, attentionTile, onlineSoftmax } from "./attention.ts";
import {
  COMPONENT,
  GPU_THREADS,
  loadScalars,
  LOG2E,
  MASKED,
  quadsOf,
  START,
  storeScalars,
} from "./attention_text.ts";
import {
  cachedKernel,
  type KernelSpec,
  type Launch,
  LINEAR_GROUP,
  linearGrid,
  type Profile,
  repeat,
} from "./kernel.ts";

/** Size of a cache and of the heads. */
export interface DecodeShape {
  rows: number;
  /** Slots per row. */
  capacity: number;
  heads: number;
  kvHeads: number;
  headDim: number;
}

const WORKGROUP = 64;

/** keys, values [row, lengths[row]] = k, v of the row's new token; qkv is [rows, (heads + 2·kvHeads)·ds]. */
export function cacheAppend<B>(
  _profile: Profile,
  buffers: { qkv: B; lengths: B; keys: B; values: B },
  { rows, capacity, heads, kvHeads, headDim }: DecodeShape,
): Launch<B> {
  const kernel = cachedKernel("cache_append", () => ({
    storage: { qkv: "vec4f", lengths: "u32", keys: "vec4f", values: "vec4f" },
    writes: ["keys", "values"],
    uniforms: { count: "u32", capacity: "u32", q: "u32", kv: "u32" },
    workgroup: WORKGROUP,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.count) { return; }
  let row = i / u.kv;
  let column = i % u.kv;
  let slot = lengths[row];
  if (slot >= u.capacity) { return; }
  let source = row * (u.q + 2u * u.kv) + u.q + column;
  let place = (row * u.capacity + slot) * u.kv + column;
  keys[place] = qkv[source];
  values[place] = qkv[source + u.kv];`,
  }));
  const quads = quadsOf(headDim), kv = kvHeads * quads, count = rows * kv;
  return {
    kernel,
    buffers,
    uniforms: { count, capacity, q: heads * quads, kv },
    grid: linearGrid(Math.ceil(count / WORKGROUP)),
  };
}

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
    uniforms: { count: "u32", slots: "u32", capacity: "u32", q: "u32", kv: "u32" },
    workgroup: WORKGROUP,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.count) { return; }
  let column = i % u.kv;
  let slot = i / u.kv % u.slots;
  let row = i / u.kv / u.slots;
  if (slot >= lengths[row]) { return; }
  let source = (first[row] + slot) * (u.q + 2u * u.kv) + u.q + column;
  let place = (row * u.capacity + slot) * u.kv + column;
  keys[place] = qkv[source];
  values[place] = qkv[source + u.kv];`,
  }));
  const slots = Math.min(maxLength, capacity);
  const quads = quadsOf(headDim), kv = kvHeads * quads, count = rows * slots * kv;
  return {
    kernel,
    buffers,
    uniforms: { count, slots, capacity, q: heads * quads, kv },
    grid: linearGrid(Math.ceil(count / WORKGROUP)),
  };
}

/** out [rows, heads·ds] = attention of each row's new token over the slots 0 … lengths[row] of its cache. */
export function attentionDecode<B>(
  profile: Profile,
  buffers: { qkv: B; lengths: B; keys: B; values: B; out: B },
  { rows, capacity, heads, kvHeads, headDim, scale }: DecodeShape & { scale: number },
): Launch<B> {
  const cpu = profile.kind === "cpu", { lanes } = profile;
  const together = headsTogether(heads, kvHeads, headDim);
  const name = cpu ? `cpu${lanes}_${headDim}_${together}` : `gpu_${headDim}`;
  const kernel = cachedKernel(`attention_decode_${name}`, () => ({
    storage: { qkv: "vec4f", lengths: "u32", keys: "vec4f", values: "vec4f", out: "vec4f" },
    writes: ["out"],
    uniforms: { rows: "u32", capacity: "u32", heads: "u32", kvHeads: "u32", quads: "u32", scale: "f32" },
    ...(cpu ? decodeCpu(lanes, headDim, together) : decodeGpu(headDim)),
  }));
  return {
    kernel,
    buffers,
    uniforms: { rows, capacity, heads, kvHeads, quads: quadsOf(headDim), scale },
    grid: linearGrid(cpu ? Math.ceil(rows * heads / together / lanes) : rows * heads),
  };
}

type Text = Pick<KernelSpec, "workgroup" | "module" | "body">;

/** Names that both profiles use, from `query`, the index of a row and head. */
const positions = (quads: number) =>
  `let row = query / u.heads;
  let head = query % u.heads;
  let kvHead = head * u.kvHeads / u.heads;
  let ld = u.kvHeads * ${quads}u;
  let source = row * (u.heads + 2u * u.kvHeads) * ${quads}u + head * ${quads}u;
  let cache = row * u.capacity * ld + kvHead * ${quads}u;
  let last = min(lengths[row], u.capacity - 1u);`;

/** Query heads that one lane of the cpu profile takes: as many as share a key head, while they fit the registers' spill. */
function headsTogether(heads: number, kvHeads: number, headDim: number): number {
  const sharing = heads / kvHeads;
  for (let count = Number.isInteger(sharing) ? sharing : 1; count > 1; count--) {
    if (sharing % count === 0 && count * headDim <= 192) return count;
  }
  return 1;
}

/**
 * A lane per row and `together` neighbouring heads that share a key head: every key and value is loaded by one lane only,
 * which leaves nothing to share between lanes.
 */
function decodeCpu(lanes: number, headDim: number, together: number): Text {
  const quads = quadsOf(headDim);
  const { keys } = attentionTile(headDim);
  const each = (text: (h: number) => string, separator = "\n  ") => repeat(together, text, separator);
  const components = (q: number) => Math.min(4, headDim - 4 * q);
  const addScore = (j: number, quad: string, count: number, q: (h: number, c: number) => string) =>
    `{ let k = keys[at${j} + ${quad}]; ${
      repeat(count, (c) =>
        each((h) =>
          `s${h}_${j} = fma(${q(h, c)}, k.${COMPONENT[c]}, s${h}_${j});`, " "), " ")
    } }`;
  // Large heads go through the key in a loop, or they compile for seconds; padding columns are zero and may take part.
  const scores = quads <= 16
    ? repeat(
      quads,
      (q) => repeat(keys, (j) => addScore(j, `${q}u`, components(q), (h, c) => `q${h}_${4 * q + c}`)),
      "\n    ",
    )
    : `for (var i = 0u; i < u.quads; i++) {
      ${each((h) => `let q${h} = q${h}_row[i];`)}
      ${repeat(keys, (j) => addScore(j, "i", 4, (h, c) => `q${h}.${COMPONENT[c]}`), "\n      ")}
    }`;
  return {
    workgroup: lanes,
    body: `
  let query = (${LINEAR_GROUP} * ${lanes}u + lane) * ${together}u;
  if (query >= u.rows * u.heads) { return; }
  ${positions(quads)}
  ${
      each((h) =>
        `${loadScalars(`q${h}_`, "qkv", `source + ${h * quads}u`, headDim, ` * (u.scale * ${LOG2E})`)}
  ${repeat(headDim, (d) => `var o${h}_${d} = 0.0;`, " ")}
  var max${h} = ${START}; var sum${h} = 0.0;`
      )
    }
  for (var key = 0u; key <= last; key += ${keys}u) {
    ${repeat(keys, (j) => `let at${j} = cache + min(key + ${j}u, last) * ld;`, "\n    ")}
    ${each((h) => repeat(keys, (j) => `var s${h}_${j} = 0.0;`, " "))}
    ${scores}
    ${each((h) => onlineSoftmax(`${h}`, keys, (j) => `s${h}_${j}`, (j) => `key + ${j}u <= last`))}
    ${
      repeat(quads, (q) =>
        `{ ${repeat(keys, (j) => `let v${j} = values[at${j} + ${q}u];`, " ")} ${
          repeat(
            components(q),
            (c) =>
              each(
                (h) => addWeighted(`o${h}_${4 * q + c}`, `${h}`, keys, (j) => `v${j}.${COMPONENT[c]}`),
                " ",
              ),
            " ",
          )
        } }`, "\n    ")
    }
  }
  ${
      each((h) =>
        `let scale${h} = 1.0 / sum${h};
  ${storeScalars(`o${h}_`, "out", `(query + ${h}u) * ${quads}u`, headDim, `scale${h} * `)}`
      )
    }`,
  };
}

/**
 * A workgroup per row and head: 64 keys at a time, a thread scores one key; then the threads share the values, thread t adding
 * up vec4 t % quads of every ⌊64 / quads⌋-th key, and the parts are added at the end in order.
 */
function decodeGpu(headDim: number): Text {
  const quads = quadsOf(headDim);
  const slices = Math.floor(GPU_THREADS / quads);
  return {
    workgroup: GPU_THREADS,
    module: `var<workgroup> lastKey: u32;
var<workgroup> scores: array<f32, ${GPU_THREADS}>;
var<workgroup> parts: array<vec4f, ${slices * quads}>;`,
    body: `
  let query = ${LINEAR_GROUP};
  if (query >= u.rows * u.heads) { return; }
  ${positions(quads)}
  if (lane == 0u) { lastKey = last; }
  let end = workgroupUniformLoad(&lastKey);
  let slice = lane / ${quads}u;
  let quad = lane % ${quads}u;
  var most = ${START}; var sum = 0.0; var o = vec4f();
  for (var key0 = 0u; key0 <= end; key0 += ${GPU_THREADS}u) {
    let key = key0 + lane;
    var t = vec4f();
    let place = cache + min(key, last) * ld;
    ${
      repeat(quads, (q) =>
        `t = fma(qkv[source + ${q}u] * (u.scale * ${LOG2E}), keys[place + ${q}u], t);`, "\n    ")
    }
    let score = select(${MASKED}, t.x + t.y + t.z + t.w, key <= last);
    workgroupBarrier();
    scores[lane] = score;
    workgroupBarrier();
    var top = most;
    for (var i = 0u; i < ${GPU_THREADS}u; i++) { top = max(top, scores[i]); }
    let keep = exp2(most - top);
    most = top;
    workgroupBarrier();
    scores[lane] = exp2(score - top);
    workgroupBarrier();
    sum *= keep;
    for (var i = 0u; i < ${GPU_THREADS}u; i++) { sum += scores[i]; }
    o *= keep;
    if (slice < ${slices}u) {
      for (var i = slice; i < min(${GPU_THREADS}u, last - key0 + 1u); i += ${slices}u) {
        o = fma(vec4f(scores[i]), values[cache + (key0 + i) * ld + quad], o);
      }
    }
  }
  if (slice < ${slices}u) { parts[lane] = o; }
  workgroupBarrier();
  if (lane < ${quads}u) {
    var all = parts[lane];
    for (var i = 1u; i < ${slices}u; i++) { all += parts[i * ${quads}u + lane]; }
    out[query * ${quads}u + lane] = all / sum;
  }`,
  };
}
