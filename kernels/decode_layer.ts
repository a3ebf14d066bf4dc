/**
 * A decoder layer for one new token per row in one launch, for small models on software adapters, where a launch costs as much
 * as a quarter of a million multiply-adds.
 *
 *   qkv = norm(x) Wᵀ    attended = attention over the cache    x += attended Wᵀ    inner = activation(norm(x) Wᵀ)    x += inner Wᵀ
 *
 * The first layer looks x up, x = table[ids] (+ table[positions]), and the last makes logits = norm(x) Wᵀ, where they are asked.
 *
 * Rows depend on nothing but the weights: a lane takes two of them through all steps, and lanes share nothing but what they
 * read of the weights, so there is no barrier. `work` holds x [rows, width], qkv, attended, inner and logits one after the other (`layerWork`); x
 * is overwritten. `weights` is the parameter arena. Keys and values enter the cache as in `attention_decode.ts`.
 *
 * Every number has the bits that `embedding.ts`, `norm.ts`, `matmul.ts`, `attention_decode.ts` and `activation.ts` give it one
 * after the other.
 *
 * @module
 */
import { ACTIVATION_CODE } from "./activation.ts";
import { attentionTile } from "./attention.ts";
import { attendPair, type DecodeShape, headsTogether, qkvStride } from "./attention_decode.ts";
import { quadsOf } from "./attention_text.ts";
import {
  cachedKernel,
  type Launch,
  LINEAR_GROUP,
  linearGrid,
  padded,
  type Profile,
  repeat,
  rowStride,
} from "./kernel.ts";
import type { NormKind } from "./norm.ts";
import { turnedQuad } from "./rope.ts";

/** Size and form of a layer. */
export interface LayerShape extends DecodeShape {
  width: number;
  /** Columns of the feed-forward block. */
  inner: number;
  norm: NormKind;
  eps: number;
  activation: "swiglu" | "gelu";
  vocab: number;
  /** Factor of the scores. */
  scale: number;
}

/** The weights of a layer: `up` is the matrix before the activation, for swiglu the gates above the ups. */
export const LAYER_WEIGHTS = ["attnNorm", "qkv", "out", "mlpNorm", "up", "down"] as const;

/** Where each weight begins in the arena, in floats, multiples of 4; `biases` of all six or of none. */
export interface LayerPlaces {
  weights: Record<(typeof LAYER_WEIGHTS)[number], number>;
  biases?: Record<(typeof LAYER_WEIGHTS)[number], number>;
  /** In the first layer, the embedding [vocab, width] and, where there is one, that of the positions. */
  embedding?: { tokens: number; positions?: number };
  /** In the last layer, the final norm (`normBias` only for LayerNorm) and the head [vocab, width]. */
  head?: { norm: number; normBias?: number; matrix: number };
}

/** Where the parts of `work` begin, and its size, in floats. Lanes without a row have their own memory too. */
export function layerWork(
  { lanes }: Profile,
  { rows, width, inner, heads, kvHeads, headDim, vocab }: Omit<
    LayerShape,
    "norm" | "eps" | "activation" | "scale" | "capacity"
  >,
): { qkv: number; attended: number; inner: number; logits: number; size: number } {
  const quads = quadsOf(headDim);
  const all = Math.ceil(rows / 2 / lanes) * 2 * lanes;
  const qkv = all * rowStride(width);
  const attended = qkv + all * 4 * qkvStride(heads, kvHeads, quads);
  const innerAt = attended + all * rowStride(4 * heads * quads);
  // The logits are bound on their own, which needs 256 bytes of alignment.
  const logits = Math.ceil((innerAt + all * rowStride(inner)) / 64) * 64;
  return { qkv, attended, inner: innerAt, logits, size: logits + all * rowStride(vocab) };
}

