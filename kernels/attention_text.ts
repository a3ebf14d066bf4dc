/**
 * What the attention kernels share: sizes, where q, k and v lie in the fused tensor, and how keys reach the threads.
 *
 * Both profiles give a query (or, for the gradients of keys and values, a key) to one invocation, which holds its vectors in
 * registers and walks over the other side. On the cpu profile the lanes of the one subgroup load a few rows together, every
 * vec4 by one lane, and `subgroupBroadcast` hands the values round. On the gpu profile 64 threads stage a tile of rows in
 * workgroup memory and all read the same row.
 *
 * @module
 */
import { padded, repeat, rowStride } from "./kernel.ts";

/** Size of an attention over packed tokens. */
export interface AttentionShape {
  tokens: number;
  heads: number;
  /** Key and value heads; head h uses ⌊h · kvHeads / heads⌋. */
  kvHeads: number;
  headDim: number;
  /** Factor of the scores, usually 1/√headDim. */
  scale: number;
  /** Soft cap of the scores (`soft_cap.ts`). */
  softCap?: number;
}

/** Uniforms of every attention kernel over packed tokens: rows of qkv are `ld` vec4s apart, of out `ldo`; a head has `quads`. */
export function attentionUniforms(cap: boolean): Record<string, "u32" | "f32"> {
  return {
    tokens: "u32",
    heads: "u32",
    kvHeads: "u32",
    ld: "u32",
    ldo: "u32",
    quads: "u32",
    scale: "f32",
    ...(cap ? { cap: "f32" } : {}),
  };
}

/** A soft cap in the units of the scores inside the kernels. */
export const capUniform = (softCap?: number): Record<string, number> =>
  softCap === undefined ? {} : { cap: softCap * Math.LOG2E };

/** Values of {@linkcode attentionUniforms}. */
export function attentionUniformValues(shape: AttentionShape): Record<string, number> {
  const { tokens, heads, kvHeads, headDim, scale } = shape;
  const quads = quadsOf(headDim);
  const ld = rowStride(4 * (heads + 2 * kvHeads) * quads) / 4, ldo = rowStride(4 * heads * quads) / 4;
  return { tokens, heads, kvHeads, ld, ldo, quads, scale, ...capUniform(shape.softCap) };
}

/** vec4s per head. */
export function quadsOf(headDim: number): number {
  return padded(headDim) / 4;
}

/** Scores are in units of ln 2, because 2ˣ is cheaper than eˣ. */
export const LOG2E = "1.4426950408889634";
export const LN2 = "0.6931471805599453";

/** Score of a key that is not seen; below {@linkcode START} so that its weight is exactly zero from the first key on. */
export const MASKED = "-2e30";

/** Maximum before the first key. */
export const START = "-1e30";

export const COMPONENT = "xyzw";

/** Vec4s of head `head` begin at these columns of a row of qkv. */
export function headColumns(quads: number): string {
  return `let kvHead = head * u.kvHeads / u.heads;
  let qColumn = head * ${quads}u;
  let kColumn = (u.heads + kvHead) * ${quads}u;
  let vColumn = (u.heads + u.kvHeads + kvHead) * ${quads}u;`;
}

/**
 * Rows that the lanes of a subgroup load together and broadcast. `count` rows of `quads` vec4s take `loads` loads per lane;
 * vec4 number e of the block is loaded by lane e % lanes in load ⌊e / lanes⌋.
 */
export function sharedRows(lanes: number, count: number, quads: number) {
  const loads = Math.ceil(count * quads / lanes);
  return {
    /** Statements before the loop: which row and column this lane loads. */
    setup: repeat(
      loads,
      (i) =>
        `let sharedRow${i} = (${i * lanes}u + lane) / ${quads}u; let sharedQuad${i} = (${
          i * lanes
        }u + lane) % ${quads}u;`,
      "\n  ",
    ),
    /** Statements that define `at`0, …: where the lane's parts of rows first, first + 1, … begin, none past `last`. */
    place: (at: string, first: string, last: string, ld: string) =>
      repeat(
        loads,
        (i) => `let ${at}${i} = min(${first} + sharedRow${i}, ${last}) * ${ld} + sharedQuad${i};`,
        "\n    ",
      ),
    /** Statements that load the columns from `column` on of the rows placed at `at`; `matrix` is a binding of quads. */
    load: (name: string, matrix: string, at: string, column: string) =>
      repeat(loads, (i) => `let ${name}${i} = load_${matrix}(${at}${i} + ${column});`, "\n    "),
    /** Expression of element `d` of row `row` of the block, the same in all lanes. */
    value: (name: string, row: number, d: number) => {
      const element = row * quads + (d >> 2);
      return `subgroupBroadcast(${name}${Math.floor(element / lanes)}.${COMPONENT[d & 3]}, ${
        element % lanes
      }u)`;
    },
  };
}

