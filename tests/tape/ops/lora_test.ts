/** Adapters beside a linear map against float64: LoRA and DoRA, with dropout and without. */
import { philox } from "../../../src/random/stream.ts";
import { adaptedLinear } from "../../../src/tape/ops/lora.ts";
import type { Tensor } from "../../../src/tape/tape.ts";
import { testOnProfiles } from "../../kernels/helpers.ts";
import { checkOperation, type HostTensor, uniform } from "../gradients.ts";

/** A module: its rank, and the outputs it has of the matrix. */
interface Module {
  rank: number;
  first: number;
  count: number;
  scale: number;
}

interface Case {
  rows: number;
  inner: number;
  /** Rows of the parts of the matrix. */
  parts: number[];
  modules: Module[];
  dora?: boolean;
  rate?: number;
  added?: boolean;
}

const KEY = [41, 7];

/** What dropout leaves of x [rows, cols], with the module's own random numbers. */
function dropped(x: Float64Array, cols: number, rate: number, salt: number): Float64Array {
  return x.map((v, i) => {
    const row = Math.floor(i / cols), col = i % cols;
    const word = philox([KEY[0], KEY[1]], [col >> 2, row, salt, 0x64726f70])[col & 3];
    return ((word >>> 9) + 0.5) / 2 ** 23 >= Math.fround(rate) ? v / (1 - rate) : 0;
  });
}

/** x [rows, inner] · wᵀ [out, inner], row-major. */
function product(
  x: ArrayLike<number>,
  w: ArrayLike<number>,
  rows: number,
  out: number,
  inner: number,
): Float64Array {
  return Float64Array.from({ length: rows * out }, (_, i) => {
    const r = Math.floor(i / out), o = i % out;
    let sum = 0;
    for (let c = 0; c < inner; c++) sum += x[r * inner + c] * w[o * inner + c];
    return sum;
  });
}

/** Rows of W + s·B·A of a module: the norm over each. */
function norms(
  w: Float64Array,
  a: Float64Array,
  b: Float64Array,
  { rank, first, count, scale }: Module,
  inner: number,
) {
  return Float64Array.from({ length: count }, (_, o) => {
    let total = 0;
    for (let c = 0; c < inner; c++) {
      let sum = w[(first + o) * inner + c];
      for (let k = 0; k < rank; k++) sum += scale * b[o * rank + k] * a[k * inner + c];
      total += sum * sum;
    }
    return Math.sqrt(total);
  });
}

async function check(gpu: Parameters<typeof checkOperation>[0], name: string, c: Case): Promise<void> {
  const { rows, inner, modules, dora = false, rate = 0, added = false } = c;
  const out = c.parts.reduce((a, b) => a + b), whole = uniform(90, [out, inner]);
  const w = Float64Array.from(whole.values);
  const parameters: Record<string, HostTensor> = { x: uniform(1, [rows, inner]) };
  if (added) Object.assign(parameters, { bias: uniform(2, [out]), residual: uniform(3, [rows, out]) });
  modules.forEach(({ rank, count }, i) => {
    parameters[`a${i}`] = uniform(10 + i, [rank, inner]);
    parameters[`b${i}`] = uniform(20 + i, [count, rank]);
    if (dora) {
      const { values, shape } = uniform(30 + i, [count]);
      parameters[`m${i}`] = { shape, values: Array.from(values, (v) => 1.5 + v) };
    }
  });
  let from = 0;
  const constants: Record<string, HostTensor> = { key: { shape: [2], values: KEY, integers: true } };
  c.parts.forEach((count, i) => {
    const values = Array.from(whole.values).slice(from * inner, (from += count) * inner);
    constants[`w${i}`] = { shape: [count, inner], values };
  });
  // PEFT takes the norms as constants in the gradient: here they are those of the parameters as they are, not as they are varied.
  const fixed = modules.map((module, i) => {
    const of = (name: string) => Float64Array.from(parameters[`${name}${i}`].values);
    return norms(w, of("a"), of("b"), module, inner);
  });
  await checkOperation<string, string>(gpu, name, {
    parameters,
    constants,
    record: (tape, tensors) => {
      const parts = c.parts.map((_, i) => tensors[`w${i}`]);
      const adapters = modules.map(({ first, scale }, i) => ({
        a: tensors[`a${i}`],
        b: tensors[`b${i}`],
        ...(dora && { magnitude: tensors[`m${i}`] as Tensor }),
        first,
        scale,
        salt: 5 + i,
      }));
      const { bias, residual, key } = tensors;
      return adaptedLinear(
        tape,
        tensors.x,
        parts,
        adapters,
        { bias, residual },
        rate > 0 ? { rate, key } : undefined,
      );
    },
    reference: (values) => {
      const { x, bias, residual } = values;
      const y = product(x, w, rows, out, inner);
      modules.forEach((module, i) => {
        const { rank, first, count, scale } = module;
        const left = rate > 0 ? dropped(x, inner, rate, 5 + i) : x;
        const low = product(
          product(left, values[`a${i}`], rows, rank, inner),
          values[`b${i}`],
          rows,
          count,
          rank,
        );
        const plain = product(left, w.subarray(first * inner, (first + count) * inner), rows, count, inner);
        for (let r = 0; r < rows; r++) {
          for (let o = 0; o < count; o++) {
            const gain = dora ? values[`m${i}`][o] / fixed[i][o] : 1, at = r * count + o;
            y[r * out + first + o] += (gain - 1) * plain[at] + gain * scale * low[at];
          }
        }
      });
      return y.map((v, i) => v + (bias?.[i % out] ?? 0) + (residual?.[i] ?? 0));
    },
    tolerance: 1e-5,
  });
}

/** One module of one, three that fill a matrix in two parts, and one that leaves columns to nobody. */
const SHAPES: Record<string, Omit<Case, "dora" | "rate" | "added">> = {
  "one module": { rows: 5, inner: 7, parts: [9], modules: [{ rank: 3, first: 0, count: 9, scale: 2 }] },
  "three modules, two parts": {
    rows: 19,
    inner: 12,
    parts: [16, 12],
    modules: [
      { rank: 4, first: 0, count: 16, scale: 0.7 },
      { rank: 1, first: 16, count: 4, scale: 3 },
      { rank: 4, first: 20, count: 8, scale: 0.7 },
    ],
  },
  "some columns": { rows: 9, inner: 5, parts: [24], modules: [{ rank: 2, first: 8, count: 8, scale: -1.5 }] },
};

for (const dora of [false, true]) {
  for (const rate of [0, 0.4]) {
    const title = `${dora ? "DoRA" : "LoRA"}${rate > 0 ? " with dropout" : ""}`;
    testOnProfiles(`${title} has the right values and gradients`, async (gpu) => {
      for (const [name, shape] of Object.entries(SHAPES)) {
        for (const added of [false, true]) {
          await check(gpu, `${title}, ${name}${added ? ", bias and residual" : ""}`, {
            ...shape,
            dora,
            rate,
            added,
          });
        }
      }
    });
  }
}