/** x = layer(x); the new token's key and value enter the caches at its position. Only for the cpu profile. */
export function decodeLayer<B>(
  profile: Profile,
  buffers: { weights: B; work: B; ids: B; positions: B; keys: B; values: B; cos?: B; sin?: B },
  shape: LayerShape,
  places: LayerPlaces,
): Launch<B> {
  const { rows, capacity, heads, kvHeads, headDim, width, inner, norm, eps, activation, vocab, scale } =
    shape;
  const { lanes } = profile, quads = quadsOf(headDim);
  const rotary = buffers.cos !== undefined, biased = places.biases !== undefined;
  const together = headsTogether(heads, kvHeads, headDim);
  const form = [norm, activation, rotary && "rotary", biased && "biased"].filter(Boolean).join("_");
  const kernel = cachedKernel(`decode_layer_cpu${lanes}_${headDim}_${together}_${form}`, () => {
    const turned = turnedQuad("work", headDim, rotary ? headDim : 0);
    const numbers = ["rows", "capacity", "heads", "kvHeads", "quads", "keys", "ld", "ldo", ...JOB_UNIFORMS];
    return {
      storage: {
        weights: "vec4f",
        work: "vec4f",
        ids: "u32",
        positions: "u32",
        keys: "vec4f",
        values: "vec4f",
        ...turned.storage,
      },
      writes: ["work", "keys", "values"],
      uniforms: {
        ...Object.fromEntries(numbers.map((name) => [name, "u32" as const])),
        scale: "f32",
        eps: "f32",
      },
      needs: ["subgroups"],
      workgroup: lanes,
      module: `${turned.code}\n${ACTIVATION_CODE[activation]}`,
      body: `
  let row0 = ${LINEAR_GROUP} * ${2 * lanes}u + lane;
  let row1 = row0 + ${lanes}u;
  ${lookUp}
  for (var job = 0u; job < u.jobs; job++) {
    ${chooseJob}
    ${product(lanes, norm, activation, biased)}
    if (job == 0u) {
      for (var pair = 0u; pair < 2u * u.kvHeads; pair++) {
        let row = select(row0, row1, pair >= u.kvHeads);
        let kvHead = pair % u.kvHeads;
        if (row < u.rows) {
          ${
        attendPair(headDim, together, { matrix: "work", base: "u.qkvAt" }, {
          matrix: "work",
          base: "u.attendedAt",
        })
      }
        }
      }
    }
  }`,
    };
  });
  const at = layerWork(profile, shape);
  const { weights, biases = weights, embedding, head } = places;
  const quad = (floats: number) => floats / 4;
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
      ldo: quad(rowStride(4 * heads * quads)),
      jobs: head ? 5 : 4,
      width,
      qkvColumns: 4 * (heads + 2 * kvHeads) * quads,
      outColumns: 4 * heads * quads,
      inner,
      ldx: quad(rowStride(width)),
      ldInner: quad(rowStride(inner)),
      ups: padded(inner),
      qkvAt: quad(at.qkv),
      attendedAt: quad(at.attended),
      innerAt: quad(at.inner),
      logitsAt: quad(at.logits),
      vocab,
      ldLogits: quad(rowStride(vocab)),
      tables: !embedding ? 0 : embedding.positions === undefined ? 1 : 2,
      tokenTable: quad(embedding?.tokens ?? 0),
      positionTable: quad(embedding?.positions ?? 0),
      headW: quad(head?.matrix ?? 0),
      headNormW: quad(head?.norm ?? 0),
      headNormB: quad(head?.normBias ?? 0),
      ...Object.fromEntries(LAYER_WEIGHTS.flatMap((name) => [
        [`${name}W`, quad(weights[name])],
        [`${name}B`, quad(biases[name])],
      ])),
      scale,
      eps,
    },
    grid: linearGrid(Math.ceil(rows / 2 / lanes)),
  };
}

const JOB_UNIFORMS = [
  "jobs",
  "width",
  "qkvColumns",
  "outColumns",
  "inner",
  "ldx",
  "ldInner",
  "ups",
  "qkvAt",
  "attendedAt",
  "innerAt",
  "logitsAt",
  "vocab",
  "ldLogits",
  "tables",
  "tokenTable",
  "positionTable",
  "headW",
  "headNormW",
  "headNormB",
  ...LAYER_WEIGHTS.flatMap((name) => [`${name}W`, `${name}B`]),
];

/** In the first layer, each lane looks its rows up. */
const lookUp = `if (u.tables > 0u) {
    for (var row = row0; row < min(row1 + 1u, u.rows); row += row1 - row0) {
      let id = ids[row];
      let source = u.tokenTable + select(0u, id, id < u.vocab) * u.ldx;
      for (var q = 0u; q * 4u < u.width; q++) {
        var x = weights[source + q];
        if (u.tables > 1u) { x += weights[u.positionTable + positions[row] * u.ldx + q]; }
        work[row * u.ldx + q] = x;
      }
    }
  }`;

/**
 * The four products, and in the last layer the head, as one loop: A in `work` at `a`, W at `w` with `n` rows of `k`, C in
 * `work` at `c`.
 */
const chooseJob = `var a = 0u; var lda = u.ldx; var k = u.width; var w = u.qkvW; var n = u.qkvColumns;
    var bias = u.qkvB; var gain = u.attnNormW; var shift = u.attnNormB; var c = u.qkvAt; var ldc = u.ld;
    if (job == 1u) { a = u.attendedAt; lda = u.ldo; k = u.outColumns; w = u.outW; bias = u.outB; }
    if (job == 2u) {
      w = u.upW; n = u.inner; bias = u.upB; gain = u.mlpNormW; shift = u.mlpNormB; c = u.innerAt; ldc = u.ldInner;
    }
    if (job == 3u) { a = u.innerAt; lda = u.ldInner; k = u.inner; w = u.downW; bias = u.downB; }
    if (job == 4u) { w = u.headW; n = u.vocab; gain = u.headNormW; shift = u.headNormB; c = u.logitsAt; ldc = u.ldLogits; }
    let normed = job % 2u == 0u;
    if (!normed) { n = u.width; c = 0u; ldc = u.ldx; }
    let ldw = select(u.ldx, select(u.ldo, u.ldInner, job == 3u), !normed);`;

