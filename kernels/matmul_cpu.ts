/**
 * Matmul for software adapters, where a load costs as much as a dozen multiply-adds and a barrier costs thousands.
 *
 * One workgroup is one subgroup. It makes a tile of `rows` × 4·lanes elements of C: the lanes lie side by side along the
 * columns, each owns 4 neighbouring ones, and holds its `rows` × 4 sums in named scalars. Four steps of k at a time:
 *
 *   1. every lane loads B for its own 4 columns and the 4 steps (4 vec4 loads),
 *   2. the lanes together load A for all rows and the 4 steps, every value by one lane only,
 *   3. row by row, `subgroupBroadcast` hands a value of A to all lanes, which multiply it with their 4 columns of B.
 *
 * With 32 rows and 8 lanes, 8 vec4 loads feed 512 multiply-adds. The vec4s of A and B run along k or along the row, whichever
 * way the matrix is stored, so nothing is ever transposed in memory. No workgroup memory, no barrier, no indexed array.
 *
 * @module
 */
import { cachedKernel, type Kernel, type KernelSpec, repeat } from "./kernel.ts";
import type { MatmulVariant } from "./matmul.ts";
import { matmulInterface, prepareStore, storeQuad, variantName } from "./matmul_text.ts";
import { type Blocks32, hasBlocks32, loadBlock, STORAGES } from "./storage.ts";

/** Time of a tile of this many rows, in units of a row of the 32-row tile (measured). */
const TILE_COSTS: [rows: number, cost: number][] = [[32, 32], [24, 25], [16, 18], [8, 12.5], [4, 10], [
  1,
  8.3,
]];

/** Rows of the tile that takes the least time for a C of `m` rows. */
export function cpuTileRows(m: number): number {
  let best = 0, least = Infinity;
  for (const [rows, cost] of TILE_COSTS) {
    const total = Math.ceil(m / rows) * cost;
    if (total < least) [best, least] = [rows, total];
  }
  return best;
}

/** The kernel whose workgroups make `rows` × 4·`lanes` of C. */
export function cpuMatmul(lanes: number, rows: number, variant: MatmulVariant): Kernel {
  return cachedKernel(`matmul_cpu${lanes}_${rows}_${variantName(variant)}`, () => {
    const { storage: form } = variant;
    if (rows <= FEW && variant.trans === "nt" && hasBlocks32(form)) {
      return fewRows(lanes, rows, variant, form);
    }
    const a = variant.trans === "tn" ? columnsOfA(lanes, rows) : rowsOfA(lanes, rows);
    const b = variant.trans === "nt" ? rowsOfB() : columnsOfB();
    const loads = [...b.loads, ...a.loads];
    const sums = (row: number) => repeat(4, (column) => `s${row}_${column}`, ", ");
    const { storage, ...rest } = matmulInterface(variant);
    return {
      ...rest,
      storage: { ...storage, ...quadsOf(variant) },
      needs: ["subgroups"],
      workgroup: lanes,
      body: `
  let row0 = group.y * ${rows}u;
  let quad = group.x * ${lanes}u + lane;
  let baseA = u.offsetA + group.z * u.strideA;
  let baseB = u.offsetB + group.z * u.strideB;
  ${loads.map(({ name, start }) => `let ${name}_at = ${start};`).join("\n  ")}
  ${repeat(rows, (row) => repeat(4, (column) => `var s${row}_${column} = 0.0;`, " "), "\n  ")}
  for (var step = 0u; step < u.k; step += 4u) {
    ${loads.map((load) => loadStatement(load, variant)).join("\n    ")}
    ${multiplyFourSteps(rows, a.find, b.find)}
  }
  // A loop over an indexed array, because one store per row compiles several times longer and runs no faster.
  var sums = array<vec4f, ${rows}>(${repeat(rows, (row) => `vec4f(${sums(row)})`, ", ")});
  ${prepareStore(variant, "quad")}
  if (inside) {
    for (var i = 0u; i < min(${rows}u, u.m - row0); i++) {
      ${storeQuad(variant, "row0 + i", "quad", "sums[i]")}
    }
  }`,
    };
  });
}

/** Rows up to which a product with quantised rows of B takes them block by block: with more, its text grows too long. */
const FEW = 4;

/** The kernel of few rows with B [n, k] in blocks of 32: 32 steps of k at a time, what a block shares is read once. */
function fewRows(
  lanes: number,
  rows: number,
  variant: MatmulVariant,
  form: Blocks32,
): Omit<KernelSpec, "name"> {
  const { storage, module: _, ...rest } = matmulInterface(variant);
  const { words } = STORAGES[form];
  const loads = Math.ceil(8 / lanes);
  const columns = [0, 1, 2, 3].map((c) => loadBlock(form, "b", `(b${c}_at + block * ${words}u)`, `${c}`));
  const each = (piece: (row: number) => string) => repeat(rows, piece, "\n    ");
  return {
    ...rest,
    storage: { ...storage, a: "quad" },
    needs: ["subgroups"],
    workgroup: lanes,
    body: `
  let row0 = group.y * ${rows}u;
  let quad = group.x * ${lanes}u + lane;
  ${each((r) => `let a${r}_at = u.offsetA + group.z * u.strideA + (row0 + ${r}u) * u.lda + lane;`)}
  ${
      repeat(4, (c) =>
        `let b${c}_at = (u.offsetB + group.z * u.strideB + (quad * 4u + ${c}u) * u.ldb) / 8u * ${words}u;`)
    }
  ${each((r) => repeat(4, (c) => `var s${r}_${c} = 0.0;`, " "))}
  for (var block = 0u; block < u.k / 32u; block++) {
    ${
      each((r) =>
        repeat(
          loads,
          (i) => `let a${r}_${i} = load_a(a${r}_at + block * 8u + ${i * lanes}u);`,
          " ",
        )
      )
    }
    ${columns.map(({ shared }) => shared).join("\n    ")}
    ${
      repeat(8, (q) =>
        `{ ${repeat(4, (c) => `let w${c} = ${columns[c].quad(q)};`, " ")}
      ${
          each((r) =>
            repeat(4, (k) =>
              `{ let x = subgroupBroadcast(a${r}_${Math.floor(q / lanes)}.${COMPONENT[k]}, ${q % lanes}u); ${
                repeat(4, (c) => `s${r}_${c} = fma(x, w${c}.${COMPONENT[k]}, s${r}_${c});`, " ")
              } }`, " ")
          )
        } }`, "\n    ")
    }
  }
  ${prepareStore(variant, "quad")}
  if (inside) {
    ${
      each((r) =>
        `if (row0 + ${r}u < u.m) { ${
          storeQuad(variant, `row0 + ${r}u`, "quad", `vec4f(${repeat(4, (c) => `s${r}_${c}`, ", ")})`)
        } }`
      )
    }
  }`,
  };
}

