/**
 * Low-rank adapters (LoRA, arXiv 2106.09685) beside a linear map, and their weight-decomposed form (DoRA, arXiv 2402.09353).
 *
 * @module
 */
import { columnSumPartials, columnSums } from "../../../kernels/column_sums.ts";
import { magnitudeGradient, rowGains, scaleColumns } from "../../../kernels/dora.ts";
import { dropout as dropoutKernel } from "../../../kernels/dropout.ts";
import { fill } from "../../../kernels/elementwise.ts";
import { rowStride } from "../../../kernels/kernel.ts";
import { matmul } from "../../../kernels/matmul.ts";
import { unpack } from "../../../kernels/unpack.ts";
import { physicalSize, type Tape, type Tensor } from "../tape.ts";
import { add, copied, subtract } from "./elementwise.ts";
import { linear, placed } from "./linear.ts";

/** The adapter of one module, whose outputs are `b.shape[0]` columns from `first` on of the linear map's. */
export interface LowRank {
  /** [r, in]. */
  a: Tensor;
  /** [out, r]. */
  b: Tensor;
  /** Of a weight-decomposed adapter, [out]. */
  magnitude?: Tensor;
  first: number;
  /** Factor of B·A. */
  scale: number;
  /** Tells the dropout of this module from others'. */
  salt: number;
}

/** Dropout of what adapters read. */
export interface Dropout {
  rate: number;
  /** Key of the random numbers, [2] u32; another in every pass. */
  key: Tensor;
}

/** x with elements dropped at random and the others scaled up. */
export function dropout(tape: Tape, x: Tensor, { rate, key }: Dropout, salt: number): Tensor {
  const [rows, cols] = x.shape, shape = { rows, cols, rate, salt };
  const y = tape.tensor("dropout", x.shape);
  tape.push(dropoutKernel(tape.profile, { x, key, y }, shape));
  tape.record("dropout", y, [x], (dy) => {
    tape.contribute(
      x,
      (dx, accumulate) => tape.push(dropoutKernel(tape.profile, { x: dy, key, y: dx }, shape, accumulate)),
    );
  });
  return y;
}

/** y + scale · (x Aᵀ) Bᵀ in the adapter's columns, in the memory of y. */
function addLowRank(tape: Tape, y: Tensor, x: Tensor, { a, b, first, scale }: LowRank): Tensor {
  const [rows, width] = y.shape, ld = rowStride(width), [out, rank] = b.shape;
  const inner = linear(tape, x, a, { label: "lora A" }); // [rows, r]
  const shape = { m: rows, n: out, k: rank, ldc: ld, offsets: { c: first }, scale, accumulate: true };
  tape.push(matmul(tape.profile, { a: inner, b, c: y }, { trans: "nt", ...shape }));
  const sum = tape.tensor("lora", y.shape, { sharedWith: y });
  tape.record("lora", sum, [y, inner, b], (d) => {
    const columns = { lda: ld, offsets: { a: first }, scale };
    tape.contribute(b, (db, accumulate) =>
      tape.push(
        matmul(tape.profile, { a: d, b: inner, c: db }, {
          ...columns,
          trans: "tn",
          m: out,
          n: rank,
          k: rows,
          accumulate,
        }),
      ));
    tape.contribute(inner, (dinner, accumulate) =>
      tape.push(
        matmul(tape.profile, { a: d, b, c: dinner }, {
          ...columns,
          trans: "nn",
          m: rows,
          n: rank,
          k: out,
          accumulate,
        }),
      ));
    tape.pass(y, d);
  });
  return sum;
}

/** What is added to a linear map's result. */
export interface Added {
  bias?: Tensor;
  residual?: Tensor;
  label?: string;
}

/** x · Wᵀ with the adapters of the modules whose weights W holds. */
export function adaptedLinear(
  tape: Tape,
  x: Tensor,
  weight: Tensor[],
  adapters: LowRank[],
  added: Added,
  drop?: Dropout,
): Tensor {
  const read = (adapter: LowRank) => drop ? dropout(tape, x, drop, adapter.salt) : x;
  if (adapters[0].magnitude) return decomposed(tape, x, weight, adapters, added, drop && read);
  return adapters.reduce(
    (y, adapter) => addLowRank(tape, y, read(adapter), adapter),
    linear(tape, x, weight, added),
  );
}

