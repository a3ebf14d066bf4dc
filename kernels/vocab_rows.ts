/**
 * How a kernel walks over rows of logits.
 *
 * cpu: one lane walks one row when the vocabulary is small, so nothing crosses lanes; the subgroup walks one row together when
 * it is large. gpu: a workgroup of 64 walks one row. An invocation takes `BLOCK` vec4s at a time as long as all their columns
 * lie within the vocabulary; what is left it takes one vec4 at a time, with the columns past the vocabulary masked. The layout
 * depends on the vocabulary only, so a row has the same bits in every batch.
 *
 * @module
 */
import { LINEAR_GROUP, linearGrid, padded, type Profile, repeat, rowStride } from "./kernel.ts";

/** Rows of logits [rows, vocab]; the row's results lie at `first` + row. */
export interface LogitsShape {
  rows: number;
  vocab: number;
  /** Index of the first row's token in the vectors that are read and written. */
  first: number;
}

/** From this vocabulary on, a subgroup shares a row on the cpu profile. */
const LARGE = 2048;

/** vec4s that an invocation handles at once. */
const BLOCK = 4;

const THREADS = 64;

/** The pieces of a row kernel over logits. */
export interface VocabLayout {
  name: string;
  workgroup: number;
  module: string;
  needs: "subgroups"[];
  /** Statements that define `row`, `token` (first + row) and `base`, and return when there is no such row. */
  begin: string;
  /**
   * A loop over the row. `body` gets the number of vec4s, an expression of each one's index, and of each one's columns inside
   * the vocabulary (vec4<bool>; undefined when all are).
   */
  walk(body: (count: number, index: (i: number) => string, inside?: string) => string): string;
  /** Expression of the reduction of `value` over the invocations of the row. */
  sum(value: string): string;
  max(value: string): string;
  min(value: string): string;
  /** True in one invocation of each row. */
  leader: string;
  grid(rows: number): [number, number, number];
}

/** Uniforms of every kernel with a {@linkcode VocabLayout}. */
export const vocabUniforms: Record<string, "u32" | "f32"> = {
  rows: "u32",
  vocab: "u32",
  quads: "u32",
  ld: "u32",
  first: "u32",
};

/** Values of {@linkcode vocabUniforms}. */
export function vocabUniformValues({ rows, vocab, first }: LogitsShape): Record<string, number> {
  return { rows, vocab, quads: padded(vocab) / 4, ld: rowStride(vocab) / 4, first };
}

/** The layout for a profile and a vocabulary. */
export function vocabLayout(profile: Profile, vocab: number): VocabLayout {
  const { lanes } = profile;
  if (profile.kind === "gpu") {
    return {
      name: "gpu",
      workgroup: THREADS,
      module: REDUCTIONS,
      needs: [],
      ...walkBy(LINEAR_GROUP, "lane", THREADS),
      sum: (value) => `workgroupSum(lane, ${value})`,
      max: (value) => `workgroupMax(lane, ${value})`,
      min: (value) => `workgroupMin(lane, ${value})`,
      leader: "lane == 0u",
      grid: linearGrid,
    };
  }
  if (vocab >= LARGE) {
    return {
      name: `cpu${lanes}_subgroup`,
      workgroup: lanes,
      module: "",
      needs: ["subgroups"],
      ...walkBy(LINEAR_GROUP, "lane", lanes),
      sum: (value) => `subgroupAdd(${value})`,
      max: (value) => `subgroupMax(${value})`,
      min: (value) => `subgroupMin(${value})`,
      leader: "lane == 0u",
      grid: linearGrid,
    };
  }
  return {
    name: `cpu${lanes}_lane`,
    workgroup: lanes,
    module: "",
    needs: [],
    ...walkBy(`${LINEAR_GROUP} * ${lanes}u + lane`, "0u", 1),
    sum: (value) => value,
    max: (value) => value,
    min: (value) => value,
    leader: "true",
    grid: (rows) => linearGrid(Math.ceil(rows / lanes)),
  };
}

/** `begin` and `walk` for invocations that start at vec4 `start` and advance by `step`. */
function walkBy(row: string, start: string, step: number): Pick<VocabLayout, "begin" | "walk"> {
  return {
    begin: `let row = ${row};
  if (row >= u.rows) { return; }
  let token = u.first + row;
  let base = row * u.ld;`,
    walk: (body) =>
      `let blocks = u.vocab / ${4 * BLOCK * step}u;
  for (var block = 0u; block < blocks; block++) {
    let at = block * ${BLOCK * step}u + ${start};
    ${body(BLOCK, (i) => `(at + ${i * step}u)`)}
  }
  for (var at = blocks * ${BLOCK * step}u + ${start}; at < u.quads; at += ${step}u) {
    let inside = vec4u(4u * at) + vec4u(0u, 1u, 2u, 3u) < vec4u(u.vocab);
    ${body(1, () => "at", "inside")}
  }`,
  };
}

const REDUCTIONS = [
  reduction("workgroupSum", "f32", (a, b) => `${a} + ${b}`),
  reduction("workgroupMax", "f32", (a, b) => `max(${a}, ${b})`),
  reduction("workgroupMin", "u32", (a, b) => `min(${a}, ${b})`),
].join("\n");

/** A tree over 64 invocations, of fixed shape, in workgroup memory. */
function reduction(name: string, type: "f32" | "u32", combine: (a: string, b: string) => string): string {
  return `var<workgroup> ${name}Parts: array<${type}, ${THREADS}>;
fn ${name}(lane: u32, value: ${type}) -> ${type} {
  workgroupBarrier();
  ${name}Parts[lane] = value;
  workgroupBarrier();
  for (var width = ${THREADS / 2}u; width > 0u; width = width / 2u) {
    if (lane < width) { ${name}Parts[lane] = ${combine(`${name}Parts[lane]`, `${name}Parts[lane + width]`)}; }
    workgroupBarrier();
  }
  return ${name}Parts[0];
}`;
}

/** `max(max(v0, v1), …)` over the components of the vec4s `v0` … `v(count − 1)`. */
export function largest(count: number, v: (i: number) => string): string {
  return repeat(count, (i) => `max(max(${v(i)}.x, ${v(i)}.y), max(${v(i)}.z, ${v(i)}.w))`, "|").split("|")
    .reduce((a, b) => `max(${a}, ${b})`);
}
