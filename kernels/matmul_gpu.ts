/**
 * Matmul for GPUs, where many threads share what they load through workgroup memory.
 *
 * 64 threads make a tile of 64×64 of C (8×8 per thread) or, when C is small, of 32×32 (4×4 per thread). They go through k in
 * blocks of 16 (or 32): each thread loads one 4×4 block of A and one of B, transposes it in registers where the matrix is
 * stored the other way, and leaves it in workgroup memory as [k][row / 4] and [k][column / 4]; after a barrier every thread
 * reads per step of k its rows of A and its columns of B as vec4s. A thread's 8 rows are two groups of 4, 32 apart, and so
 * are its columns: neighbouring threads then read neighbouring vec4s.
 *
 * Everything outside the matrices along k is replaced by zero when it is loaded.
 *
 * @module
 */
import { cachedKernel, type Kernel, type Profile, repeat } from "./kernel.ts";
import type { MatmulVariant, Trans } from "./matmul.ts";
import { matmulInterface, prepareStore, storeQuad, variantName } from "./matmul_text.ts";

/** Threads along the rows and along the columns of a tile. */
const SIDE = 8;

/** Workgroups that keep a GPU busy; below, the small tile makes four times as many. */
const ENOUGH_GROUPS = 128;

/** What a tile is chosen by: the operands' layout, and how many 64 × 64 tiles C has. */
export function shapeClass(trans: Trans, m: number, n: number): string {
  const tiles = Math.ceil(m / 64) * Math.ceil(n / 64);
  return `${trans} ${tiles < ENOUGH_GROUPS / 8 ? "few" : tiles < ENOUGH_GROUPS ? "some" : "many"}`;
}

/** The measured tile of a shape's class; unmeasured, large tiles where enough workgroups are left. */
export function gpuTile(profile: Profile, trans: Trans, m: number, n: number): 32 | 64 {
  return profile.tiles?.[shapeClass(trans, m, n)] ??
    (Math.ceil(m / 64) * Math.ceil(n / 64) >= ENOUGH_GROUPS ? 64 : 32);
}

const COMPONENT = "xyzw";

/** The kernel whose workgroups make `tile` × `tile` of C. */
export function gpuMatmul(tile: 32 | 64, variant: MatmulVariant): Kernel {
  const quads = tile / 4; // row or column quads of a tile
  const groups = tile / 32; // quads of rows, and of columns, per thread
  const depth = 1024 / tile; // k per block: 64 blocks of 4×4, one per thread
  const { trans } = variant;
  const quad = (g: number) => `(column0 / 4u + ${g * SIDE}u + across)`;
  const a = (index: string) => `a[${index}]`;
  const { module, ...bindings } = matmulInterface(variant);
  const b = (index: string) => variant.storage === "F32" ? `b[${index}]` : `load_b(${index})`;
  return cachedKernel(`matmul_gpu_${tile}_${variantName({ ...variant, tail: false })}`, () => ({
    ...bindings,
    workgroup: SIDE * SIDE,
    module: `${module}
var<workgroup> tileA: array<vec4f, ${depth * quads}>;
var<workgroup> tileB: array<vec4f, ${depth * quads}>;`,
    body: `
  let row0 = group.y * ${tile}u;
  let column0 = group.x * ${tile}u;
  let baseA = u.offsetA + group.z * u.strideA;
  let baseB = u.offsetB + group.z * u.strideB;
  let down = lane / ${SIDE}u;
  let across = lane % ${SIDE}u;
  ${repeat(4 * groups, (row) => repeat(groups, (g) => `var s${row}_${g} = vec4f();`, " "), "\n  ")}
  for (var start = 0u; start < u.k; start += ${depth}u) {
    ${trans === "tn" ? loadByStep("a", a, "row0", quads) : loadByRow("a", a, "row0", depth)}
    ${trans === "nt" ? loadByRow("b", b, "column0", depth) : loadByStep("b", b, "column0", quads)}
    workgroupBarrier();
    ${trans === "tn" ? storeByStep("a", quads) : storeByRow("a", quads, depth)}
    ${trans === "nt" ? storeByRow("b", quads, depth) : storeByStep("b", quads)}
    workgroupBarrier();
    for (var k = 0u; k < ${depth}u; k += 4u) {
${repeat(4, (k) => multiplyStep(k, quads, groups))}
    }
  }
  ${repeat(groups, (g) => prepareStore(variant, quad(g), `${g}`), "\n  ")}
  ${
      repeat(4 * groups, (row) => {
        const at = `row0 + ${(row >> 2) * 4 * SIDE + (row & 3)}u + 4u * down`;
        const store = (g: number) =>
          `if (inside${g}) ${storeQuad(variant, at, quad(g), `s${row}_${g}`, `${g}`)}`;
        return `if (${at} < u.m) { ${repeat(groups, store, " ")} }`;
      }, "\n  ")
    }`,
  }));
}

