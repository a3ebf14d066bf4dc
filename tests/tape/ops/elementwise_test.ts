/** Elementwise operations against float64. */
import assert from "node:assert/strict";
import {
  add,
  clamp,
  detach,
  exp,
  logSigmoid,
  maximum,
  minimum,
  multiply,
  negate,
  square,
  subtract,
} from "../../../src/tape/ops/elementwise.ts";
import { Tape, type Tensor } from "../../../src/tape/tape.ts";
import { testOnProfiles } from "../../kernels/helpers.ts";
import { checkOperation, type HostTensor, uniform } from "../gradients.ts";

type Two = (tape: Tape, a: Tensor, b: Tensor) => Tensor;

const SHAPES = [[1], [7], [64], [5, 3], [9, 116]];

testOnProfiles("operations on two tensors have the right values and gradients", async (gpu) => {
  const operations: [string, Two, (a: number, b: number) => number][] = [
    ["add", add, (a, b) => a + b],
    ["subtract", subtract, (a, b) => a - b],
    ["multiply", multiply, (a, b) => a * b],
    ["maximum", maximum, Math.max],
    ["minimum", minimum, Math.min],
  ];
  for (const [name, operation, want] of operations) {
    for (const shape of SHAPES) {
      await checkOperation(gpu, `${name} [${shape}]`, {
        parameters: { a: uniform(1, shape), b: uniform(2, shape) },
        record: (tape, { a, b }) => operation(tape, a, b),
        reference: ({ a, b }) => a.map((x, i) => want(x, b[i])),
      });
    }
  }
});

testOnProfiles("operations on one tensor have the right values and gradients", async (gpu) => {
  const operations: [string, (tape: Tape, a: Tensor) => Tensor, (a: number) => number][] = [
    ["negate", negate, (a) => -a],
    ["exp", exp, Math.exp],
    ["square", square, (a) => a * a],
    ["log sigmoid", logSigmoid, (a) => -Math.log1p(Math.exp(-a))],
  ];
  for (const [name, operation, want] of operations) {
    for (const shape of [[1], [7], [64]]) {
      await checkOperation(gpu, `${name} [${shape}]`, {
        parameters: { a: uniform(3, shape, 3) },
        record: (tape, { a }) => operation(tape, a),
        reference: ({ a }) => a.map(want),
      });
    }
  }
});

testOnProfiles("one number may be combined with many", async (gpu) => {
  const scalar: HostTensor = { shape: [1], values: [-0.7] };
  await checkOperation(gpu, "multiply by one number", {
    parameters: { a: uniform(4, [13]) },
    constants: { s: scalar },
    record: (tape, { a, s }) => subtract(tape, multiply(tape, a, s), s),
    reference: ({ a }) => a.map((x) => x * Math.fround(-0.7) + Math.fround(0.7)),
  });
  assert.throws(() => {
    const tape = new Tape(gpu.profile);
    const s = tape.tensor("s", [1], { differentiable: true });
    const y = multiply(tape, tape.tensor("a", [5], { differentiable: true }), s);
    tape.backward(y, tape.input("one", [1]));
  }, /broadcasts "s", which cannot have a gradient/);
});

testOnProfiles("clamp passes the gradient inside its limits, the ends included", async (gpu) => {
  await checkOperation(gpu, "clamp", {
    parameters: { a: uniform(5, [77], 2) },
    constants: { low: { shape: [1], values: [-0.5] }, high: { shape: [1], values: [0.75] } },
    record: (tape, { a, low, high }) => clamp(tape, a, low, high),
    reference: ({ a }) => a.map((x) => Math.min(Math.max(x, -0.5), 0.75)),
  });
  // At an end, the gradient is PyTorch's 1; the slope of the clamped line beside it is the reference.
  await checkOperation(gpu, "clamp at its ends", {
    parameters: { a: { shape: [2], values: [-0.5, 0.75] } },
    constants: { low: { shape: [1], values: [-0.5] }, high: { shape: [1], values: [0.75] } },
    record: (tape, { a, low, high }) => clamp(tape, a, low, high),
    reference: ({ a }) => a,
  });
});

testOnProfiles("equal arguments of maximum share the gradient evenly", async (gpu) => {
  await checkOperation(gpu, "maximum of equals", {
    parameters: { a: uniform(6, [9]), b: uniform(6, [9]) },
    record: (tape, { a, b }) => maximum(tape, a, b),
    reference: ({ a, b }) => a.map((x, i) => (x + b[i]) / 2),
  });
});

testOnProfiles("log sigmoid is exact far from zero", async (gpu) => {
  const values = [-200, -60, -17, 17, 60, 200];
  await checkOperation(gpu, "log sigmoid of large numbers", {
    parameters: { a: { shape: [6], values } },
    record: (tape, { a }) => logSigmoid(tape, a),
    reference: ({ a }) => a.map((x) => Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x)))),
  });
});

testOnProfiles("a detached tensor is a constant", async (gpu) => {
  const start = uniform(7, [10]);
  await checkOperation(gpu, "detach", {
    parameters: { a: start },
    record: (tape, { a }) => multiply(tape, detach(tape, exp(tape, a)), a),
    reference: ({ a }) => a.map((x, i) => x * Math.exp(start.values[i])),
  });
});

Deno.test("tensors of different shapes are refused", () => {
  const tape = new Tape({ kind: "cpu", lanes: 8 });
  assert.throws(
    () => add(tape, tape.tensor("a", [4]), tape.tensor("b", [5])),
    /one shape; got \[4\] and \[5\]/,
  );
});
