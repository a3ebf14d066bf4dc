/**
 * Sums to one number, and picking elements by index.
 *
 * @module
 */
import { elementwise, fill } from "../../../kernels/elementwise.ts";
import {
  gather as gatherKernel,
  scatterAdd,
  sum as sumKernel,
  sumPartials,
} from "../../../kernels/reduce.ts";
import { rowStride } from "../../../kernels/kernel.ts";
import { physicalSize, type Tape, type Tensor } from "../tape.ts";

/** Σ x, a tensor of shape [1]. x is a vector. */
export function sum(tape: Tape, x: Tensor): Tensor {
  const [count] = x.shape;
  const out = tape.tensor("sum", [1]);
  const partials = tape.tensor("sum partials", [sumPartials(count)]);
  tape.push(...sumKernel(tape.profile, { x, partials, out }, count));
  tape.record("sum", out, [x], (g) => {
    tape.contribute(x, (dx, accumulate) =>
      tape.push(
        elementwise(
          tape.profile,
          { name: "spread", expression: "g", scalars: ["g"], accumulate },
          { g },
          dx,
          physicalSize(x.shape),
        ),
      ));
  });
  return out;
}

/** Rows x[index[i]] of a matrix, or elements of a vector. No index may appear twice where x is differentiable. */
export function gather(tape: Tape, x: Tensor, index: Tensor): Tensor {
  const [count] = index.shape;
  const width = x.shape.length === 2 ? rowStride(x.shape[1]) : 1;
  const out = tape.tensor(`${x.label}[index]`, [count, ...x.shape.slice(1)]);
  tape.push(gatherKernel(tape.profile, { x, index, out }, { count, width }));
  tape.record("gather", out, [x], (dout) => {
    tape.contribute(x, (dx, accumulate) => {
      if (!accumulate) tape.push(fill(tape.profile, dx, physicalSize(x.shape), 0));
      tape.push(scatterAdd(tape.profile, { dout, index, dx }, { count, width }));
    });
  });
  return out;
}
