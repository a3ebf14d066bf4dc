/** Sums and gathers against float64. */
import { add, exp, multiply, square } from "../../../src/tape/ops/elementwise.ts";
import { gather, sum } from "../../../src/tape/ops/reduce.ts";
import { testOnProfiles } from "../../kernels/helpers.ts";
import { checkOperation, type HostTensor, uniform } from "../gradients.ts";

testOnProfiles("sums and gathers have the right values and gradients", async (gpu) => {
  for (const count of [1, 9, 331, 5000]) {
    await checkOperation(gpu, `sum of ${count}`, {
      parameters: { a: uniform(8, [count]) },
      record: (tape, { a }) => sum(tape, a),
      reference: ({ a }) => [a.reduce((x, y) => x + y)],
      tolerance: 1e-5,
    });
  }
  const index: HostTensor = { shape: [4], values: [6, 0, 8, 3], integers: true };
  for (const shape of [[9], [9, 5], [9, 8]]) {
    const [, width = 1] = shape;
    await checkOperation(gpu, `gather of [${shape}]`, {
      parameters: { a: uniform(9, shape) },
      constants: { index },
      // The second use of `a` makes the gather's gradient one that is added to.
      record: (tape, { a, index }) => gather(tape, multiply(tape, a, a), index),
      reference: ({ a }) =>
        Array.from(
          { length: 4 * width },
          (_, i) => a[[6, 0, 8, 3][Math.floor(i / width)] * width + i % width] ** 2,
        ),
    });
  }
});

testOnProfiles("gathered elements that are also used elsewhere keep both gradients", async (gpu) => {
  await checkOperation(gpu, "gather beside another use", {
    parameters: { a: uniform(10, [6]) },
    constants: { index: { shape: [6], values: [5, 4, 3, 2, 1, 0], integers: true } },
    record: (tape, { a, index }) => {
      const b = exp(tape, a);
      return add(tape, gather(tape, b, index), square(tape, b));
    },
    reference: ({ a }) => a.map((x, i) => Math.exp(a[5 - i]) + Math.exp(2 * x)),
  });
});