/** One step of k: the thread's row quads of A times its column quads of B. */
function multiplyStep(k: number, quads: number, groups: number): string {
  const at = (g: number, side: string) => `[(k + ${k}u) * ${quads}u + ${g * SIDE}u + ${side}]`;
  return `{
${repeat(groups, (g) => `let a${g} = tileA${at(g, "down")}; let b${g} = tileB${at(g, "across")};`)}
${
    repeat(4 * groups, (row) =>
      repeat(groups, (g) =>
        `s${row}_${g} = fma(vec4f(a${row >> 2}.${COMPONENT[row & 3]}), b${g}, s${row}_${g});`, " "))
  }
}`;
}

/** Loads a 4×4 block of a matrix stored [rows, k]: 4 rows, 4 steps. Neighbouring threads take neighbouring steps. */
function loadByRow(name: string, load: (index: string) => string, first: string, depth: number): string {
  const upper = name.toUpperCase();
  return `let step_${name} = start / 4u + lane % ${depth / 4}u;
    let in_${name} = step_${name} * 4u < u.k;
    ${
    repeat(4, (i) =>
      `let ${name}${i} = select(vec4f(), ${
        load(`base${upper} + (${first} + lane / ${depth / 4}u * 4u + ${i}u) * u.ld${name} + step_${name}`)
      }, in_${name});`, "\n    ")
  }`;
}

/** Transposes the block of {@linkcode loadByRow} into workgroup memory. */
function storeByRow(name: string, quads: number, depth: number): string {
  return repeat(
    4,
    (k) =>
      `tile${name.toUpperCase()}[(lane % ${depth / 4}u * 4u + ${k}u) * ${quads}u + lane / ${
        depth / 4
      }u] = vec4f(${repeat(4, (i) => `${name}${i}.${COMPONENT[k]}`, ", ")});`,
    "\n    ",
  );
}

/** Loads a 4×4 block of a matrix stored [k, columns]: 4 steps, 4 columns. Neighbouring threads take neighbouring columns. */
function loadByStep(name: string, load: (index: string) => string, first: string, quads: number): string {
  const upper = name.toUpperCase();
  return repeat(
    4,
    (i) =>
      `let step_${name}${i} = start + lane / ${quads}u * 4u + ${i}u;
    let ${name}${i} = select(vec4f(), ${
        load(`base${upper} + step_${name}${i} * u.ld${name} + ${first} / 4u + lane % ${quads}u`)
      }, step_${name}${i} < u.k);`,
    "\n    ",
  );
}

/** Leaves the block of {@linkcode loadByStep} in workgroup memory as it is. */
function storeByStep(name: string, quads: number): string {
  return repeat(
    4,
    (k) =>
      `tile${name.toUpperCase()}[(lane / ${quads}u * 4u + ${k}u) * ${quads}u + lane % ${quads}u] = ${name}${k};`,
    "\n    ",
  );
}
