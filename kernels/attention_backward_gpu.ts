/**
 * The gradients of attention on GPUs: 64 threads, each owns one query (dq) or one key (dk, dv) in registers; the rows of the
 * other side are staged in workgroup memory and all threads read the same one.
 *
 * @module
 */
import {
  alignedDown,
  blockFromTheEnd,
  GPU_THREADS,
  headColumns,
  LOG2E,
  quadsOf,
  queryHeads,
  stagedRows,
  stageRows,
  threadVectors,
} from "./attention_text.ts";
import type { KernelSpec } from "./kernel.ts";

type Text = Pick<KernelSpec, "workgroup" | "module" | "body">;

/** Sum of the components of a vec4. */
const total = (v: string) => `${v}.x + ${v}.y + ${v}.z + ${v}.w`;

/** The score in `s`, under a soft cap where there is one. */
const scoreOf = (cap: boolean) => cap ? `capped(${total("s")})` : total("s");

/** delta and dq of 64 queries. */
export function dqGpu(headDim: number, cap: boolean): Text {
  const quads = quadsOf(headDim);
  const tile = stagedRows(quads, 2);
  const { looped, declare, define, at, index, each } = threadVectors(quads);
  const key = (q: string) => looped ? `tileK[j * ${quads}u + ${q}]` : `k${q}`;
  return {
    workgroup: GPU_THREADS,
    module: `var<workgroup> firstKey: u32;
var<workgroup> tileK: array<vec4f, ${tile * quads}>;
var<workgroup> tileV: array<vec4f, ${tile * quads}>;`,
    body: `
  let origin = ${blockFromTheEnd(GPU_THREADS)};
  if (lane == 0u) { firstKey = ${alignedDown("starts[origin]")}; }
  let first = workgroupUniformLoad(&firstKey);
  let head = group.y;
  let last = min(origin + ${GPU_THREADS - 1}u, u.tokens - 1u);
  let query = origin + lane;
  let row = min(query, last);
  let start = starts[row];
  let span = query - start;
  let at = row * u.ldo + head * ${quads}u;
  let lseOfRow = lse[head * u.tokens + row] * ${LOG2E};
  ${headColumns(quads)}
  var product = vec4f();
  ${declare("q", "g", "dq")}${
      each((q) =>
        `${define("let", "q", q, `qkv[row * u.ld + qColumn + ${index(q)}] * (u.scale * ${LOG2E})`)} ${
          define("let", "g", q, `dout[at + ${index(q)}]`)
        } ${define("var", "dq", q, "vec4f()")}
  product = fma(${at("g", q)}, out[at + ${index(q)}], product);`, "\n  ")
    }
  let deltaOfRow = ${total("product")};
  for (var key0 = first; key0 <= last; key0 += ${tile}u) {
    workgroupBarrier();
    ${stageRows("tileK", tile, quads, "qkv", "key0", "last", "u.ld", "kColumn")}
    ${stageRows("tileV", tile, quads, "qkv", "key0", "last", "u.ld", "vColumn")}
    workgroupBarrier();
    for (var j = 0u; j < ${tile}u; j++) {
      let key = key0 + j;
      var s = vec4f(); var t = vec4f();
      ${
      each((q) =>
        `${looped ? "" : `let k${q} = tileK[j * ${quads}u + ${q}u]; `}s = fma(${at("q", q)}, ${
          key(q)
        }, s); ` +
        `t = fma(${at("g", q)}, tileV[j * ${quads}u + ${index(q)}], t);`, "\n      ")
    }
      let score = ${scoreOf(cap)};
      let p = exp2(score - lseOfRow);
      let w = select(0.0, p * (${total("t")} - deltaOfRow)${
      cap ? " * slope(score)" : ""
    }, key - start <= span);
      ${each((q) => `${at("dq", q)} = fma(vec4f(w), ${key(q)}, ${at("dq", q)});`, " ")}
    }
  }
  if (query < u.tokens) {
    delta[head * u.tokens + query] = deltaOfRow;
    let to = query * u.ld + qColumn;
    ${each((q) => `dqkv[to + ${index(q)}] = u.scale * ${at("dq", q)};`)}
  }`,
  };
}