/**
 * Statements for every quad of a head, written out where it has few. Otherwise a loop, because written out (or unrolled, which
 * a bound in a uniform prevents) loads and stores take longer to compile than the rest of a kernel.
 */
export function forQuads(quads: number, statement: (i: string) => string): string {
  if (quads <= 5) return repeat(quads, (q) => statement(`${q}u`), "\n  ");
  return `for (var i = 0u; i < u.quads; i++) { ${statement("i")} }`;
}

/** Statements that hold a vector in scalars `name`0, `name`1, …; `quad` is an expression of its vec4 number `i`. */
export function loadScalars(name: string, quad: (i: string) => string, headDim: number): string {
  const quads = quadsOf(headDim);
  return `var ${name}row: array<vec4f, ${quads}>;
  ${forQuads(quads, (i) => `${name}row[${i}] = ${quad(i)};`)}
  ${repeat(headDim, (d) => `let ${name}${d} = ${name}row[${d >> 2}].${COMPONENT[d & 3]};`, " ")}`;
}

/** Statements that store the scalars `name`0 … `name`(headDim − 1), times `factor`, from `index` on, with zeros in the padding. */
export function storeScalars(
  name: string,
  matrix: string,
  index: string,
  headDim: number,
  factor = "",
): string {
  const quads = quadsOf(headDim);
  const quad = (q: number) =>
    `vec4f(${repeat(4, (c) => 4 * q + c < headDim ? `${name}${4 * q + c}` : "0.0", ", ")})`;
  return `var ${name}row = array<vec4f, ${quads}>(${repeat(quads, quad, ", ")});
    ${forQuads(quads, (i) => `${matrix}[${index} + ${i}] = ${factor}${name}row[${i}];`)}`;
}

/**
 * A thread's vectors on the gpu profile, `quads` vec4s each: in variables `name`0, `name`1, … , or of large heads in arrays that
 * loops go through. Those would not fit the registers either way, and written out they take minutes to compile.
 */
export function threadVectors(quads: number) {
  const looped = quads > 32;
  return {
    looped,
    /** Statements that declare the vectors, before all others. */
    declare: (...names: string[]) =>
      looped ? names.map((name) => `var ${name}: array<vec4f, ${quads}>;`).join(" ") : "",
    /** Statement that defines vec4 `q` of a vector; `var` where it changes. */
    define: (keyword: "let" | "var", name: string, q: string, value: string) =>
      looped ? `${name}[${q}] = ${value};` : `${keyword} ${name}${q} = ${value};`,
    /** Vec4 `q` of a vector. */
    at: (name: string, q: string) => looped ? `${name}[${q}]` : `${name}${q}`,
    /** An index expression. */
    index: (q: string) => looped ? q : `${q}u`,
    /** Statements for every vec4 of the vectors. */
    each: (text: (q: string) => string, separator = "\n    ") =>
      looped
        ? `for (var i = 0u; i < u.quads; i++) { ${text("i")} }`
        : repeat(quads, (q) => text(`${q}`), separator),
  };
}

/** Invocations of a workgroup on the gpu profile. */
export const GPU_THREADS = 64;

/** Rows of `vectors` staged matrices that fit into 15 KiB of workgroup memory: a multiple of 8 and at most 32, or 4. */
export function stagedRows(quads: number, vectors: number): number {
  return Math.min(32, Math.floor(15 * 64 / (quads * vectors) / 8) * 8) || 4;
}

/** Statements that stage `rows` rows from `first` on (none past `last`) in the workgroup array `tile`. */
export function stageRows(
  tile: string,
  rows: number,
  quads: number,
  matrix: string,
  first: string,
  last: string,
  ld: string,
  column: string,
): string {
  return `for (var e = lane; e < ${rows * quads}u; e += ${GPU_THREADS}u) {
      ${tile}[e] = ${matrix}[min(${first} + e / ${quads}u, ${last}) * ${ld} + ${column} + e % ${quads}u];
    }`;
}

/** First query of a workgroup's block: the last blocks have the most keys to walk over and go first. */
export const blockFromTheEnd = (block: number) =>
  `((u.tokens + ${block - 1}u) / ${block}u - 1u - group.x) * ${block}u`;

/** Rounded down to a multiple of 8, where documents may start. */
export const alignedDown = (index: string) => `(${index} & 0xfffffff8u)`;

/** Statements that define the query heads `firstHead` … `endHead` − 1 of the key and value head `kvHead`. */
export const queryHeads = `let firstHead = (kvHead * u.heads + u.kvHeads - 1u) / u.kvHeads;
  let endHead = ((kvHead + 1u) * u.heads + u.kvHeads - 1u) / u.kvHeads;`;
