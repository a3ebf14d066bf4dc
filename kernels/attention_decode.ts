/**
 * Attention while sampling: one new token per row against a cache of keys and values.
 *
 * The caches `keys` and `values` are [rows, capacity, kvHeads·ds] with ds = headDim rounded up to 4; slot s of a row holds
 * its token s, keys rotated. `positions` [rows] u32 holds the new token's position, which is its slot and the number of tokens
 * before it. Slots at or past `capacity` are never read or written. The fused qkv is laid out as in `attention.ts`.
 *
 * On the cpu profile a query walks over its keys in the same groups and with the same arithmetic as the packed forward
 * kernel, so a sampled token has the very bits it will have when it is trained on.
 *
 * @module
 */
import { attentionTile, onlineSoftmax } from "./attention.ts";
import {
  capUniform,
  COMPONENT,
  GPU_THREADS,
  loadScalars,
  LOG2E,
  MASKED,
  quadsOf,
  queryHeads,
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
  rowStride,
} from "./kernel.ts";
import { turnedQuad } from "./rope.ts";
import { CAPPED_SCORE } from "./soft_cap.ts";

/** Size of a cache and of the heads. */
export interface DecodeShape {
  rows: number;
  /** Slots per row. */
  capacity: number;
  heads: number;
  kvHeads: number;
  headDim: number;
}

/** How a query attends. */
export interface Attending {
  /** Factor of the scores, usually 1/√headDim. */
  scale: number;
  /** Leading columns of each head that are rotated; all by default. */
  rotaryDims?: number;
  /** Keys that a query sees, the newest included; all by default. */
  window?: number;
  /** Soft cap of the scores (`soft_cap.ts`). */
  softCap?: number;
}

/** What of {@linkcode Attending} changes the text. */
interface Form {
  windowed: boolean;
  cap: boolean;
}

/** Statement that defines the first slot that the new token sees, whose own is `last`. */
const firstSeen = (last: string) => `let seen = ${last} + 1u - min(${last} + 1u, u.window);`;

/** vec4s from one row of a fused qkv to the next. */
export const qkvStride = (heads: number, kvHeads: number, quads: number) =>
  rowStride(4 * (heads + 2 * kvHeads) * quads) / 4;

/**
 * out [rows, heads·ds] = attention of each row's new token over its cache and itself; its key and value enter the cache.
 *
 * With the tables `cos` and `sin` [positions, headDim/2] the query and the new key are rotated first, with the bits of
 * `rope.ts`; qkv itself is not changed.
 */
export function attentionDecode<B>(
  profile: Profile,
  buffers: { qkv: B; positions: B; keys: B; values: B; out: B; cos?: B; sin?: B },
  shape: DecodeShape & Attending,
): Launch<B> {
  const { rows, capacity, heads, kvHeads, headDim, scale, rotaryDims, window, softCap } = shape;
  const cpu = profile.kind === "cpu", { lanes } = profile;
  const rotary = buffers.cos === undefined ? 0 : rotaryDims ?? headDim;
  const form = { windowed: window !== undefined, cap: softCap !== undefined };
  const together = headsTogether(heads, kvHeads, headDim);
  const turned = turnedQuad("qkv", headDim, rotary);
  const name = `${cpu ? `cpu${lanes}_${headDim}_${together}` : `gpu_${headDim}`}${rotary ? "_rotary" : ""}${
    rotary && rotary < headDim ? rotary : ""
  }${form.windowed ? "_windowed" : ""}${form.cap ? "_capped" : ""}`;
  const kernel = cachedKernel(`attention_decode_${name}`, () => {
    const text = cpu ? decodeCpu(lanes, headDim, together, form) : decodeGpu(headDim, form);
    return {
      storage: {
        qkv: "vec4f",
        positions: "u32",
        keys: "vec4f",
        values: "vec4f",
        out: "vec4f",
        ...turned.storage,
      },
      writes: ["keys", "values", "out"],
      uniforms: {
        rows: "u32",
        capacity: "u32",
        heads: "u32",
        kvHeads: "u32",
        quads: "u32",
        keys: "u32",
        ld: "u32",
        ldo: "u32",
        scale: "f32",
        ...(form.windowed ? { window: "u32" } : {}),
        ...(form.cap ? { cap: "f32" } : {}),
      },
      ...text,
      module: `${turned.code}\n${text.module ?? ""}${form.cap ? `\n${CAPPED_SCORE}` : ""}`,
    };
  });
  const quads = quadsOf(headDim);
  return {
    kernel,
    buffers: buffers as unknown as Record<string, B>,
    uniforms: {
      rows,
      capacity,
      heads,
      kvHeads,
      quads,
      keys: attentionTile(headDim).keys,
      ld: qkvStride(heads, kvHeads, quads),
      ldo: rowStride(4 * heads * quads) / 4,
      scale,
      ...(window === undefined ? {} : { window }),
      ...capUniform(softCap),
    },
    grid: linearGrid(cpu ? Math.ceil(rows * kvHeads / lanes) : rows * heads),
  };
}

