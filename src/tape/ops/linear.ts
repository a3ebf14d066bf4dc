/**
 * Linear maps: matrix products with bias and residual fused in, and heads with one output.
 *
 * @module
 */
import { columnSumPartials, columnSums } from "../../../kernels/column_sums.ts";
import { matmul } from "../../../kernels/matmul.ts";
import { rowDot, rowDotBackward } from "../../../kernels/row_dot.ts";
import type { Tape, Tensor } from "../tape.ts";

/** y [rows, out] = x [rows, in] · Wᵀ (+ bias) (+ residual), W [out, in]. */
export function linear(
  tape: Tape,
  x: Tensor,
  weight: Tensor,
  { bias, residual, label = "linear" }: { bias?: Tensor; residual?: Tensor; label?: string } = {},
): Tensor {
  const [rows, inner] = x.shape, [out] = weight.shape;
  const y = tape.tensor(label, [rows, out]);
  const buffers = {
    a: x,
    b: weight,
    c: y,
    ...(bias ? { bias } : {}),
    ...(residual ? { residual } : {}),
  };
  tape.push(matmul(tape.profile, buffers, { trans: "nt", m: rows, n: out, k: inner }));
  const inputs = [x, weight, ...(bias ? [bias] : []), ...(residual ? [residual] : [])];
  tape.record(label, y, inputs, (dy) => {
    tape.contribute(weight, (dw, accumulate) =>
      tape.push(
        matmul(tape.profile, { a: dy, b: x, c: dw }, { trans: "tn", m: out, n: inner, k: rows, accumulate }),
      ));
    if (bias?.gradient) {
      const partials = tape.tensor("bias partials", [columnSumPartials(rows, out)]);
      tape.push(
        ...columnSums(tape.profile, "plain", { x: dy, partials, out: bias.gradient }, { rows, cols: out }),
      );
    }
    tape.contribute(x, (dx, accumulate) =>
      tape.push(
        matmul(tape.profile, { a: dy, b: weight, c: dx }, {
          trans: "nn",
          m: rows,
          n: inner,
          k: out,
          accumulate,
        }),
      ));
    if (residual) tape.pass(residual, dy);
  });
  return y;
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
