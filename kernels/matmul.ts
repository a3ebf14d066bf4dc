/**
 * Matrix products: C = scale · op(A) · op(B), the workhorse of every forward and backward pass.
 *
 *   nn: A [m, k], B [k, n]     activations times a matrix stored by input
 *   nt: A [m, k], B [n, k]     activations times a weight stored [out, in]
 *   tn: A [k, m], B [k, n]     gradient of a weight: sums over tokens
 *
 * Reads A and B; overwrites C [m, n], or adds to it when `accumulate`. The stores may also add `bias` [n] to every row and
 * `residual` [m, n] (laid out as C). Any m, n and k; leading dimensions are multiples of 4. The padding columns of the
 * inputs must be zero, those of C are written as zero; rows past the end of a matrix never enter a sum. B may be stored in
 * another form (`storage.ts`).
 *
 * Every element is one sum over k in increasing order, on every tile size, so the numbers of a row depend neither on the
 * other rows nor on where it lies, and a row computed alone has the bits it has in a batch.
 *
 * The two ways of computing it are in `matmul_cpu.ts` and `matmul_gpu.ts`.
 *
 * @module
 */
import { type Kernel, type Launch, type Profile, rowStride } from "./kernel.ts";
import { cpuMatmul, cpuTileRows } from "./matmul_cpu.ts";
import { gpuMatmul, gpuTile } from "./matmul_gpu.ts";
import { type Storage, storedStride } from "./storage.ts";

/** Which of the operands is stored transposed. */
export type Trans = "nn" | "nt" | "tn";

/** Size of a product; leading dimensions and strides count floats. */
export interface MatmulShape {
  trans: Trans;
  m: number;
  n: number;
  k: number;
  /** Distance between rows as stored; by default {@linkcode rowStride} of the columns. */
  lda?: number;
  ldb?: number;
  ldc?: number;
  /** C += instead of C =. */
  accumulate?: boolean;
  scale?: number;
  /** How B is stored, not transposed or whole (nt, nn); F32 by default. */
  storage?: Storage;
  /**
   * Where the operands begin in what is bound, in floats, multiples of 4: a part of the columns of a wider matrix. A residual
   * begins where C does.
   */
  offsets?: { a?: number; b?: number; c?: number; bias?: number };
  /** `count` products of one shape; strides are multiples of 4, and 0 shares an operand. */
  batch?: { count: number; strideA: number; strideB: number; strideC: number };
}

/** What distinguishes the kernels of one tile: everything else is a uniform. */
export interface MatmulVariant {
  trans: Trans;
  /** k is not a multiple of 4 and the operand stored by k has rows past its end to mask. */
  tail: boolean;
  bias: boolean;
  residual: boolean;
  accumulate: boolean;
  storage: Storage;
}

/** C = scale · op(A) · op(B) (+ bias) (+ residual) (+ C). */
export function matmul<B>(
  profile: Profile,
  buffers: { a: B; b: B; c: B; bias?: B; residual?: B },
  shape: MatmulShape,
): Launch<B> {
  const { trans, m, n, k, accumulate = false, scale = 1, batch, storage = "F32" } = shape;
  const lda = shape.lda ?? rowStride(trans === "tn" ? m : k);
  const columns = trans === "nt" ? k : n;
  const ldb = shape.ldb ?? 4 * storedStride(storage, columns);
  const ldc = shape.ldc ?? rowStride(n);
  const strides = [batch?.strideA ?? 0, batch?.strideB ?? 0, batch?.strideC ?? 0];
  const { a: offsetA = 0, b: offsetB = 0, c: offsetC = 0, bias: offsetBias = 0 } = shape.offsets ?? {};
  for (const distance of [lda, ldb, ldc, ...strides, offsetA, offsetB, offsetC, offsetBias]) {
    if (distance % 4) {
      throw new Error(
        `A matmul got a leading dimension, stride or offset of ${distance} floats; expected a multiple of 4.`,
      );
    }
  }
  const { a, b, c, bias, residual } = buffers;
  const variant: MatmulVariant = {
    trans,
    tail: trans !== "nt" && k % 4 !== 0,
    bias: bias !== undefined,
    residual: residual !== undefined,
    accumulate,
    storage,
  };
  const [kernel, tileRows, tileColumns] = chooseKernel(profile, variant, m, n);
  return {
    kernel,
    buffers: {
      a,
      b,
      c,
      ...(bias !== undefined ? { bias } : {}),
      ...(residual !== undefined ? { residual } : {}),
    },
    uniforms: {
      m,
      n,
      k,
      lda: lda / 4,
      ldb: ldb / 4,
      ldc: ldc / 4,
      strideA: strides[0] / 4,
      strideB: strides[1] / 4,
      strideC: strides[2] / 4,
      offsetA: offsetA / 4,
      offsetB: offsetB / 4,
      offsetC: offsetC / 4,
      offsetBias: offsetBias / 4,
      scale,
    },
    grid: [Math.ceil(n / tileColumns), Math.ceil(m / tileRows), batch?.count ?? 1],
  };
}

/** The kernel and the rows and columns of C that one of its workgroups makes. */
function chooseKernel(
  profile: Profile,
  variant: MatmulVariant,
  m: number,
  n: number,
): [kernel: Kernel, rows: number, columns: number] {
  if (profile.kind === "cpu") {
    // Of a transposed A a lane loads four rows at once.
    const rows = Math.max(cpuTileRows(m), variant.trans === "tn" ? 4 : 1);
    return [cpuMatmul(profile.lanes, rows, variant), rows, 4 * profile.lanes];
  }
  const tile = gpuTile(profile, variant.trans, m, n);
  return [gpuMatmul(tile, variant), tile, tile];
}
