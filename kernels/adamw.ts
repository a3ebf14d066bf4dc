/**
 * AdamW (arXiv 1711.05101) over a whole parameter arena, with global gradient-norm clipping, in one pass.
 *
 *   g ← g · min(1, maxNorm / (‖g‖ + 1e-6))
 *   m ← β1 m + (1 − β1) g        v ← β2 v + (1 − β2) g²
 *   p ← p (1 − lr · decay)       p ← p − lr · m̂ / (√v̂ + eps),  m̂ = m / (1 − β1ᵗ), v̂ = v / (1 − β2ᵗ)
 *
 * as PyTorch computes it. Reads `settings` and ‖g‖² of the arena; overwrites p, m, v and sets g to zero. Parameters from
 * index `decayEnd` on are not decayed. When ‖g‖ is not finite nothing but g changes: the step is skipped.
 *
 * @module
 */
import { cachedKernel, type Launch, LINEAR_GROUP, linearGrid, type Profile } from "./kernel.ts";

const WORKGROUP = 64;

/**
 * Order of the floats in `settings`. Differences such as 1 − β2 come from the host, where they are exact: 1 − 0.999 in f32
 * is off by 5e-5.
 */
export const ADAMW_SETTINGS = [
  "stepSize", // lr / (1 − β1ᵗ)
  "beta2",
  "oneMinusBeta1",
  "oneMinusBeta2",
  "epsilon",
  "decayFactor", // 1 − lr · decay
  "rootCorrection2", // √(1 − β2ᵗ)
  "maxNorm", // 0 for no clipping
] as const;

/** One optimiser step over `count` floats (a multiple of 4); `decayEnd` likewise. */
export function adamw<B>(
  _profile: Profile,
  buffers: { p: B; g: B; m: B; v: B; settings: B; norm2: B },
  { count, decayEnd }: { count: number; decayEnd: number },
): Launch<B> {
  const kernel = cachedKernel("adamw", () => ({
    storage: { p: "vec4f", g: "vec4f", m: "vec4f", v: "vec4f", settings: "f32", norm2: "f32" },
    writes: ["p", "g", "m", "v"],
    uniforms: { quads: "u32", decayEnd: "u32" },
    workgroup: WORKGROUP,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.quads) { return; }
  let squared = norm2[0];
  let raw = g[i];
  g[i] = vec4f();
  // Bits, not comparisons: drivers may assume that no float is NaN.
  if ((bitcast<u32>(squared) & 0x7f800000u) == 0x7f800000u) { return; }
  let limit = settings[7];
  let scale = select(1.0, min(1.0, limit / (sqrt(squared) + 1e-6)), limit > 0.0);
  let grad = raw * scale;
  let first = m[i] + (grad - m[i]) * settings[2];
  let second = v[i] * settings[1] + grad * grad * settings[3];
  m[i] = first;
  v[i] = second;
  let keep = select(1.0, settings[5], i < u.decayEnd);
  p[i] = p[i] * keep - settings[0] * (first / (sqrt(second) / settings[6] + settings[4]));`,
  }));
  const quads = count / 4;
  return {
    kernel,
    buffers,
    uniforms: { quads, decayEnd: decayEnd / 4 },
    grid: linearGrid(Math.ceil(quads / WORKGROUP)),
  };
}
