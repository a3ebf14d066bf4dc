/**
 * Linear maps: matrix products with bias and residual fused in, and heads with one output.
 *
 * @module
 */
import { columnSumPartials, columnSums } from "../../../kernels/column_sums.ts";
import { matmul } from "../../../kernels/matmul.ts";
import { rowDot, rowDotBackward } from "../../../kernels/row_dot.ts";
import { rowStride } from "../../../kernels/kernel.ts";
import type { Tape, Tensor } from "../tape.ts";

/**
 * y [rows, out] = x [rows, in] · Wᵀ (+ bias) (+ residual), W [out, in]; its rows may come in several parts, one after the other,
 * each of a multiple of four rows but the last.
 */
export function linear(
  tape: Tape,
  x: Tensor,
  weight: Tensor | Tensor[],
  { bias, residual, label = "linear" }: { bias?: Tensor; residual?: Tensor; label?: string } = {},
): Tensor {
  const [rows, inner] = x.shape, parts = placed([weight].flat());
  const out = parts.reduce((sum, { count }) => sum + count, 0), ld = rowStride(out);
  const y = tape.tensor(label, [rows, out]);
  for (const { part, first, count } of parts) {
    const buffers = {
      a: x,
      b: part,
      c: y,
      ...(bias ? { bias } : {}),
      ...(residual ? { residual } : {}),
    };
    const { storage } = part, shape = { m: rows, n: count, k: inner, ldc: ld, storage };
    const offsets = { c: first, bias: first };
    tape.push(matmul(tape.profile, buffers, { trans: "nt", ...shape, offsets }));
  }
  const inputs = [
    x,
    ...parts.map(({ part }) => part),
    ...(bias ? [bias] : []),
    ...(residual ? [residual] : []),
  ];
  tape.record(label, y, inputs, (dy) => {
    for (const { part, first, count } of parts) {
      const shape = { m: count, n: inner, k: rows, lda: ld, offsets: { a: first } };
      tape.contribute(
        part,
        (c, accumulate) =>
          tape.push(matmul(tape.profile, { a: dy, b: x, c }, { trans: "tn", ...shape, accumulate })),
      );
    }
    if (bias?.gradient) {
      const partials = tape.tensor("bias partials", [columnSumPartials(rows, out)]);
      tape.push(
        ...columnSums(tape.profile, "plain", { x: dy, partials, out: bias.gradient }, { rows, cols: out }),
      );
    }
    tape.contribute(x, (dx, accumulate) =>
      parts.forEach(({ part, first, count }, i) => {
        const shape = { m: rows, n: inner, k: count, lda: ld, offsets: { a: first }, storage: part.storage };
        const buffers = { a: dy, b: part, c: dx };
        tape.push(matmul(tape.profile, buffers, { trans: "nn", ...shape, accumulate: accumulate || i > 0 }));
      }));
    if (residual) tape.pass(residual, dy);
  });
  return y;
}

/** Parts of a matrix with the place of their first row. */
export function placed(parts: Tensor[]): { part: Tensor; first: number; count: number }[] {
  let first = 0;
  return parts.map((part) => {
    const place = { part, first, count: part.shape[0] };
    first += place.count;
    return place;
  });
}

/** out [rows] = x [rows, cols] · w, for a head with one output; w [1, cols]. */
export function scalarHead(tape: Tape, x: Tensor, weight: Tensor): Tensor {
  const [rows, cols] = x.shape;
  const out = tape.tensor("head", [rows]);
  tape.push(rowDot(tape.profile, { x, w: weight, out }, { rows, cols }));
  tape.record("head", out, [x, weight], (dout) => {
    if (weight.gradient) {
      const partials = tape.tensor("head partials", [columnSumPartials(rows, cols)]);
      tape.push(
        ...columnSums(tape.profile, "rows", { x, s: dout, partials, out: weight.gradient }, { rows, cols }),
      );
    }
    tape.contribute(
      x,
      (dx, accumulate) =>
        tape.push(rowDotBackward(tape.profile, { dout, w: weight, dx }, { rows, cols }, accumulate)),
    );
  });
  return out;
}
