/**
 * The gradients of attention on software adapters.
 *
 * As in the forward kernel a lane owns a few queries (dq) or keys (dk, dv), keeps their vectors and sums in named scalars, and
 * the lanes load the rows of the other side together and broadcast them. How many it owns and how many rows a step takes is
 * chosen for about 512 multiply-adds per step.
 *
 * @module
 */
import {
  alignedDown,
  blockFromTheEnd,
  forQuads,
  headColumns,
  loadScalars,
  LOG2E,
  quadsOf,
  queryHeads,
  sharedRows,
  storeScalars,
} from "./attention_text.ts";
import { type KernelSpec, repeat } from "./kernel.ts";

/** Rows that a lane owns, and rows of the other side per step. */
export interface BackwardTile {
  own: number;
  step: number;
}

/** Queries per lane and keys per step of the dq kernel. */
export function dqTile(headDim: number): BackwardTile {
  if (headDim <= 40) return { own: 4, step: 2 };
  if (headDim <= 64) return { own: 2, step: 1 };
  return { own: 1, step: 1 };
}

/** Keys per lane and queries per step of the dk and dv kernel. */
export function dkvTile(headDim: number): BackwardTile {
  if (headDim <= 20) return { own: 4, step: 2 };
  if (headDim <= 40) return { own: 4, step: 1 };
  return { own: 2, step: 1 };
}

type Text = Pick<KernelSpec, "needs" | "workgroup" | "module" | "body">;

/**
 * Statements that add to s{own}_{step} the product of the lane's vectors `first[0]` with the shared rows `first[1]`, and to
 * t{own}_{step} that of `second`; all rows of the step side by side, to hide the latency of an addition.
 */
function twoProducts(
  shared: ReturnType<typeof sharedRows>,
  headDim: number,
  { own, step }: BackwardTile,
  first: [string, string],
  second: [string, string],
): string {
  return repeat(headDim, (d) => {
    const rows = repeat(
      step,
      (j) => `let x${j} = ${shared.value(first[1], j, d)}; let y${j} = ${shared.value(second[1], j, d)};`,
      " ",
    );
    const sums = repeat(
      step,
      (j) =>
        repeat(own, (i) =>
          `s${i}_${j} = fma(${first[0]}${i}_${d}, x${j}, s${i}_${j}); ` +
          `t${i}_${j} = fma(${second[0]}${i}_${d}, y${j}, t${i}_${j});`, " "),
      " ",
    );
    return `{ ${rows} ${sums} }`;
  });
}

