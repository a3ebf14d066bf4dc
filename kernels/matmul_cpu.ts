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
import { cachedKernel, type Kernel, repeat } from "./kernel.ts";
import type { MatmulVariant } from "./matmul.ts";
import { matmulInterface, prepareStore, storeQuad, variantName } from "./matmul_text.ts";

/** Time of a tile of this many rows, in units of a row of the 32-row tile (measured). */
const TILE_COSTS: [rows: number, cost: number][] = [[32, 32], [24, 26], [16, 18.5], [8, 12.5]];

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
  const sums = (row: number) => repeat(4, (column) => `s${row}_${column}`, ", ");
  return cachedKernel(`matmul_cpu${lanes}_${rows}_${variantName(variant)}`, () => ({
    ...matmulInterface(variant),
    needs: ["subgroups"],
    workgroup: lanes,
    body: `
  let row0 = group.y * ${rows}u;
  let quad = group.x * ${lanes}u + lane;
  let baseA = group.z * u.strideA;
  let baseB = group.z * u.strideB;
  ${repeat(rows, (row) => repeat(4, (column) => `var s${row}_${column} = 0.0;`, " "), "\n  ")}
  for (var step = 0u; step < u.k; step += 4u) {
${multiplyFourSteps(lanes, rows, variant)}
  }
  ${prepareStore(variant, "quad", "")}
  ${repeat(rows, (row) => storeQuad(variant, `row0 + ${row}u`, "quad", `vec4f(${sums(row)})`, ""), "\n  ")}`,
  }));
}

const COMPONENT = "xyzw";

/** The loop body: loads of B and A, then rows · 4 steps · 4 columns multiply-adds. */
function multiplyFourSteps(lanes: number, rows: number, { trans, tail }: MatmulVariant): string {
  const lines: string[] = [];
  // Rows of a matrix stored by k that lie past k hold anything; they are masked, not multiplied by zero.
  const load = (name: string, matrix: string, index: string, k?: string) =>
    lines.push(
      `let ${name} = ${
        k && tail ? `select(vec4f(), ${matrix}[${index}], ${k} < u.k)` : `${matrix}[${index}]`
      };`,
    );

  // b(k, column): where the lane finds B for step k and its own column.
  for (let i = 0; i < 4; i++) {
    if (trans === "nt") load(`b${i}`, "b", `baseB + (quad * 4u + ${i}u) * u.ldb + step / 4u`);
    else load(`b${i}`, "b", `baseB + (step + ${i}u) * u.ldb + quad`, `step + ${i}u`);
  }
  const b = (k: number, column: number) =>
    trans === "nt" ? `b${column}.${COMPONENT[k]}` : `b${k}.${COMPONENT[column]}`;

  const a = trans === "tn" ? loadColumnsOfA(lanes, rows, load) : loadRowsOfA(lanes, rows, load);
  for (let row = 0; row < rows; row++) {
    for (let k = 0; k < 4; k++) {
      const { value, owner } = a(row, k);
      lines.push(
        `{ let x = subgroupBroadcast(${value}, ${owner}u); ` +
          repeat(4, (column) => `s${row}_${column} = fma(x, ${b(k, column)}, s${row}_${column});`, " ") +
          " }",
      );
    }
  }
  return lines.join("\n");
}

type Load = (name: string, matrix: string, index: string, k?: string) => void;
type Find = (row: number, k: number) => { value: string; owner: number };

/** A [m, k]: each lane loads one row's 4 steps, `lanes` rows per load. */
function loadRowsOfA(lanes: number, rows: number, load: Load): Find {
  for (let row = 0; row < rows; row += lanes) {
    load(`a${row / lanes}`, "a", `baseA + (row0 + ${row}u + lane) * u.lda + step / 4u`);
  }
  return (row, k) => ({ value: `a${Math.floor(row / lanes)}.${COMPONENT[k]}`, owner: row % lanes });
}

/**
 * A [k, m]: each lane loads 4 rows of one step. A tile has rows / 4 such vec4s per step; when they do not fill the
 * subgroup, one load covers several steps.
 */
function loadColumnsOfA(lanes: number, rows: number, load: Load): Find {
  const quads = rows / 4;
  if (quads > lanes) {
    for (let k = 0; k < 4; k++) {
      for (let first = 0; first < quads; first += lanes) {
        const index = `baseA + (step + ${k}u) * u.lda + row0 / 4u + ${first}u + lane`;
        load(`a${k}_${first / lanes}`, "a", index, `step + ${k}u`);
      }
    }
    return (row, k) => {
      const quad = row >> 2;
      return { value: `a${k}_${Math.floor(quad / lanes)}.${COMPONENT[row & 3]}`, owner: quad % lanes };
    };
  }
  const steps = Math.min(4, Math.floor(lanes / quads));
  for (let k = 0; k < 4; k += steps) {
    const at = `step + ${k}u + lane / ${quads}u`;
    load(`a${k / steps}`, "a", `baseA + (${at}) * u.lda + row0 / 4u + lane % ${quads}u`, at);
  }
  return (row, k) => ({
    value: `a${Math.floor(k / steps)}.${COMPONENT[row & 3]}`,
    owner: (k % steps) * quads + (row >> 2),
  });
}