/** A vec4 that each lane loads per iteration. The index is `start`, computed before the loop, plus what four steps advance. */
interface Load {
  name: string;
  matrix: "a" | "b";
  start: string;
  /** The step within the iteration, for a matrix stored by k; its rows past k hold anything and must be masked. */
  k?: string;
}

function loadStatement({ name, matrix, k }: Load, variant: MatmulVariant): string {
  const index = `${name}_at + ${k === undefined ? "step / 4u" : `step * u.ld${matrix}`}`;
  const hasLoader = matrix in quadsOf(variant) || (matrix === "b" && variant.storage !== "F32");
  const value = hasLoader ? `load_${matrix}(${index})` : `${matrix}[${index}]`;
  return `let ${name} = ${
    k !== undefined && variant.tail ? `select(vec4f(), ${value}, step + ${k} < u.k)` : value
  };`;
}

/** The matrices that are loaded as quads: for columns of B those take longer (measured). */
const quadsOf = ({ trans, storage }: MatmulVariant): Record<string, "quad"> =>
  trans === "nt" && storage === "F32" ? { a: "quad", b: "quad" } : { a: "quad" };

/** For every row and step, a value of A handed to all lanes and multiplied with each lane's 4 columns. */
function multiplyFourSteps(
  rows: number,
  a: (row: number, k: number) => { value: string; owner: number },
  b: (k: number, column: number) => string,
): string {
  return repeat(rows, (row) =>
    repeat(4, (k) => {
      const { value, owner } = a(row, k);
      return `{ let x = subgroupBroadcast(${value}, ${owner}u); ` +
        repeat(4, (column) => `s${row}_${column} = fma(x, ${b(k, column)}, s${row}_${column});`, " ") + " }";
    }), "\n    ");
}

const COMPONENT = "xyzw";

/** B [k, n]: one load per step holds the lane's 4 columns. */
function columnsOfB() {
  const loads = [0, 1, 2, 3].map((k): Load => ({
    name: `b${k}`,
    matrix: "b",
    start: `baseB + ${k}u * u.ldb + quad`,
    k: `${k}u`,
  }));
  return { loads, find: (k: number, column: number) => `b${k}.${COMPONENT[column]}` };
}

/** B [n, k]: one load per column holds its 4 steps. */
function rowsOfB() {
  const loads = [0, 1, 2, 3].map((column): Load => ({
    name: `b${column}`,
    matrix: "b",
    start: `baseB + (quad * 4u + ${column}u) * u.ldb`,
  }));
  return { loads, find: (k: number, column: number) => `b${column}.${COMPONENT[k]}` };
}

/** A [m, k]: each lane loads one row's 4 steps, `lanes` rows per load. */
function rowsOfA(lanes: number, rows: number) {
  const loads = Array.from({ length: Math.ceil(rows / lanes) }, (_, i): Load => ({
    name: `a${i}`,
    matrix: "a",
    start: `baseA + (row0 + ${i * lanes}u + lane) * u.lda`,
  }));
  const find = (row: number, k: number) => ({
    value: `a${Math.floor(row / lanes)}.${COMPONENT[k]}`,
    owner: row % lanes,
  });
  return { loads, find };
}

/**
 * A [k, m]: each lane loads 4 rows of one step. A tile has rows / 4 such vec4s per step: several loads per step where they are
 * more than the lanes, several steps per load where they are fewer.
 */
function columnsOfA(lanes: number, rows: number) {
  const quads = rows / 4;
  const steps = Math.min(4, Math.max(1, Math.floor(lanes / quads)));
  const loads: Load[] = [];
  for (let k = 0; k < 4; k += steps) {
    for (let first = 0; first < quads; first += lanes) {
      const step = steps > 1 ? `(${k}u + lane / ${quads}u)` : `${k}u`;
      const column = steps > 1 ? `lane % ${quads}u` : `${first}u + lane`;
      loads.push({
        name: `a${k / steps}_${first / lanes}`,
        matrix: "a",
        start: `baseA + ${step} * u.lda + row0 / 4u + ${column}`,
        k: step,
      });
    }
  }
  const find = (row: number, k: number) => {
    const quad = row >> 2;
    return {
      value: `a${Math.floor(k / steps)}_${Math.floor(quad / lanes)}.${COMPONENT[row & 3]}`,
      owner: (k % steps) * quads + quad % lanes,
    };
  };
  return { loads, find };
}
