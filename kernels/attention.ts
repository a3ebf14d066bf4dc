/**
 * Causal attention over packed documents, without the matrix of scores (FlashAttention, arXiv 2205.14135).
 *
 * Reads `qkv` [tokens, (heads + 2·kvHeads)·ds], where ds = headDim rounded up to 4: head h of q at columns h·ds, of k at
 * (heads + h)·ds, of v at (heads + kvHeads + h)·ds; columns headDim … ds − 1 of each head are zero. Reads `starts` [tokens]
 * u32: query i sees the keys starts[i] ≤ j ≤ i; `starts` never decreases. Overwrites `out` [tokens, heads·ds] (padding
 * columns zero) and `lse` [heads, tokens], the log of the sum of exp(scores), which the backward pass needs.
 *
 * A query walks over its keys in groups that begin at multiples of the group size, and a key it does not see contributes
 * exactly nothing: so with documents starting at multiples of 8, its bits do not depend on where its document lies.
 *
 * With a soft cap, scores s become cap · tanh(s / cap).
 *
 * @module
 */
import {
  alignedDown,
  type AttentionShape,
  attentionUniforms,
  attentionUniformValues,
  blockFromTheEnd,
  GPU_THREADS,
  headColumns,
  LN2,
  loadScalars,
  LOG2E,
  MASKED,
  quadsOf,
  sharedRows,
  stagedRows,
  stageRows,
  START,
  storeScalars,
  threadVectors,
} from "./attention_text.ts";
import { cachedKernel, type KernelSpec, type Launch, type Profile, repeat } from "./kernel.ts";
import { CAPPED_SCORE } from "./soft_cap.ts";

export type { AttentionShape } from "./attention_text.ts";

const INTERFACE = {
  storage: { qkv: "vec4f", starts: "u32", out: "vec4f", lse: "f32" },
  writes: ["out", "lse"],
};

/** out = softmax(scale · q kᵀ) v over the keys that each query sees. */
export function attention<B>(
  profile: Profile,
  buffers: { qkv: B; starts: B; out: B; lse: B },
  shape: AttentionShape,
): Launch<B> {
  const { tokens, heads, headDim } = shape;
  const cpu = profile.kind === "cpu", cap = shape.softCap !== undefined;
  const name = `attention_${cpu ? `cpu${profile.lanes}` : "gpu"}_${headDim}${cap ? "_capped" : ""}`;
  const kernel = cachedKernel(name, () => {
    const text = cpu ? cpuForward(profile.lanes, headDim, cap) : gpuForward(headDim, cap);
    const module = `${text.module ?? ""}${cap ? `\n${CAPPED_SCORE}` : ""}`;
    return { ...INTERFACE, uniforms: attentionUniforms(cap), ...text, module };
  });
  const queries = cpu ? attentionTile(headDim).queries * profile.lanes : GPU_THREADS;
  return {
    kernel,
    buffers,
    uniforms: attentionUniformValues(shape),
    grid: [Math.ceil(tokens / queries), heads, 1],
  };
}

/**
 * Queries per lane and keys per step of the cpu profile: few enough that the code stays near the instruction cache and compiles
 * within a second. Decoding walks in the same steps and so gives the same bits.
 */
export function attentionTile(headDim: number): { queries: number; keys: number } {
  if (headDim <= 20) return { queries: 4, keys: 4 };
  if (headDim <= 40) return { queries: 4, keys: 2 };
  if (headDim <= 64) return { queries: 4, keys: 1 };
  return { queries: 2, keys: 1 };
}

type Text =
  & Pick<KernelSpec, "needs" | "workgroup" | "module" | "body">
  & Partial<Pick<KernelSpec, "storage">>;

