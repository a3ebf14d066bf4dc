/**
 * Rotary position embedding (arXiv 2104.09864), in place, in the form of Hugging Face's Llama: column d of a head is
 * paired with column d + headDim/2.
 *
 * x [tokens, ld] holds `heads` heads of stride `headStride` from column 0 on (queries, then keys); the tables cos and sin
 * are [positions, headDim/2]. `backward` rotates the other way, which is the gradient.
 *
 * @module
 */
import { cachedKernel, type Launch, LINEAR_GROUP, linearGrid, type Profile } from "./kernel.ts";

/** Size of a rotation. */
export interface RopeShape {
  tokens: number;
  /** Leading dimension of x. */
  ld: number;
  /** Heads to rotate: query heads and key heads together. */
  heads: number;
  /** Leading columns of each head that are rotated, in pairs half of them apart. */
  rotaryDims: number;
  headStride: number;
}

const WORKGROUP = 64;

/** Rotates x in place by the angle of each token's position. */
export function rope<B>(
  _profile: Profile,
  buffers: { x: B; positions: B; cos: B; sin: B },
  { tokens, ld, heads, rotaryDims, headStride }: RopeShape,
  backward: boolean,
): Launch<B> {
  const half = rotaryDims / 2;
  if (!Number.isInteger(half)) {
    throw new Error(`Rotation needs an even number of columns; got ${rotaryDims}.`);
  }
  // Whole vec4s where the halves allow it: each invocation then turns four pairs.
  const wide = half % 4 === 0;
  const unit = wide ? 4 : 1;
  const type = wide ? "vec4f" : "f32";
  const kernel = cachedKernel(`rope_${wide ? "wide" : "scalar"}`, () => ({
    storage: { x: type, positions: "u32", cos: type, sin: type },
    writes: ["x"],
    uniforms: { count: "u32", half: "u32", heads: "u32", stride: "u32", ld: "u32", sign: "f32" },
    workgroup: WORKGROUP,
    body: `
  let i = ${LINEAR_GROUP} * ${WORKGROUP}u + lane;
  if (i >= u.count) { return; }
  let d = i % u.half;
  let head = (i / u.half) % u.heads;
  let token = i / (u.half * u.heads);
  let at = positions[token] * u.half + d;
  let c = cos[at];
  let s = sin[at] * u.sign;
  let low = token * u.ld + head * u.stride + d;
  let a = x[low];
  let b = x[low + u.half];
  x[low] = a * c - b * s;
  x[low + u.half] = b * c + a * s;`,
  }));
  const count = tokens * heads * half / unit;
  return {
    kernel,
    buffers,
    uniforms: {
      count,
      half: half / unit,
      heads,
      stride: headStride / unit,
      ld: ld / unit,
      sign: backward ? -1 : 1,
    },
    grid: linearGrid(Math.ceil(count / WORKGROUP)),
  };
}

/**
 * WGSL of `turned(at, quad, position)` and the bindings it needs beside `matrix`: vec4 `quad` of the head that begins there at
 * vec4 `at`, rotated with the very arithmetic of {@linkcode rope}, or as it is past the `rotaryDims` columns that are rotated.
 */
export function turnedQuad(
  matrix: string,
  headDim: number,
  rotaryDims: number,
): { code: string; storage: Record<string, string> } {
  const begin = "fn turned(at: u32, quad: u32, position: u32) -> vec4f {";
  if (rotaryDims === 0) return { code: `${begin} return ${matrix}[at + quad]; }`, storage: {} };
  const half = rotaryDims / 2;
  if (half % 4 === 0) {
    return {
      storage: { cos: "vec4f", sin: "vec4f" },
      code: `${begin}
  ${rotaryDims < headDim ? `if (quad >= ${rotaryDims / 4}u) { return ${matrix}[at + quad]; }` : ""}
  let d = quad % ${half / 4}u;
  let c = cos[position * ${half / 4}u + d];
  let s = sin[position * ${half / 4}u + d];
  let a = ${matrix}[at + d];
  let b = ${matrix}[at + d + ${half / 4}u];
  return select(b * c + a * s, a * c - b * s, quad == d);
}`,
    };
  }
  return {
    storage: { cos: "f32", sin: "f32" },
    code: `${begin}
  var out = ${rotaryDims < headDim ? `${matrix}[at + quad]` : "vec4f()"};
  for (var i = 0u; i < min(4u, ${rotaryDims}u - min(${rotaryDims}u, 4u * quad)); i++) {
    let column = 4u * quad + i;
    let d = column % ${half}u;
    let c = cos[position * ${half}u + d];
    let s = sin[position * ${half}u + d];
    let a = ${matrix}[at + d / 4u][d % 4u];
    let b = ${matrix}[at + (d + ${half}u) / 4u][(d + ${half}u) % 4u];
    out[i] = select(b * c + a * s, a * c - b * s, column == d);
  }
  return out;
}`,
  };
}