type Text = Pick<KernelSpec, "workgroup" | "module" | "body">;

/**
 * Names from `row` and `kvHead`: where the row's cache begins and, in a matrix whose rows begin at `base`, the new token's q, k
 * and v.
 */
const places = (quads: number, base: string) =>
  `let position = positions[row];
  let last = min(position, u.capacity - 1u);
  let ld = u.kvHeads * ${quads}u;
  let cache = row * u.capacity * ld + kvHead * ${quads}u;
  let qAt = ${base} + row * u.ld;
  let kAt = qAt + (u.heads + kvHead) * ${quads}u;
  let vAt = kAt + ld;
  ${queryHeads}`;

/** Query heads that one lane of the cpu profile takes at once: they share a key head and fit the registers' spill. */
export function headsTogether(heads: number, kvHeads: number, headDim: number): number {
  const sharing = heads / kvHeads;
  for (let count = Number.isInteger(sharing) ? sharing : 1; count > 1; count--) {
    if (sharing % count === 0 && count * headDim <= 192) return count;
  }
  return 1;
}

/** A lane per row and key head. */
function decodeCpu(lanes: number, headDim: number, together: number, form: Form): Text {
  return {
    workgroup: lanes,
    body: `
  let pair = ${LINEAR_GROUP} * ${lanes}u + lane;
  if (pair >= u.rows * u.kvHeads) { return; }
  let row = pair / u.kvHeads;
  let kvHead = pair % u.kvHeads;
  ${attendPair(headDim, together, { matrix: "qkv", base: "0u" }, { matrix: "out", base: "0u" }, form)}`,
  };
}

/** A binding, and the vec4 in it where a matrix begins. */
export interface Place {
  matrix: string;
  base: string;
}

/**
 * Statements of the cpu profile that attend for one `row` and `kvHead`: the query heads that share it, `together` at once. No
 * other lane reads or writes their part of the cache, so the lane finds there the key that it has just put in, and there is
 * nothing to share.
 *
 * The keys of a step are taken one by one in a loop, which keeps the text in the instruction cache: a load is 2 KiB of it.
 */
export function attendPair(
  headDim: number,
  together: number,
  qkv: Place,
  out: Place,
  { windowed, cap }: Form = { windowed: false, cap: false },
): string {
  const quads = quadsOf(headDim);
  const { keys } = attentionTile(headDim);
  const each = (text: (h: number) => string, separator = "\n    ") => repeat(together, text, separator);
  const components = (q: number) => Math.min(4, headDim - 4 * q);
  const addScore = (quad: string, count: number, q: (h: number, c: number) => string) =>
    `{ let k = keys[at + ${quad}]; ${
      repeat(count, (c) => each((h) => `s${h} = fma(${q(h, c)}, k.${COMPONENT[c]}, s${h});`, " "), " ")
    } }`;
  // Large heads go through the key in a loop, or they compile for seconds; padding columns are zero and may take part.
  const scores = quads <= 16
    ? repeat(quads, (q) => addScore(`${q}u`, components(q), (h, c) => `q${h}_${4 * q + c}`), "\n        ")
    : `for (var i = 0u; i < u.quads; i++) {
          ${each((h) => `let q${h} = q${h}_row[i];`)}
          ${addScore("i", 4, (h, c) => `q${h}.${COMPONENT[c]}`)}
        }`;
  const values = repeat(
    quads,
    (q) =>
      `{ let v = values[at + ${q}u]; ${
        repeat(components(q), (c) =>
          each((h) =>
            `o${h}_${4 * q + c} = fma(w${h}, v.${COMPONENT[c]}, o${h}_${4 * q + c});`, " "), " ")
      } }`,
    "\n        ",
  );
  // A queue of one score (or weight) per key of the step, in scalars.
  const next = (name: string, last: string) =>
    repeat(keys, (j) => `${name}_${j} = ${j + 1 < keys ? `${name}_${j + 1}` : last};`, " ");
  const over = keys > 1 ? "for (var j = 0u; j < u.keys; j++)" : "";
  const visible = (key: string) => windowed ? `${key} <= last && ${key} >= seen` : `${key} <= last`;
  const query = (h: number, q: string) => `turned(qAt + (head + ${h}u) * ${quads}u, ${q}, position)`;
  return `${places(quads, qkv.base)}
  if (position < u.capacity) {
    for (var i = 0u; i < u.quads; i++) {
      keys[cache + position * ld + i] = turned(kAt, i, position);
      values[cache + position * ld + i] = ${qkv.matrix}[vAt + i];
    }
  }
  for (var head = firstHead; head < endHead; head += ${together}u) {
    ${
    each((h) =>
      `${loadScalars(`q${h}_`, (q) => `${query(h, q)} * (u.scale * ${LOG2E})`, headDim)}
    ${repeat(headDim, (d) => `var o${h}_${d} = 0.0;`, " ")}
    var max${h} = ${START}; var sum${h} = 0.0;`
    )
  }
    ${windowed ? `${firstSeen("last")}\n    ` : ""}for (var key = ${
    windowed ? `seen / ${keys}u * ${keys}u` : "0u"
  }; key <= last; key += ${keys}u) {
      ${each((h) => repeat(keys, (j) => `var s${h}_${j} = 0.0;`, " "))}
      ${over} {
        let at = cache + min(key + ${keys > 1 ? "j" : "0u"}, last) * ld;
        ${each((h) => `var s${h} = 0.0;`)}
        ${scores}
        ${each((h) => next(`s${h}`, cap ? `capped(s${h})` : `s${h}`))}
      }
      ${each((h) => onlineSoftmax(`${h}`, keys, (j) => `s${h}_${j}`, (j) => visible(`key + ${j}u`)))}
      ${each((h) => repeat(headDim, (d) => `o${h}_${d} = o${h}_${d} * keep${h};`, " "))}
      ${each((h) => repeat(keys, (j) => `var p${h}_${j} = w${h}_${j};`, " "))}
      ${over} {
        let at = cache + min(key + ${keys > 1 ? "j" : "0u"}, last) * ld;
        ${each((h) => `let w${h} = p${h}_0;`)}
        ${values}
        ${each((h) => next(`p${h}`, `0.0`))}
      }
    }
    ${
    each((h) =>
      `let scale${h} = 1.0 / sum${h};
    ${
        storeScalars(
          `o${h}_`,
          out.matrix,
          `${out.base} + row * u.ldo + (head + ${h}u) * ${quads}u`,
          headDim,
          `scale${h} * `,
        )
      }`
    )
  }
  }`;
}

