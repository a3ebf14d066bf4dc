/**
 * Sums of long vectors, and gathering and scattering of single elements.
 *
 * A sum takes two launches: each block of {@linkcode SUM_BLOCK} floats into one partial, then the partials into out[0].
 * Both walk in a fixed order, so the same input gives the same bits.
 *
 * @module
 */
import { cachedKernel, type Launch, LINEAR_GROUP, linearGrid, type Profile } from "./kernel.ts";
import { rowLayout } from "./rows.ts";

/** Floats summed by one invocation group of the first launch. */
export const SUM_BLOCK = 4096;

/** out[0] = Σ x[i], or Σ x[i]² when `squares`. `partials` has ceil(count / SUM_BLOCK) floats. */
export function sum<B>(
  profile: Profile,
  { x, partials, out }: { x: B; partials: B; out: B },
  count: number,
  squares = false,
): Launch<B>[] {
  const layout = rowLayout(profile);
  const stage = (name: string, value: string) =>
    cachedKernel(`sum_${name}_${profile.kind}`, () => ({
      storage: { x: "f32", out: "f32" },
      writes: ["out"],
      uniforms: { count: "u32", rows: "u32", block: "u32" },
      workgroup: layout.workgroup,
      module: layout.module,
      body: `
  let row = ${layout.row};
  if (row >= u.rows) { return; }
  let start = row * u.block;
  let last = min(start + u.block, u.count);
  var total = 0.0;
  for (var i = start + ${layout.first}; i < last; i += ${layout.step}) { let v = x[i]; total += ${value}; }
  ${layout.sum("all", "total")}
  if (${layout.leader}) { out[row] = all; }`,
    }));
  // On the cpu profile a lane walks its block alone, so blocks must be short enough to fill the lanes.
  const block = profile.kind === "cpu" ? Math.min(SUM_BLOCK, Math.max(64, Math.ceil(count / 64))) : SUM_BLOCK;
  const rows = Math.ceil(count / block);
  return [
    {
      kernel: stage(squares ? "squares" : "plain", squares ? "v * v" : "v"),
      buffers: { x, out: partials },
      uniforms: { count, rows, block },
      grid: layout.grid(rows),
    },
    {
      kernel: stage("plain", "v"),
      buffers: { x: partials, out },
      uniforms: { count: rows, rows: 1, block: rows },
      grid: layout.grid(1),
    },
  ];
}

/** Floats that `partials` of {@linkcode sum} needs. */
export function sumPartials(count: number): number {
  return Math.max(64, Math.ceil(count / SUM_BLOCK));
}

const WORKGROUP = 64;

/** out[i] = x[index[i]], each `width` floats wide (a multiple of 4 where it is not 1). */
export function gather<B>(
  _profile: Profile,
  buffers: { x: B; index: B; out: B },
  { count, width }: { count: number; width: number },
): Launch<B> {
  return move(
    "gather",
    "out[i] = x[index[i / u.width] * u.width + i % u.width];",
    ["x", "index", "out"],
    "out",
    buffers,
    count,
    width,
  );
}

/** dx[index[i]] += dout[i]; no two indices may be equal. */
export function scatterAdd<B>(
  _profile: Profile,
  buffers: { dout: B; index: B; dx: B },
  { count, width }: { count: number; width: number },
): Launch<B> {
  return move(
    "scatter_add",
    "dx[index[i / u.width] * u.width + i % u.width] += dout[i];",
    ["dout", "index", "dx"],
    "dx",
    buffers,
    count,
    width,
  );
}

function move<B>(
  name: string,
  statement: string,
  storage: string[],
  written: string,
  buffers: Record<string, B>,
  count: number,
  width: number,
): Launch<B> {
  const unit = width % 4 === 0 ? 4 : 1;
  const type = unit === 4 ? "vec4f" : "f32";
  const kernel = cachedKernel(`${name}_${type}`, () => ({
    storage: Object.fromEntries(storage.map((n) => [n, n === "index" ? "u32" : type])),
    writes: [written],
    uniforms: { count: "u32", width: "u32" },
    workgroup: WORKGROUP,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.count) { return; }
  ${statement}`,
  }));
  const total = count * width / unit;
  return {
    kernel,
    buffers,
    uniforms: { count: total, width: width / unit },
    grid: linearGrid(Math.ceil(total / WORKGROUP)),
  };
}
