/** Weights as frozen models hold them, rounded on the host by the formats' own definitions. */
import type { ModelConfig } from "../../src/model/config.ts";
import type { HostTensor } from "../../src/model/params.ts";

/** Forms that a float32 model can be held in. */
export type Held = "f16" | "bf16" | "q8_0";

/** The nearest number with 8 significant bits, ties to even. */
function toBf16(x: number): number {
  const exponent = Math.floor(Math.log2(Math.abs(x))), unit = 2 ** (exponent - 7), at = x / unit;
  if (x === 0) return 0;
  const low = Math.floor(at), rest = at - low;
  return unit * (rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1);
}

/** Blocks of 32 whole numbers from −127 to 127 that share a scale in half precision, made of the block's largest number. */
function toQ80(block: number[]): number[] {
  const d = Math.fround(Math.max(...block.map(Math.abs)) / 127);
  return block.map((x) => Math.f16round(d) * (d === 0 ? 0 : Math.sign(x) * Math.round(Math.abs(x) / d)));
}

/** Whether a weight is a matrix of the file's shape [in, out]. */
function isTransposed(config: ModelConfig, name: string): boolean {
  return config.family === "gpt2" && /\.c_(attn|proj|fc)\.weight$/.test(name);
}

/**
 * A weight as it is held: vectors and heads of reward models as they are, matrices rounded. Blocks lie along the inputs; where
 * those are no whole blocks, or keel spreads a head's columns, the matrix stays as it is.
 */
export function heldTensor(config: ModelConfig, name: string, tensor: HostTensor, form: Held): HostTensor {
  const { shape, data } = tensor;
  if (shape.length !== 2 || name === "score.weight") return tensor;
  if (form === "f16") return { shape, data: data.map(Math.f16round) };
  if (form === "bf16") return { shape, data: data.map(toBf16) };
  const transposed = isTransposed(config, name), inputs = transposed ? shape[0] : shape[1];
  const spread = config.headDim % 4 !== 0 && /\.(o_proj|attn\.c_proj|attention\.dense)\.weight$/.test(name);
  if (inputs % 32 !== 0 || spread) return tensor;
  const rounded = new Float32Array(data.length), outputs = data.length / inputs;
  const at = (out: number, i: number) => transposed ? i * outputs + out : out * inputs + i;
  for (let out = 0; out < outputs; out++) {
    for (let first = 0; first < inputs; first += 32) {
      const block = Array.from({ length: 32 }, (_, i) => data[at(out, first + i)]);
      toQ80(block).forEach((value, i) => rounded[at(out, first + i)] = value);
    }
  }
  return { shape, data: rounded };
}

/** The largest rounding error of a held number, given the number and the largest of its block. */
export function largestError(form: Held, size: number, largest: number): number {
  switch (form) {
    // Half a unit in the last of 11 significant bits, and of numbers below the normal ones half their unit, 2⁻²⁴.
    case "f16":
      return Math.max(2 ** -11 * size, 2 ** -25);
    // The same with 8 bits.
    case "bf16":
      return 2 ** -8 * size;
    // Half of the block's step, largest / 127; and the step is itself rounded to 11 bits.
    case "q8_0":
      return largest / 254 + 2 ** -11 * (size + largest / 254);
  }
}