/**
 * The weight-decomposed form, gain · (W x + s·B·A x). As in PEFT, with dropout only what the adapter adds reads what was left
 * of x: W x + (gain − 1) · W x' + gain · s·B·A x'.
 */
function decomposed(
  tape: Tape,
  x: Tensor,
  weight: Tensor[],
  adapters: LowRank[],
  added: Added,
  read?: (adapter: LowRank) => Tensor,
): Tensor {
  if (read) {
    // Each module drops on its own, so each sees W through its own outputs only; the rest of W x' cancels.
    return adapters.reduce((y, adapter) => {
      const left = read(adapter), plain = linear(tape, left, weight);
      const changed = addLowRank(tape, copied(tape, plain), left, adapter);
      return add(tape, y, subtract(tape, gained(tape, changed, weight, [adapter]), plain));
    }, linear(tape, x, weight, added));
  }
  const z = adapters.reduce((y, adapter) => addLowRank(tape, y, x, adapter), linear(tape, x, weight));
  const y = gained(tape, z, weight, adapters, added.bias);
  return added.residual ? add(tape, y, added.residual) : y;
}

/** z (+ bias) with every column scaled with m / ‖W + s·B·A‖; columns of no adapter keep their values. */
function gained(tape: Tape, z: Tensor, weight: Tensor[], adapters: LowRank[], bias?: Tensor): Tensor {
  const [rows, cols] = z.shape, [, inputs] = weight[0].shape, ldc = rowStride(inputs);
  const norm = tape.tensor("row norms", [cols]), gain = tape.tensor("gains", [cols]);
  const changed = unpacked(tape, weight);
  tape.push(fill(tape.profile, gain, physicalSize([cols]), 1));
  for (const { a, b, magnitude, first, scale } of adapters) {
    const [count, rank] = b.shape;
    const shape = { m: count, n: inputs, k: rank, ldc, offsets: { c: first * ldc }, scale, accumulate: true };
    tape.push(
      matmul(tape.profile, { a: b, b: a, c: changed }, { trans: "nn", ...shape }),
      rowGains(tape.profile, { w: changed, m: magnitude!, norm, gain }, { first, count, cols: inputs }),
    );
  }
  const y = tape.tensor("gained", [rows, cols]), extra = bias ? { bias } : {};
  tape.push(scaleColumns(tape.profile, { z, gain, y, ...extra }, { rows, cols }));
  const magnitudes = adapters.map(({ magnitude }) => magnitude!);
  tape.record("gain", y, [z, ...magnitudes, ...(bias ? [bias] : [])], (dy) => {
    const sums = (kind: "product" | "plain", out: Tensor, buffers: { x: Tensor; dy?: Tensor }) => {
      const partials = tape.tensor("gain partials", [columnSumPartials(rows, cols)]);
      tape.push(...columnSums(tape.profile, kind, { ...buffers, partials, out }, { rows, cols }));
    };
    if (bias?.gradient) sums("plain", bias.gradient, { x: dy });
    if (magnitudes.some(({ gradient }) => gradient)) {
      const dgain = tape.tensor("d gains", [cols]);
      tape.push(fill(tape.profile, dgain, physicalSize([cols]), 0));
      sums("product", dgain, { x: z, dy });
      for (const { b, magnitude, first } of adapters) {
        const buffers = { dgain, norm, dm: magnitude!.gradient! };
        tape.push(magnitudeGradient(tape.profile, buffers, { first, count: b.shape[0] }));
      }
    }
    tape.contribute(
      z,
      (dz, accumulate) =>
        tape.push(scaleColumns(tape.profile, { z: dy, gain, y: dz }, { rows, cols }, accumulate)),
    );
  });
  return y;
}

/** A copy of a weight as float32, without a gradient. */
function unpacked(tape: Tape, weight: Tensor[]): Tensor {
  const parts = placed(weight), [, cols] = weight[0].shape;
  const copy = tape.tensor("changed weight", [parts.reduce((rows, { count }) => rows + count, 0), cols]);
  for (const { part, first, count } of parts) {
    const shape = { rows: count, cols, storage: part.storage ?? "F32", first };
    tape.push(unpack(tape.profile, { x: part, y: copy }, shape));
  }
  return copy;
}