/** dk and dv of 64 keys, summed over the query heads that share them. */
export function dkvGpu(headDim: number, cap: boolean): Text {
  const quads = quadsOf(headDim);
  const tile = stagedRows(quads, 2);
  const { looped, declare, define, at, index, each } = threadVectors(quads);
  const staged = (matrix: "Q" | "G", q: string) =>
    looped ? `tile${matrix}[j * ${quads}u + ${q}]` : `${matrix.toLowerCase()}${q}`;
  return {
    workgroup: GPU_THREADS,
    module: `var<workgroup> endQuery: u32;
var<workgroup> tileQ: array<vec4f, ${tile * quads}>;
var<workgroup> tileG: array<vec4f, ${tile * quads}>;
var<workgroup> tileLse: array<f32, ${tile}>;
var<workgroup> tileDelta: array<f32, ${tile}>;`,
    body: `
  let origin = group.x * ${GPU_THREADS}u;
  let last = u.tokens - 1u;
  if (lane == 0u) { endQuery = ends[min(origin + ${GPU_THREADS - 1}u, last)]; }
  let end = workgroupUniformLoad(&endQuery);
  let kvHead = group.y;
  let kColumn = (u.heads + kvHead) * ${quads}u;
  let vColumn = (u.heads + u.kvHeads + kvHead) * ${quads}u;
  let key = origin + lane;
  let row = min(key, last);
  let span = ends[row] - key;
  ${declare("k", "v", "dk", "dv")}${
      each((q) =>
        `${define("let", "k", q, `qkv[row * u.ld + kColumn + ${index(q)}] * (u.scale * ${LOG2E})`)} ${
          define("let", "v", q, `qkv[row * u.ld + vColumn + ${index(q)}]`)
        }
  ${define("var", "dk", q, "vec4f()")} ${define("var", "dv", q, "vec4f()")}`, "\n  ")
    }
  ${queryHeads}
  for (var head = firstHead; head < endHead; head++) {
    let column = head * ${quads}u;
    for (var query0 = origin; query0 < end; query0 += ${tile}u) {
      workgroupBarrier();
      ${stageRows("tileQ", tile, quads, "qkv", "query0", "last", "u.ld", "column")}
      ${stageRows("tileG", tile, quads, "dout", "query0", "last", "u.ldo", "column")}
      if (lane < ${tile}u) {
        let scalar = head * u.tokens + min(query0 + lane, last);
        tileLse[lane] = lse[scalar] * ${LOG2E};
        tileDelta[lane] = delta[scalar];
      }
      workgroupBarrier();
      for (var j = 0u; j < ${tile}u; j++) {
        let query = query0 + j;
        var s = vec4f(); var t = vec4f();
        ${
      each(
        (q) =>
          (looped
            ? ""
            : `let q${q} = tileQ[j * ${quads}u + ${q}u]; let g${q} = tileG[j * ${quads}u + ${q}u]; `) +
          `s = fma(${at("k", q)}, ${staged("Q", q)}, s); t = fma(${at("v", q)}, ${staged("G", q)}, t);`,
        "\n        ",
      )
    }
        let score = ${scoreOf(cap)};
        let p = select(0.0, exp2(score - tileLse[j]), query - key < span);
        let w = p * (${total("t")} - tileDelta[j])${cap ? " * slope(score)" : ""};
        ${
      each((q) =>
        `${at("dk", q)} = fma(vec4f(w), ${staged("Q", q)}, ${at("dk", q)}); ` +
        `${at("dv", q)} = fma(vec4f(p), ${staged("G", q)}, ${at("dv", q)});`, "\n        ")
    }
      }
    }
  }
  if (key < u.tokens) {
    let to = key * u.ld;
    ${
      each((q) =>
        `dqkv[to + kColumn + ${index(q)}] = u.scale * ${at("dk", q)}; ` +
        `dqkv[to + vColumn + ${index(q)}] = ${at("dv", q)};`
      )
    }
  }`,
  };
}