/**
 * A workgroup per row and head: 64 keys at a time, a thread scores one key; then the threads share the values, thread t adding
 * up vec4 t % quads of every ⌊64 / quads⌋-th key, and the parts are added at the end in order. The new key and value are in
 * workgroup memory: one of the heads that share them is writing them into the cache, where nobody reads them yet.
 */
function decodeGpu(headDim: number, { windowed, cap }: Form): Text {
  const total = "t.x + t.y + t.z + t.w";
  const quads = quadsOf(headDim);
  const slices = Math.floor(GPU_THREADS / quads);
  // A bound in a uniform prevents unrolling, which takes long to compile where it is much.
  const all = quads > 32 ? "u.quads" : `${quads}u`;
  return {
    workgroup: GPU_THREADS,
    module: `var<workgroup> lastKey: u32;
var<workgroup> q: array<vec4f, ${quads}>;
var<workgroup> newKey: array<vec4f, ${quads}>;
var<workgroup> newValue: array<vec4f, ${quads}>;
var<workgroup> scores: array<f32, ${GPU_THREADS}>;
var<workgroup> parts: array<vec4f, ${slices * quads}>;`,
    body: `
  let query = ${LINEAR_GROUP};
  if (query >= u.rows * u.heads) { return; }
  let row = query / u.heads;
  let head = query % u.heads;
  let kvHead = head * u.kvHeads / u.heads;
  ${places(quads, "0u")}
  if (lane < ${quads}u) {
    let key = turned(kAt, lane, position);
    let value = qkv[vAt + lane];
    q[lane] = turned(qAt + head * ${quads}u, lane, position) * (u.scale * ${LOG2E});
    newKey[lane] = key;
    newValue[lane] = value;
    if (head == firstHead && position < u.capacity) {
      keys[cache + position * ld + lane] = key;
      values[cache + position * ld + lane] = value;
    }
  }
  if (lane == 0u) { lastKey = last; }
  let end = workgroupUniformLoad(&lastKey);
  let slice = lane / ${quads}u;
  let quad = lane % ${quads}u;
  var most = ${START}; var sum = 0.0; var o = vec4f();
  ${windowed ? firstSeen("end") : ""}
  for (var key0 = ${
      windowed ? `seen / ${GPU_THREADS}u * ${GPU_THREADS}u` : "0u"
    }; key0 <= end; key0 += ${GPU_THREADS}u) {
    let key = key0 + lane;
    var t = vec4f();
    if (key < min(position, u.capacity)) {
      for (var i = 0u; i < ${all}; i++) { t = fma(q[i], keys[cache + key * ld + i], t); }
    } else {
      for (var i = 0u; i < ${all}; i++) { t = fma(q[i], newKey[i], t); }
    }
    let score = select(${MASKED}, ${cap ? `capped(${total})` : total}, key <= last${
      windowed ? " && key >= seen" : ""
    });
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
        var value = newValue[quad];
        if (key0 + i < position) { value = values[cache + (key0 + i) * ld + quad]; }
        o = fma(vec4f(scores[i]), value, o);
      }
    }
  }
  if (slice < ${slices}u) { parts[lane] = o; }
  workgroupBarrier();
  if (lane < ${quads}u) {
    var all = parts[lane];
    for (var i = 1u; i < ${slices}u; i++) { all += parts[i * ${quads}u + lane]; }
    out[row * u.ldo + head * ${quads}u + lane] = all / sum;
  }`,
  };
}