/** Columns that are made side by side; with swiglu, half of them are gates and the others their ups. */
const COLUMNS = 32;

/**
 * A product for the lane's two rows. Per four steps of k the lanes load W for all columns, every value by one lane only, and
 * `subgroupBroadcast` hands it round; each lane multiplies it with its own rows of A.
 */
function product(
  lanes: number,
  norm: NormKind,
  activation: LayerShape["activation"],
  biased: boolean,
): string {
  const rows = [0, 1];
  const each = (text: (r: number) => string, separator = " ") => rows.map(text).join(separator);
  const blocks = Array.from({ length: COLUMNS / lanes }, (_, i) => i);
  const ups = (i: number) => `select(${i * lanes}u, u.ups + ${i * lanes - COLUMNS / 2}u, paired)`;
  const row = (i: number) => activation === "swiglu" && i * lanes >= COLUMNS / 2 ? ups(i) : `${i * lanes}u`;
  const steps = repeat(COLUMNS, (c) =>
    repeat(4, (k) => {
      const x = `subgroupBroadcast(w${Math.floor(c / lanes)}.${"xyzw"[k]}, ${c % lanes}u)`;
      return `{ let x = ${x}; ${each((r) => `s${r}_${c} = fma(a${r}.${"xyzw"[k]}, x, s${r}_${c});`)} }`;
    }, " "), "\n        ");
  const quad = (r: number, q: number) => `vec4f(${repeat(4, (c) => `s${r}_${4 * q + c}`, ", ")})`;
  const store = (r: number) =>
    `if (row${r} < u.rows) {
          let at = c + row${r} * ldc + q;
          var sum = sums${r}[i];
          ${biased ? "if (job < 4u) { sum += weights[bias + q]; }" : ""}
          ${activation === "gelu" ? "if (job == 2u) { sum = gelu(sum); }" : ""}
          ${
      activation === "swiglu" ? `if (paired) { sum = swiglu(sum, sums${r}[i + ${COLUMNS / 8}u]); }` : ""
    }
          if (!normed) { sum += work[at]; }
          work[at] = select(vec4f(), sum, vec4u(q * 4u) + vec4u(0u, 1u, 2u, 3u) < vec4u(n));
        }`;
  return `${each((r) => `let a${r}_at = a + row${r} * lda; var mean${r} = 0.0; var r${r} = 1.0;`)}
    if (normed) {
      ${each((r) => rowStatistics(r, norm), "\n      ")}
    }
    let paired = ${activation === "swiglu" ? "job == 2u" : "false"};
    let together = select(${COLUMNS}u, ${COLUMNS / 2}u, paired);
    for (var column = 0u; column < n; column += together) {
      ${blocks.map((i) => `let w${i}_at = w + (column + lane + ${row(i)}) * ldw;`).join("\n      ")}
      ${repeat(COLUMNS, (c) => each((r) => `var s${r}_${c} = 0.0;`), "\n      ")}
      for (var step = 0u; step * 4u < k; step++) {
        ${blocks.map((i) => `let w${i} = weights[w${i}_at + step];`).join("\n        ")}
        ${each((r) => `var a${r} = work[a${r}_at + step];`)}
        if (normed) { ${applyNorm(rows, norm)} }
        ${steps}
      }
      ${
    each((r) =>
      `var sums${r} = array<vec4f, ${COLUMNS / 4}>(${repeat(COLUMNS / 4, (q) => quad(r, q), ", ")});`
    )
  }
      for (var i = 0u; i < min(together, n - column + 3u) / 4u; i++) {
        let q = column / 4u + i;
        ${each(store, "\n        ")}
      }
    }`;
}

/** The statistics of the lane's row `r`, summed in the order of `norm.ts`. */
function rowStatistics(r: number, kind: NormKind): string {
  const mean = (sum: string) => `(${sum}.x + ${sum}.y + ${sum}.z + ${sum}.w) / f32(k)`;
  const walk = (body: string) => `for (var q = 0u; q * 4u < k; q++) { let x = work[a${r}_at + q]; ${body} }`;
  const distance = kind === "rms"
    ? "x"
    : `select(vec4f(), x - mean${r}, vec4u(4u * q) + vec4u(0u, 1u, 2u, 3u) < vec4u(k))`;
  return `{ ${
    kind === "rms" ? "" : `var total = vec4f(); ${walk("total += x;")} mean${r} = ${mean("total")};`
  }
        var squares = vec4f(); ${walk(`let d = ${distance}; squares = fma(d, d, squares);`)}
        r${r} = inverseSqrt(${mean("squares")} + u.eps); }`;
}

function applyNorm(rows: number[], kind: NormKind): string {
  const normed = (r: number) =>
    kind === "rms" ? `a${r} * r${r} * by` : `(a${r} - mean${r}) * r${r} * by + add`;
  return `let by = weights[gain + step]; ${kind === "layer" ? "let add = weights[shift + step];" : ""} ${
    rows.map((r) => `a${r} = ${normed(r)};`).join(" ")
  }`;
}