/** delta and dq of a block of queries. */
export function dqCpu(lanes: number, headDim: number, cap: boolean): Text {
  const quads = quadsOf(headDim);
  const { own, step } = dqTile(headDim);
  const block = own * lanes;
  const shared = sharedRows(lanes, step, quads);
  const each = (text: (i: number) => string) => repeat(own, text, "\n  ");
  return {
    needs: ["subgroups"],
    workgroup: lanes,
    body: `
  let origin = ${blockFromTheEnd(block)};
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
  let at${i} = row${i} * u.ldo + qColumn;
  let lse${i} = lse[head * u.tokens + row${i}] * ${LOG2E};
  ${loadScalars(`q${i}_`, (q) => `load_qkv(row${i} * u.ld + qColumn + ${q}) * (u.scale * ${LOG2E})`, headDim)}
  ${loadScalars(`g${i}_`, (q) => `load_dout(at${i} + ${q})`, headDim)}
  var product${i} = vec4f();
  ${forQuads(quads, (q) => `product${i} = fma(g${i}_row[${q}], out[at${i} + ${q}], product${i});`)}
  let delta${i} = product${i}.x + product${i}.y + product${i}.z + product${i}.w;
  ${repeat(headDim, (d) => `var dq${i}_${d} = 0.0;`, " ")}`
      )
    }
  ${shared.setup}
  for (var key = first; key <= last; key += ${step}u) {
    ${shared.place("at", "key", "last", "u.ld")}
    ${shared.load("k", "qkv", "at", "kColumn")}
    ${shared.load("v", "qkv", "at", "vColumn")}
    ${each((i) => repeat(step, (j) => `var s${i}_${j} = 0.0; var t${i}_${j} = 0.0;`, " "))}
    ${twoProducts(shared, headDim, { own, step }, ["q", "k"], ["g", "v"])}
    ${cap ? each((i) => repeat(step, (j) => `s${i}_${j} = capped(s${i}_${j});`, " ")) : ""}
    ${
      each((i) =>
        repeat(step, (j) =>
          `let w${i}_${j} = select(0.0, exp2(s${i}_${j} - lse${i}) * (t${i}_${j} - delta${i})${
            cap ? ` * slope(s${i}_${j})` : ""
          }, ` +
          `key + ${j}u - start${i} <= span${i});`, "\n    ")
      )
    }
    ${
      repeat(headDim, (d) =>
        `{ ${
          repeat(step, (j) => `let x${j} = ${shared.value("k", j, d)};`, " ")
        } ${
          repeat(
            own,
            (i) => repeat(step, (j) => `dq${i}_${d} = fma(w${i}_${j}, x${j}, dq${i}_${d});`, " "),
            " ",
          )
        } }`)
    }
  }
  ${
      each((i) =>
        `if (query${i} < u.tokens) {
    delta[head * u.tokens + query${i}] = delta${i};
    let to = query${i} * u.ld + qColumn;
    ${storeScalars(`dq${i}_`, "dqkv", "to", headDim, "u.scale * ")}
  }`
      )
    }`,
  };
}

/** dk and dv of a block of keys, summed over the query heads that share them. */
export function dkvCpu(lanes: number, headDim: number, cap: boolean): Text {
  const quads = quadsOf(headDim);
  const { own, step } = dkvTile(headDim);
  const block = own * lanes;
  const shared = sharedRows(lanes, step, quads);
  const each = (text: (i: number) => string) => repeat(own, text, "\n  ");
  return {
    needs: ["subgroups"],
    workgroup: lanes,
    body: `
  let origin = group.x * ${block}u;
  let last = u.tokens - 1u;
  let end = subgroupBroadcastFirst(ends[min(origin + ${block - 1}u, last)]);
  let kvHead = group.y;
  let kColumn = (u.heads + kvHead) * ${quads}u;
  let vColumn = (u.heads + u.kvHeads + kvHead) * ${quads}u;
  ${
      each((i) =>
        `let key${i} = origin + ${i * lanes}u + lane;
  let row${i} = min(key${i}, last);
  let span${i} = ends[row${i}] - key${i};
  ${loadScalars(`k${i}_`, (q) => `load_qkv(row${i} * u.ld + kColumn + ${q}) * (u.scale * ${LOG2E})`, headDim)}
  ${loadScalars(`v${i}_`, (q) => `load_qkv(row${i} * u.ld + vColumn + ${q})`, headDim)}
  ${repeat(headDim, (d) => `var dk${i}_${d} = 0.0; var dv${i}_${d} = 0.0;`, " ")}`
      )
    }
  ${shared.setup}
  ${queryHeads}
  for (var head = firstHead; head < endHead; head++) {
    let column = head * ${quads}u;
    for (var query = origin; query < end; query += ${step}u) {
      ${shared.place("qAt", "query", "last", "u.ld")}
      ${shared.place("gAt", "query", "last", "u.ldo")}
      ${shared.load("q", "qkv", "qAt", "column")}
      ${shared.load("g", "dout", "gAt", "column")}
      let scalars = head * u.tokens + min(query + lane % ${step}u, last);
      let lses = lse[scalars] * ${LOG2E};
      let deltas = delta[scalars];
      ${each((i) => repeat(step, (j) => `var s${i}_${j} = 0.0; var t${i}_${j} = 0.0;`, " "))}
      ${twoProducts(shared, headDim, { own, step }, ["k", "q"], ["v", "g"])}
      ${cap ? each((i) => repeat(step, (j) => `s${i}_${j} = capped(s${i}_${j});`, " ")) : ""}
      ${
      repeat(step, (j) =>
        `let lse${j} = subgroupBroadcast(lses, ${j}u); let delta${j} = subgroupBroadcast(deltas, ${j}u);
      ${
          each((i) =>
            `let p${i}_${j} = select(0.0, exp2(s${i}_${j} - lse${j}), query + ${j}u - key${i} < span${i}); ` +
            `let w${i}_${j} = p${i}_${j} * (t${i}_${j} - delta${j})${cap ? ` * slope(s${i}_${j})` : ""};`
          )
        }`, "\n      ")
    }
      ${
      repeat(headDim, (d) =>
        `{ ${
          repeat(step, (j) =>
            `let x${j} = ${shared.value("q", j, d)}; let y${j} = ${shared.value("g", j, d)};`, " ")
        } ${
          repeat(own, (i) =>
            repeat(
              step,
              (j) =>
                `dk${i}_${d} = fma(w${i}_${j}, x${j}, dk${i}_${d}); dv${i}_${d} = fma(p${i}_${j}, y${j}, dv${i}_${d});`,
              " ",
            ), " ")
        } }`)
    }
    }
  }
  ${
      each((i) =>
        `if (key${i} < u.tokens) {
    let to = key${i} * u.ld;
    ${storeScalars(`dk${i}_`, "dqkv", "to + kColumn", headDim, "u.scale * ")}
    ${storeScalars(`dv${i}_`, "dqkv", "to + vColumn", headDim)}
  }`
      )
    }`,
  };
}
