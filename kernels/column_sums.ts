/**
 * Sums over the rows of a matrix, one per column: the gradients of biases, norm gains and one-row heads.
 *
 *   plain:   out[c] += Σ_r x[r, c]
 *   rows:    out[c] += Σ_r s[r] · x[r, c]                 gradient of a head with one output
 *   product: out[c] += Σ_r x[r, c] · dy[r, c]
 *   rms:     out[c] += Σ_r x[r, c] · r[r] · dy[r, c]      gradient of an RMSNorm's gain (s = stats)
 *   layer:   out[c] += Σ_r (x[r, c] − μ[r]) · r[r] · dy[r, c]
 *
 * `out` is added to. Blocks of rows are summed into `partials` [blocks, cols], then the blocks in order; rows that fill one
 * block only are summed at once.
 *
 * @module
 */
import { cachedKernel, type Launch, padded, type Profile, rowStride } from "./kernel.ts";

/** What is summed; see the module's table. */
export type ColumnSum = "plain" | "rows" | "product" | "rms" | "layer";

/** Rows per block: a GPU needs many blocks to be busy, a CPU is as fast with few and saves a launch. */
const BLOCK = { cpu: 1024, gpu: 32 };

/** Floats that `partials` needs on either profile. */
export function columnSumPartials(rows: number, cols: number): number {
  return Math.ceil(rows / BLOCK.gpu) * padded(cols);
}

/** out[c] += Σ_r …; `s` for rows, rms and layer; `dy` for product, rms and layer. */
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
    product: "x[i] * dy[i]",
    rms: "x[i] * s[row] * dy[i]",
    layer: "(x[i] - s[u.rows + row]) * s[row] * dy[i]",
  }[kind];
  const block = BLOCK[profile.kind], blocks = Math.ceil(rows / block), quads = padded(cols) / 4;
  if (blocks > 65535) {
    throw new Error(`A column sum over ${rows} rows is too long; at most ${65535 * block} rows.`);
  }
  const once = blocks === 1;
  const scaled = kind !== "plain" && kind !== "product", withDy = kind !== "plain" && kind !== "rows";
  const first = cachedKernel(`column_sums_${kind}${once ? "_once" : ""}_${profile.kind}`, () => ({
    storage: {
      x: "vec4f",
      ...(scaled ? { s: "f32" } : {}),
      ...(withDy ? { dy: "vec4f" } : {}),
      sums: "vec4f",
    },
    writes: ["sums"],
    uniforms: { rows: "u32", quads: "u32", ld: "u32" },
    workgroup,
    body: `
  let quad = group.x * ${workgroup}u + lane;
  if (quad >= u.quads) { return; }
  let last = min((group.y + 1u) * ${block}u, u.rows);
  var total = vec4f();
  for (var row = group.y * ${block}u; row < last; row++) {
    let i = row * u.ld + quad;
    total += ${value};
  }
  sums[group.y * u.quads + quad] ${once ? "+=" : "="} total;`,
  }));
  const { x, s, dy, partials, out } = buffers;
  const inputs = { x, ...(scaled ? { s: s! } : {}), ...(withDy ? { dy: dy! } : {}) };
  const groups = Math.ceil(quads / workgroup);
  const launch: Launch<B> = {
    kernel: first,
    buffers: { ...inputs, sums: once ? out : partials },
    uniforms: { rows, quads, ld: rowStride(cols) / 4 },
    grid: [groups, blocks, 1],
  };
  if (once) return [launch];
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
  return [
    launch,
    { kernel: second, buffers: { partials, out }, uniforms: { blocks, quads }, grid: [groups, 1, 1] },
  ];
}
