/** Linear maps against float64. */
import assert from "node:assert/strict";
import { readFloats, upload } from "../../../src/gpu/buffers.ts";
import { linear, scalarHead } from "../../../src/tape/ops/linear.ts";
import { exp } from "../../../src/tape/ops/elementwise.ts";
import { compile } from "../../../src/tape/plan.ts";
import { Tape } from "../../../src/tape/tape.ts";
import { relativeError, testOnProfiles } from "../../kernels/helpers.ts";
import { checkOperation, logical, physical, uniform, weightedTotal } from "../gradients.ts";

/** x [rows, inner] · Wᵀ + bias + residual, row-major. */
function product(
  x: ArrayLike<number>,
  w: ArrayLike<number>,
  [rows, out, inner]: number[],
  bias?: ArrayLike<number>,
  residual?: ArrayLike<number>,
): number[] {
  return Array.from({ length: rows * out }, (_, i) => {
    const r = Math.floor(i / out), o = i % out;
    let sum = (bias?.[o] ?? 0) + (residual?.[i] ?? 0);
    for (let c = 0; c < inner; c++) sum += x[r * inner + c] * w[o * inner + c];
    return sum;
  });
}

testOnProfiles("a linear map has the right value and gradients, with bias and residual", async (gpu) => {
  for (const size of [[1, 1, 1], [7, 9, 5], [33, 6, 13], [8, 40, 8]]) {
    const [rows, out, inner] = size;
    const x = uniform(1, [rows, inner]), w = uniform(2, [out, inner]);
    const bias = uniform(3, [out]), residual = uniform(4, [rows, out]);
    await checkOperation(gpu, `linear [${size}]`, {
      parameters: { x, w },
      record: (tape, { x, w }) => linear(tape, x, w),
      reference: ({ x, w }) => product(x, w, size),
    });
    await checkOperation(gpu, `linear with bias and residual [${size}]`, {
      parameters: { x, w, bias, residual },
      record: (tape, { x, w, bias, residual }) => linear(tape, x, w, { bias, residual }),
      reference: ({ x, w, bias, residual }) => product(x, w, size, bias, residual),
    });
  }
});

testOnProfiles("a matrix in parts gives what the whole gives, forward and back", async (gpu) => {
  const sizes: [rows: number, inner: number, counts: number[]][] = [[7, 5, [8, 5]], [33, 13, [4, 16, 12]], [
    1,
    8,
    [40, 1],
  ]];
  for (const [rows, inner, counts] of sizes) {
    const out = counts.reduce((a, b) => a + b), size = [rows, out, inner];
    const x = uniform(1, [rows, inner]), bias = uniform(3, [out]), residual = uniform(4, [rows, out]);
    const parts = Object.fromEntries(counts.map((count, i) => [`w${i}`, uniform(20 + i, [count, inner])]));
    await checkOperation<string>(gpu, `linear in parts [${size}]`, {
      parameters: { x, bias, residual, ...parts },
      record: (tape, { x, bias, residual, ...parts }) =>
        linear(tape, x, Object.values(parts), { bias, residual }),
      reference: ({ x, bias, residual, ...parts }) => {
        const w = Object.values(parts).flatMap((part) => [...part]);
        return product(x, w, size, bias, residual);
      },
    });
  }
});

testOnProfiles("the results of a matrix in parts have the bits of the whole", async (gpu) => {
  const rows = 19, inner = 37, counts = [16, 48, 7], out = 71;
  const x = uniform(5, [rows, inner]), w = uniform(6, [out, inner]), weights = uniform(7, [rows, out]);
  const run = async (split: boolean) => {
    const tape = new Tape(gpu.profile), one = tape.input("one", [1]);
    const zeros = (shape: number[]) =>
      upload(gpu, physical({ shape, values: new Float32Array(shape[0] * shape[1]) }));
    const dx = zeros(x.shape);
    let first = 0;
    const parts = (split ? counts : [out]).map((count) => {
      const shape = [count, inner],
        values = Array.from(w.values).slice(first * inner, (first += count) * inner);
      const gradient = zeros(shape);
      return {
        shape,
        gradient,
        tensor: tape.external("w", shape, upload(gpu, physical({ shape, values })), gradient),
      };
    });
    const input = tape.external("x", x.shape, upload(gpu, physical(x)), dx);
    const y = linear(tape, input, parts.map(({ tensor }) => tensor));
    tape.output("y", y);
    tape.backward(
      weightedTotal(tape, y, tape.external("weights", weights.shape, upload(gpu, physical(weights)))),
      one,
    );
    const { y: values } = await compile({ gpu }, tape).run({ one: new Float32Array([1]) });
    const dw: number[] = [];
    for (const { shape, gradient } of parts) dw.push(...logical(await readFloats(gpu, gradient), shape));
    return { y: logical(values, y.shape), dw, dx: logical(await readFloats(gpu, dx), x.shape) };
  };
  const whole = await run(false), split = await run(true);
  assert.deepEqual(split.y, whole.y);
  assert.deepEqual(split.dw, whole.dw);
  // The gradient of x is a sum over the outputs, which the parts cut.
  assert.ok(relativeError(split.dx, whole.dx) < 1e-6);
});

testOnProfiles("a tensor may be input and residual of the same map", async (gpu) => {
  await checkOperation(gpu, "x + linear(x)", {
    parameters: { x: uniform(5, [9, 6]), w: uniform(6, [6, 6]) },
    record: (tape, { x, w }) => linear(tape, x, w, { residual: x }),
    reference: ({ x, w }) => product(x, w, [9, 6, 6], undefined, x),
  });
});

testOnProfiles("a weight used twice gets both gradients", async (gpu) => {
  await checkOperation(gpu, "linear(linear(x, w), w)", {
    parameters: { x: uniform(7, [10, 7]), w: uniform(8, [7, 7]) },
    record: (tape, { x, w }) => linear(tape, linear(tape, x, w), w),
    reference: ({ x, w }) => product(product(x, w, [10, 7, 7]), w, [10, 7, 7]),
  });
});

testOnProfiles("frozen inputs and weights get no gradient and change nothing else", async (gpu) => {
  const x = uniform(9, [5, 6]), w = uniform(10, [3, 6]);
  await checkOperation(gpu, "frozen weight", {
    parameters: { x },
    constants: { w },
    record: (tape, { x, w }) => linear(tape, x, w),
    reference: ({ x }) => product(x, w.values, [5, 3, 6]),
  });
  await checkOperation(gpu, "frozen input", {
    parameters: { w },
    constants: { x },
    record: (tape, { x, w }) => linear(tape, x, w),
    reference: ({ w }) => product(x.values, w, [5, 3, 6]),
  });
});

testOnProfiles("a head with one output has the right value and gradients", async (gpu) => {
  for (const [rows, cols] of [[1, 1], [7, 5], [40, 12]]) {
    await checkOperation(gpu, `scalar head [${rows}, ${cols}]`, {
      parameters: { x: uniform(11, [rows, cols]), w: uniform(12, [1, cols]) },
      record: (tape, { x, w }) => exp(tape, scalarHead(tape, x, w)),
      reference: ({ x, w }) => product(x, w, [rows, 1, cols]).map(Math.exp),
      tolerance: 1e-5,
    });
  }
});
