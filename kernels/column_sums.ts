/**
 * Sums over the rows of a matrix, one per column: the gradients of biases, norm gains and one-row heads.
 *
 *   plain:   out[c] += Σ_r x[r, c]
 *   rows:    out[c] += Σ_r s[r] · x[r, c]                 gradient of a head with one output
 *   rms:     out[c] += Σ_r x[r, c] · r[r] · dy[r, c]      gradient of an RMSNorm's gain (s = stats)
 *   layer:   out[c] += Σ_r (x[r, c] − μ[r]) · r[r] · dy[r, c]
 *
 * Two launches: blocks of rows into `partials` [blocks, cols], then the blocks in order into `out`, which is added to.
 *
 * @module
 */
import { cachedKernel, type Launch, padded, type Profile } from "./kernel.ts";

/** What is summed; see the module's table. */
export type ColumnSum = "plain" | "rows" | "rms" | "layer";

/** Rows per block of the first launch. */
const BLOCK = 32;

/** Floats that `partials` needs. */
export function columnSumPartials(rows: number, cols: number): number {
  return Math.ceil(rows / BLOCK) * padded(cols);
}

/** out[c] += Σ_r …; `s` for rows, rms and layer; `dy` for rms and layer. */
export function columnSums<B>(
  profile: Profile,
  kind: ColumnSum,
  buffers: { x: B; s?: B; dy?: B; partials: B; out: B },
  { rows, cols }: { rows: number; cols: number },
): Launch<B>[] {
  const workgroup = profile.kind === "cpu" ? profile.lanes : 64;
  const value = {
    plain: "x[i]",
    rows: "x[i] * s[row]",
    rms: "x[i] * s[row] * dy[i]",
    layer: "(x[i] - s[u.rows + row]) * s[row] * dy[i]",
  }[kind];
  const scaled = kind !== "plain", withDy = kind === "rms" || kind === "layer";
  const first = cachedKernel(`column_sums_${kind}_${profile.kind}`, () => ({
    storage: {
      x: "vec4f",
      ...(scaled ? { s: "f32" } : {}),
      ...(withDy ? { dy: "vec4f" } : {}),
      partials: "vec4f",
    },
    writes: ["partials"],
    uniforms: { rows: "u32", quads: "u32" },
    workgroup,
    body: `
  let quad = group.x * ${workgroup}u + lane;
  if (quad >= u.quads) { return; }
  let last = min((group.y + 1u) * ${BLOCK}u, u.rows);
  var total = vec4f();
  for (var row = group.y * ${BLOCK}u; row < last; row++) {
    let i = row * u.quads + quad;
    total += ${value};
  }
  partials[group.y * u.quads + quad] = total;`,
  }));
  const second = cachedKernel(`column_sums_finish_${profile.kind}`, () => ({
    storage: { partials: "vec4f", out: "vec4f" },
    writes: ["out"],
    uniforms: { blocks: "u32", quads: "u32" },
    workgroup,
    body: `
  let quad = group.x * ${workgroup}u + lane;
  if (quad >= u.quads) { return; }
  var total = vec4f();
  for (var block = 0u; block < u.blocks; block++) { total += partials[block * u.quads + quad]; }
  out[quad] += total;`,
  }));
  const quads = padded(cols) / 4, blocks = Math.ceil(rows / BLOCK);
  if (blocks > 65535) {
    throw new Error(`A column sum over ${rows} rows is too long; at most ${65535 * BLOCK} rows.`);
  }
  const { x, s, dy, partials, out } = buffers;
  const inputs = { x, ...(scaled ? { s: s! } : {}), ...(withDy ? { dy: dy! } : {}), partials };
  const groups = Math.ceil(quads / workgroup);
  return [
    { kernel: first, buffers: inputs, uniforms: { rows, quads }, grid: [groups, blocks, 1] },
    { kernel: second, buffers: { partials, out }, uniforms: { blocks, quads }, grid: [groups, 1, 1] },
  ];
}