function cpuForward(lanes: number, headDim: number, cap: boolean): Text {
  const quads = quadsOf(headDim);
  const { queries, keys } = attentionTile(headDim);
  // Eight scores side by side hide the latency of an addition; with more, other numbers leave the registers.
  const together = Math.min(queries, 8 / keys);
  const block = queries * lanes;
  const shared = sharedRows(lanes, keys, quads);
  const each = (text: (i: number) => string) => repeat(queries, text, "\n  ");
  return {
    storage: { ...INTERFACE.storage, qkv: "quad" },
    needs: ["subgroups"],
    workgroup: lanes,
    body: `
  let origin = ${blockFromTheEnd(block)};
  // A barrier in its stead would put every variable into memory.
  let first = subgroupBroadcastFirst(${alignedDown("starts[origin]")});
  let head = group.y;
  let last = min(origin + ${block - 1}u, u.tokens - 1u);
  ${headColumns(quads)}
  ${
      each((i) =>
        `let query${i} = origin + ${i * lanes}u + lane;
  let row${i} = min(query${i}, last);
  let start${i} = starts[row${i}];
  let span${i} = query${i} - start${i};
  ${loadScalars(`q${i}_`, (q) => `load_qkv(row${i} * u.ld + qColumn + ${q}) * (u.scale * ${LOG2E})`, headDim)}
  ${repeat(headDim, (d) => `var o${i}_${d} = 0.0;`, " ")}
  var max${i} = ${START}; var sum${i} = 0.0;`
      )
    }
  ${shared.setup}
  var key = first;
  loop {
    ${shared.place("at", "key", "last", "u.ld")}
    ${shared.load("k", "qkv", "at", "kColumn")}
    ${each((i) => repeat(keys, (j) => `var s${i}_${j} = 0.0;`, " "))}
    ${
      repeat(queries / together, (batch) =>
        repeat(headDim, (d) =>
          `{ ${
            repeat(keys, (j) =>
              `let x${j} = ${shared.value("k", j, d)};`, " ")
          } ${
            repeat(keys, (j) =>
              repeat(together, (n) => {
                const i = batch * together + n;
                return `s${i}_${j} = fma(q${i}_${d}, x${j}, s${i}_${j});`;
              }, " "), " ")
          } }`))
    }
    ${cap ? each((i) => repeat(keys, (j) => `s${i}_${j} = capped(s${i}_${j});`, " ")) : ""}
    ${
      each((i) =>
        onlineSoftmax(`${i}`, keys, (j) => `s${i}_${j}`, (j) => `key + ${j}u - start${i} <= span${i}`)
      )
    }
    ${shared.load("v", "qkv", "at", "vColumn")}
    ${
      repeat(headDim, (d) =>
        `{ ${
          repeat(keys, (j) => `let x${j} = ${shared.value("v", j, d)};`, " ")
        } ${repeat(queries, (i) => addWeighted(`o${i}_${d}`, `${i}`, keys, (j) => `x${j}`), " ")} }`)
    }
    continuing { key += ${keys}u; break if key > last; }
  }
  ${
      each((i) =>
        `if (query${i} < u.tokens) {
    let scale = 1.0 / sum${i};
    let at = query${i} * u.ldo + qColumn;
    ${storeScalars(`o${i}_`, "out", "at", headDim, "scale * ")}
    lse[head * u.tokens + query${i}] = ${LN2} * (max${i} + log2(sum${i}));
  }`
      )
    }`,
  };
}

/**
 * Statements of the online softmax for one query and a group of `keys` scores: they mask the scores, raise `max`, define
 * `keep` (the factor of everything summed so far) and the weights `w`, and update `sum`.
 */
export function onlineSoftmax(
  id: string,
  keys: number,
  score: (j: number) => string,
  seen: (j: number) => string,
): string {
  const masked = (j: number) => `m${id}_${j}`;
  const top = Array.from({ length: keys }, (_, j) => masked(j)).reduce(
    (most, x) => `max(${most}, ${x})`,
    `max${id}`,
  );
  return `${repeat(keys, (j) => `let ${masked(j)} = select(${MASKED}, ${score(j)}, ${seen(j)});`, " ")}
    let top${id} = ${top}; let keep${id} = exp2(max${id} - top${id}); max${id} = top${id};
    ${repeat(keys, (j) => `let w${id}_${j} = exp2(${masked(j)} - top${id});`, " ")}
    sum${id} = fma(sum${id}, keep${id}, ${repeat(keys, (j) => `w${id}_${j}`, " + ")});`;
}

