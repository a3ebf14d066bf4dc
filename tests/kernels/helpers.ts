/** What the kernel tests share: both profiles on one adapter, random numbers, padded matrices, errors. */
import { padded, rowStride } from "../../kernels/kernel.ts";
import { type Gpu, openGpu } from "../../src/gpu/device.ts";

let cpu: Promise<Gpu> | undefined;
let gpu: Promise<Gpu> | undefined;

/** The profiles that this adapter can run; each device is opened once and shared by a file's tests. */
export async function profiles(): Promise<Gpu[]> {
  const general = await (gpu ??= openGpu({ profile: "gpu" }));
  const { software, subgroupMinSize, subgroupMaxSize } = general.info;
  if (!software || subgroupMinSize === 0 || subgroupMinSize !== subgroupMaxSize) return [general];
  return [await (cpu ??= openGpu({ profile: "cpu" })), general];
}

/** Registers one test per profile. Devices stay open for the whole file, so leaks are not checked per test. */
export function testOnProfiles(
  sentence: string,
  fn: (gpu: Gpu) => Promise<void>,
  kinds: ("cpu" | "gpu")[] = ["cpu", "gpu"],
): void {
  for (const kind of kinds) {
    Deno.test({
      name: `${sentence} (${kind} profile)`,
      sanitizeOps: false,
      sanitizeResources: false,
      fn: async () => {
        const found = (await profiles()).find(({ profile }) => profile.kind === kind);
        if (found) await fn(found);
      },
    });
  }
}

/** Uniform numbers in [-1, 1) and integers from a seed. */
export function random(
  seed: number,
): { float(): number; below(n: number): number; floats(n: number): Float32Array<ArrayBuffer> } {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x9e3779b9) >>> 0;
    let x = state;
    x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
    x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
    return ((x ^ (x >>> 15)) >>> 0) / 2 ** 32;
  };
  return {
    float: () => 2 * next() - 1,
    below: (n) => Math.floor(next() * n),
    floats: (n) => Float32Array.from({ length: n }, () => 2 * next() - 1),
  };
}

/**
 * A [rows, cols] matrix as the kernels store it: `values` with leading dimension `ld`, zero up to the padded column,
 * `outside` in whatever lies beyond, with `extraRows` such rows below.
 */
export function stored(
  values: ArrayLike<number>,
  rows: number,
  cols: number,
  { ld = rowStride(cols), extraRows = 0, outside = NaN } = {},
): Float32Array<ArrayBuffer> {
  const out = new Float32Array((rows + extraRows) * ld).fill(outside);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < padded(cols); c++) out[r * ld + c] = c < cols ? values[r * cols + c] : 0;
  }
  return out;
}

/** ‖got − want‖ / ‖want‖; infinite when `got` has a NaN. */
export function relativeError(got: ArrayLike<number>, want: ArrayLike<number>): number {
  let error = 0, norm = 0;
  for (let i = 0; i < want.length; i++) {
    if (!Number.isFinite(got[i])) return Infinity;
    error += (got[i] - want[i]) ** 2;
    norm += want[i] ** 2;
  }
  return Math.sqrt(error / Math.max(norm, 1e-300));
}
