/** Running launches in the kernel tests: upload, dispatch, read everything back, twice, and compare the bits. */
import assert from "node:assert/strict";
import { type Launch, padded, rowStride } from "../../kernels/kernel.ts";
import { readFloats, upload } from "../../src/gpu/buffers.ts";
import type { Gpu, GpuWindow } from "../../src/gpu/device.ts";
import { runOnce } from "../../src/gpu/run.ts";

/** What a test puts around a matrix that a kernel must not write. */
export const OUTSIDE = 7;

/**
 * Runs the launches over buffers that hold `data` and returns what each buffer holds afterwards, as f32. A second run on the
 * same data, in which no kernel loads 64 bits at once, must give the same bits.
 */
export async function run<K extends string>(
  gpu: Gpu,
  data: Record<K, Float32Array | Uint32Array>,
  launches: (buffers: Record<K, GpuWindow>) => Launch<GpuWindow>[],
): Promise<Record<K, Float32Array<ArrayBuffer>>> {
  const names = Object.keys(data) as K[];
  const once = async (change: (launch: Launch<GpuWindow>) => Launch<GpuWindow>) => {
    const buffers = Object.fromEntries(names.map((name) => [name, upload(gpu, data[name])])) as Record<
      K,
      GpuWindow
    >;
    runOnce(gpu, launches(buffers).map(change));
    const out = {} as Record<K, Float32Array<ArrayBuffer>>;
    for (const name of names) {
      out[name] = (await readFloats(gpu, buffers[name])).slice(0, data[name].length);
      buffers[name].buffer.destroy();
    }
    return out;
  };
  const first = await once((launch) => launch), second = await once(narrow);
  for (const name of names) assert.deepEqual(words(second[name]), words(first[name]), `${name} changed`);
  return first;
}

/** The launch with the text for devices without 64-bit integers. */
export function narrow<B>(launch: Launch<B>): Launch<B> {
  const { kernel } = launch;
  if (!kernel.wideCode) return launch;
  return { ...launch, kernel: { ...kernel, name: `${kernel.name}_narrow`, wideCode: undefined } };
}

/** The same memory as u32. */
export function words(floats: Float32Array<ArrayBuffer>): Uint32Array<ArrayBuffer> {
  return new Uint32Array(floats.buffer);
}

/** The [rows, cols] values of a stored matrix; its padding columns must be exactly zero, and all else OUTSIDE. */
export function unpadded(
  stored: Float32Array,
  rows: number,
  cols: number,
  name = "",
): Float32Array<ArrayBuffer> {
  const ld = rowStride(cols), width = padded(cols);
  const out = new Float32Array(rows * cols);
  for (let r = 0; r < rows; r++) {
    out.set(stored.subarray(r * ld, r * ld + cols), r * cols);
    for (let c = cols; c < width; c++) {
      assert.equal(Math.abs(stored[r * ld + c]), 0, `${name} padding at row ${r}, column ${c}`);
    }
    const between = stored.subarray(r * ld + width, (r + 1) * ld);
    assert.ok(between.every((x) => x === OUTSIDE), `${name} was written behind row ${r}`);
  }
  assert.ok(stored.subarray(rows * ld).every((x) => x === OUTSIDE), `${name} was written below its last row`);
  return out;
}

/** Vectors as the kernels store them: zero up to the next multiple of four, then four floats of OUTSIDE. */
export function vector(values: ArrayLike<number>): Float32Array<ArrayBuffer> {
  const out = new Float32Array(padded(values.length) + 4).fill(OUTSIDE, padded(values.length));
  out.set(values);
  return out;
}

/** The gradient of f at x by central differences, in float64; `of` picks which elements. */
export function differences(
  x: ArrayLike<number>,
  f: (x: Float64Array, changed: number) => number,
  step = 1e-5,
): Float64Array {
  const at = Float64Array.from(x);
  return at.map((value, i) => {
    at[i] = value + step;
    const above = f(at, i);
    at[i] = value - step;
    const below = f(at, i);
    at[i] = value;
    return (above - below) / (2 * step);
  });
}