/** Statements that add the weighted values to the sum `into`, after {@linkcode onlineSoftmax}. */
function addWeighted(into: string, id: string, keys: number, value: (j: number) => string): string {
  return `${into} = ${into} * keep${id}; ` +
    repeat(keys, (j) => `${into} = fma(w${id}_${j}, ${value(j)}, ${into});`, " ");
}

/** Keys per step of the gpu profile: enough to hide latency, fewer where the heads are large and so is the text. */
const gpuKeys = (quads: number) => quads <= 8 ? 4 : 2;

function gpuForward(headDim: number, cap: boolean): Text {
  const quads = quadsOf(headDim);
  const tile = stagedRows(quads, 2);
  const keys = gpuKeys(quads);
  const { looped, declare, define, at: of, index, each } = threadVectors(quads);
  const at = (j: number, q: string) => `[(j + ${j}u) * ${quads}u + ${index(q)}]`;
  const score = (j: number) => `t${j}.x + t${j}.y + t${j}.z + t${j}.w`;
  return {
    workgroup: GPU_THREADS,
    module: `var<workgroup> firstKey: u32;
var<workgroup> tileK: array<vec4f, ${tile * quads}>;
var<workgroup> tileV: array<vec4f, ${tile * quads}>;`,
    body: `
  let origin = ${blockFromTheEnd(GPU_THREADS)};
  let head = group.y;
  let last = min(origin + ${GPU_THREADS - 1}u, u.tokens - 1u);
  let query = origin + lane;
  let row = min(query, last);
  let start = starts[row];
  let span = query - start;
  ${headColumns(quads)}
  ${declare("q", "o")}${
      each((q) =>
        `${define("let", "q", q, `qkv[row * u.ld + qColumn + ${index(q)}] * (u.scale * ${LOG2E})`)} ${
          define("var", "o", q, "vec4f()")
        }`, "\n  ")
    }
  var max0 = ${START}; var sum0 = 0.0;
  if (lane == 0u) { firstKey = ${alignedDown("starts[origin]")}; }
  let first = workgroupUniformLoad(&firstKey);
  for (var key0 = first; key0 <= last; key0 += ${tile}u) {
    workgroupBarrier();
    ${stageRows("tileK", tile, quads, "qkv", "key0", "last", "u.ld", "kColumn")}
    ${stageRows("tileV", tile, quads, "qkv", "key0", "last", "u.ld", "vColumn")}
    workgroupBarrier();
    for (var j = 0u; j < ${tile}u; j += ${keys}u) {
      let key = key0 + j;
      ${
      repeat(
        keys,
        (j) =>
          looped
            ? `var t${j} = vec4f(); ${each((q) => `t${j} = fma(q[${q}], tileK${at(j, q)}, t${j});`)}`
            : `var t${j} = q0 * tileK${at(j, "0")};
      ${repeat(quads - 1, (q) => `t${j} = fma(q${q + 1}, tileK${at(j, `${q + 1}`)}, t${j});`, " ")}`,
        "\n      ",
      )
    }
      ${
      onlineSoftmax(
        "0",
        keys,
        (j) => cap ? `capped(${score(j)})` : score(j),
        (j) => `key + ${j}u - start <= span`,
      )
    }
      ${
      each(
        (q) =>
          `${of("o", q)} = ${of("o", q)} * keep0; ` +
          repeat(keys, (j) => `${of("o", q)} = fma(vec4f(w0_${j}), tileV${at(j, q)}, ${of("o", q)});`, " "),
        "\n      ",
      )
    }
    }
  }
  if (query < u.tokens) {
    let scale = 1.0 / sum0;
    let at = query * u.ldo + qColumn;
    ${each((q) => `out[at + ${index(q)}] = ${of("o", q)} * scale;`)}
    lse[head * u.tokens + query] = ${LN2} * (max0 + log2(sum0));
  }`,
  };
}
