/** Checking a recorded operation against float64: its value and, by central differences, the gradient of each input. */
import assert from "node:assert/strict";
import { padded, rowStride } from "../../kernels/kernel.ts";
import { readFloats, upload } from "../../src/gpu/buffers.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { multiply } from "../../src/tape/ops/elementwise.ts";
import { sum } from "../../src/tape/ops/reduce.ts";
import { compile, type Workspace } from "../../src/tape/plan.ts";
import { physicalSize, Tape, type Tensor } from "../../src/tape/tape.ts";
import { random, relativeError, stored } from "../kernels/helpers.ts";
import { differences } from "../kernels/launches.ts";

/** A tensor on the host: row-major, no padding. */
export interface HostTensor {
  shape: number[];
  values: ArrayLike<number>;
  /** Whole numbers, given as u32. */
  integers?: boolean;
}

/** An operation and what it should compute. */
export interface OperationCase<K extends string, C extends string> {
  /** Inputs whose gradient is checked. */
  parameters: Record<K, HostTensor>;
  constants?: Record<C, HostTensor>;
  /** Records the operation. */
  record(tape: Tape, tensors: Record<K | C, Tensor>): Tensor;
  /** The same in float64, row-major. */
  reference(values: Record<K, Float64Array>): number[] | Float64Array;
  tolerance?: number;
}

/** Rows of a stored matrix, or the elements of a vector, without their padding, which must be zero in a matrix. */
export function logical(memory: Float32Array, shape: number[], name = ""): Float32Array {
  if (shape.length === 1) return memory.slice(0, shape[0]);
  const [rows, cols] = shape, ld = rowStride(cols);
  const out = new Float32Array(rows * cols);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < padded(cols); c++) {
      const value = memory[r * ld + c];
      if (c < cols) out[r * cols + c] = value;
      else assert.equal(Math.abs(value), 0, `${name} has a padding column of ${value}`);
    }
  }
  return out;
}

/** Memory of a host tensor as the kernels store it. */
export function physical({ shape, values, integers }: HostTensor): Float32Array | Uint32Array {
  if (integers) return Uint32Array.from(values);
  if (shape.length === 2) return stored(values, shape[0], shape[1]);
  const out = new Float32Array(padded(shape[0]));
  out.set(values);
  return out;
}

/** Σ weights · y over the elements of a vector or matrix. */
export function weightedTotal(tape: Tape, y: Tensor, weights: Tensor): Tensor {
  const product = multiply(tape, y, weights);
  if (product.shape.length === 1) return sum(tape, product);
  const flat = tape.tensor("flat", [physicalSize(product.shape)], { sharedWith: product });
  tape.record("flat", flat, [product], (gradient) => tape.pass(product, gradient));
  return sum(tape, flat);
}

/** A workspace whose memory holds NaN, as after a step that went wrong: a plan must not read what it has not written. */
export function poisonedWorkspace(gpu: Gpu): Workspace {
  return { gpu, arena: upload(gpu, new Float32Array(1 << 18).fill(NaN)) };
}

/**
 * Compares value and gradients with float64. The loss is Σ weights · y with random weights, the gradients start from random
 * numbers, to which they must be added, and a second run must give the same bits.
 */
export async function checkOperation<K extends string, C extends string = never>(
  gpu: Gpu,
  name: string,
  { parameters, constants, record, reference, tolerance = 3e-6 }: OperationCase<K, C>,
): Promise<void> {
  const { floats } = random(name.length);
  const names = Object.keys(parameters) as K[];
  const seeds = {} as Record<K, HostTensor>;
  for (const key of names) {
    const { shape } = parameters[key];
    seeds[key] = { shape, values: floats(shape.reduce((a, b) => a * b)) };
  }

  const weights = new Map<string, HostTensor>();
  const once = async () => {
    const tape = new Tape(gpu.profile);
    const gradients = new Map<K, ReturnType<typeof upload>>();
    const tensors = {} as Record<K | C, Tensor>;
    for (const key of names) {
      const gradient = upload(gpu, physical(seeds[key]));
      gradients.set(key, gradient);
      const window = upload(gpu, physical(parameters[key]));
      tensors[key] = tape.external(key, parameters[key].shape, window, gradient);
    }
    for (const [key, tensor] of Object.entries(constants ?? {}) as [C, HostTensor][]) {
      tensors[key] = tape.external(key, tensor.shape, upload(gpu, physical(tensor)));
      if (tensor.integers) tensors[key].dtype = "u32";
    }
    const y = record(tape, tensors);
    if (!weights.has("y")) {
      weights.set("y", { shape: y.shape, values: floats(y.shape.reduce((a, b) => a * b)) });
    }
    const w = tape.external("weights", y.shape, upload(gpu, physical(weights.get("y")!)));
    tape.output("y", y);
    const loss = weightedTotal(tape, y, w);
    tape.output("loss", loss);
    tape.backward(loss, tape.input("one", [1]));
    const out = await compile(poisonedWorkspace(gpu), tape).run({ one: new Float32Array([1]) });
    const dparameters = {} as Record<K, Float32Array>;
    for (const key of names) {
      const memory = await readFloats(gpu, gradients.get(key)!);
      dparameters[key] = logical(memory, parameters[key].shape, `${name}: d ${key}`);
    }
    return { y: logical(out.y, y.shape, `${name}: y`), loss: out.loss[0], ...dparameters };
  };
  const got = await once();
  assert.deepEqual(await once(), got, `${name} gave other bits the second time`);

  const values = Object.fromEntries(
    names.map((key) => [key, Float64Array.from(parameters[key].values)]),
  ) as Record<K, Float64Array>;
  const error = relativeError(got.y, reference(values));
  assert.ok(error < tolerance, `${name}: the value has a relative error of ${error}`);
  const w = weights.get("y")!.values;
  const lossOf = (of: Record<K, Float64Array>) =>
    Float64Array.from(reference(of)).reduce((total, y, i) => total + y * w[i], 0);
  for (const key of names) {
    const gradient = differences(values[key], (changed) => lossOf({ ...values, [key]: changed }));
    const want = gradient.map((d, i) => d + seeds[key].values[i]);
    const error = relativeError(got[key as keyof typeof got] as Float32Array, want);
    assert.ok(error < tolerance, `${name}: the gradient of ${key} has a relative error of ${error}`);
  }
}

/** A tensor of uniform numbers in [−scale, scale). */
export function uniform(seed: number, shape: number[], scale = 1): HostTensor {
  const count = shape.reduce((a, b) => a * b);
  return { shape, values: random(seed).floats(count).map((x) => scale * x) };
}
