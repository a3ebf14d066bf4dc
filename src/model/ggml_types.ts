/**
 * The element types of GGUF files: how their blocks are laid out, to float32 and, for Q8_0, back.
 *
 * A quantised row is cut into blocks of 32 or 256 elements that share scales; a block is a run of bytes. Results have the bits of
 * `gguf.quants` of the Python package `gguf`: each product and each sum is rounded to float32.
 *
 * @module
 */

import { toHalf } from "./stored_types.ts";

/** Elements and bytes of a block of each type that is understood, and the number that stands for the type in a file. */
export const GGML_TYPES = {
  F32: { code: 0, elements: 1, bytes: 4 },
  F16: { code: 1, elements: 1, bytes: 2 },
  BF16: { code: 30, elements: 1, bytes: 2 },
  /** Half scale, 32 signed bytes. */
  Q8_0: { code: 8, elements: 32, bytes: 34 },
  /** Half scale, 32 nibbles with 8 taken off. */
  Q4_0: { code: 2, elements: 32, bytes: 18 },
  /** Half scale, half minimum, 32 nibbles. */
  Q4_1: { code: 3, elements: 32, bytes: 20 },
  /** Half scale, the 32 upper bits, 32 nibbles, with 16 taken off. */
  Q5_0: { code: 6, elements: 32, bytes: 22 },
  /** Half scale, half minimum, the 32 upper bits, 32 nibbles. */
  Q5_1: { code: 7, elements: 32, bytes: 24 },
  /** Half scale of the scales, half scale of the minima, 8 scales and minima of 6 bits, 256 nibbles. */
  Q4_K: { code: 12, elements: 256, bytes: 144 },
  /** As Q4_K with the 256 upper bits before the nibbles. */
  Q5_K: { code: 13, elements: 256, bytes: 176 },
  /** 256 nibbles, 256 upper pairs of bits, 16 signed scales, half scale of the scales; 32 is taken off. */
  Q6_K: { code: 14, elements: 256, bytes: 210 },
} as const;

/** An element type of a GGUF file. */
export type GgmlType = keyof typeof GGML_TYPES;

/** Types that files have and that are not understood, for messages. */
const OTHERS: Record<number, string> = {
  9: "Q8_1",
  10: "Q2_K",
  11: "Q3_K",
  15: "Q8_K",
  16: "IQ2_XXS",
  17: "IQ2_XS",
  18: "IQ3_XXS",
  19: "IQ1_S",
  20: "IQ4_NL",
  21: "IQ3_S",
  22: "IQ2_S",
  23: "IQ4_XS",
  24: "I8",
  25: "I16",
  26: "I32",
  27: "I64",
  28: "F64",
  29: "IQ1_M",
  34: "TQ1_0",
  35: "TQ2_0",
  39: "MXFP4",
};

const BY_CODE = new Map<number, GgmlType>(
  Object.entries(GGML_TYPES).map(([name, { code }]) => [code, name as GgmlType]),
);

/** The type of a number in a file. `what` begins the error for one that is not understood. */
export function ggmlType(code: number, what: string): GgmlType {
  const type = BY_CODE.get(code);
  if (type !== undefined) return type;
  const name = Object.hasOwn(OTHERS, code) ? OTHERS[code] : `number ${code}`;
  throw new Error(`${what} has type ${name}. Expected one of ${Object.keys(GGML_TYPES).join(", ")}.`);
}

/** Bytes of some elements, which must fill whole blocks. */
export function ggmlBytes(type: GgmlType, elements: number): number {
  return elements / GGML_TYPES[type].elements * GGML_TYPES[type].bytes;
}

/** Every half as float32: a look-up is faster than a view at an odd address. */
const HALVES = new Float32Array(new Float16Array(Uint16Array.from({ length: 65536 }, (_, i) => i).buffer));

const { fround } = Math;

/** Whole blocks as float32. */
export function dequantize(type: GgmlType, bytes: Uint8Array): Float32Array<ArrayBuffer> {
  const block = GGML_TYPES[type];
  if (bytes.length % block.bytes !== 0) {
    throw new Error(`Got ${bytes.length} bytes of ${type}. Expected a multiple of ${block.bytes}.`);
  }
  const blocks = bytes.length / block.bytes;
  const out = new Float32Array(blocks * block.elements);
  switch (type) {
    case "F32":
      new Uint8Array(out.buffer).set(bytes);
      break;
    case "F16":
      for (let i = 0; i < blocks; i++) out[i] = half(bytes, 2 * i);
      break;
    case "BF16": {
      // bf16 is the upper half of a float32.
      const words = new Uint32Array(out.buffer);
      for (let i = 0; i < blocks; i++) words[i] = (bytes[2 * i] | bytes[2 * i + 1] << 8) << 16;
      break;
    }
    case "Q8_0":
      for (let b = 0, at = 0; b < blocks; b++, at += 34) {
        const d = half(bytes, at);
        for (let i = 0; i < 32; i++) out[32 * b + i] = d * (bytes[at + 2 + i] << 24 >> 24);
      }
      break;
    case "Q4_0":
      for (let b = 0, at = 0; b < blocks; b++, at += 18) {
        const d = half(bytes, at);
        for (let i = 0; i < 16; i++) {
          const q = bytes[at + 2 + i];
          out[32 * b + i] = d * ((q & 15) - 8);
          out[32 * b + i + 16] = d * ((q >> 4) - 8);
        }
      }
      break;
    case "Q4_1":
      for (let b = 0, at = 0; b < blocks; b++, at += 20) {
        const d = half(bytes, at), m = half(bytes, at + 2);
        for (let i = 0; i < 16; i++) {
          const q = bytes[at + 4 + i];
          out[32 * b + i] = fround(d * (q & 15)) + m;
          out[32 * b + i + 16] = fround(d * (q >> 4)) + m;
        }
      }
      break;
    case "Q5_0":
      for (let b = 0, at = 0; b < blocks; b++, at += 22) {
        const d = half(bytes, at), high = word(bytes, at + 2);
        for (let i = 0; i < 16; i++) {
          const q = bytes[at + 6 + i];
          out[32 * b + i] = d * ((q & 15 | (high >>> i & 1) << 4) - 16);
          out[32 * b + i + 16] = d * ((q >> 4 | (high >>> i + 16 & 1) << 4) - 16);
        }
      }
      break;
    case "Q5_1":
      for (let b = 0, at = 0; b < blocks; b++, at += 24) {
        const d = half(bytes, at), m = half(bytes, at + 2), high = word(bytes, at + 4);
        for (let i = 0; i < 16; i++) {
          const q = bytes[at + 8 + i];
          out[32 * b + i] = fround(d * (q & 15 | (high >>> i & 1) << 4)) + m;
          out[32 * b + i + 16] = fround(d * (q >> 4 | (high >>> i + 16 & 1) << 4)) + m;
        }
      }
      break;
    case "Q4_K":
      for (let b = 0, at = 0; b < blocks; b++, at += 144) fourBits(bytes, at, -1, at + 16, out, 256 * b);
      break;
    case "Q5_K":
      for (let b = 0, at = 0; b < blocks; b++, at += 176) fourBits(bytes, at, at + 16, at + 48, out, 256 * b);
      break;
    case "Q6_K":
      for (let b = 0, at = 0; b < blocks; b++, at += 210) sixBits(bytes, at, out, 256 * b);
      break;
  }
  return out;
}

function half(bytes: Uint8Array, at: number): number {
  return HALVES[bytes[at] | bytes[at + 1] << 8];
}

function word(bytes: Uint8Array, at: number): number {
  return bytes[at] | bytes[at + 1] << 8 | bytes[at + 2] << 16 | bytes[at + 3] << 24;
}

/**
 * A block of Q4_K, or of Q5_K with the upper bits at `high`: 8 groups of 32, two to each 32 bytes of nibbles. Scales and minima of the
 * first four groups are the lower 6 bits of bytes 0-3 and 4-7; those of the others have 4 bits in bytes 8-11 and their upper two above
 * the 6 bits of the first four.
 */
function fourBits(
  bytes: Uint8Array,
  at: number,
  high: number,
  low: number,
  out: Float32Array,
  to: number,
): void {
  const d = half(bytes, at), least = half(bytes, at + 2);
  const scales = at + 4;
  for (let group = 0; group < 8; group++) {
    const first = bytes[scales + (group & 3)], second = bytes[scales + 4 + (group & 3)];
    const rest = bytes[scales + 8 + (group & 3)];
    const scale = fround(d * (group < 4 ? first & 63 : rest & 15 | first >> 2 & 48));
    const minimum = fround(least * (group < 4 ? second & 63 : rest >> 4 | second >> 2 & 48));
    const nibbles = low + (group >> 1) * 32, shift = (group & 1) * 4;
    for (let i = 0; i < 32; i++) {
      let q = bytes[nibbles + i] >> shift & 15;
      if (high >= 0) q |= (bytes[high + i] >> group & 1) << 4;
      out[to + 32 * group + i] = fround(scale * q) - minimum;
    }
  }
}

/** A block of Q6_K: each half of 128 elements has 64 bytes of nibbles and 32 of upper pairs of bits; a scale is for 16 elements. */
function sixBits(bytes: Uint8Array, at: number, out: Float32Array, to: number): void {
  const d = half(bytes, at + 208);
  for (let group = 0; group < 8; group++) {
    const part = group >> 2, quarter = group & 3;
    const low = at + part * 64 + (quarter & 1) * 32, high = at + 128 + part * 32;
    for (let i = 0; i < 32; i++) {
      const scale = fround(d * (bytes[at + 192 + 2 * group + (i >> 4)] << 24 >> 24));
      const q = bytes[low + i] >> (quarter >> 1) * 4 & 15 | (bytes[high + i] >> 2 * quarter & 3) << 4;
      out[to + 32 * group + i] = scale * (q - 32);
    }
  }
}

/**
 * Float32 as Q8_0, 32 elements to a block: the scale is the largest magnitude over 127, values are rounded half away from zero.
 * `what` begins the error for what cannot be stored.
 */
export function quantizeQ80(data: Float32Array, what: string): Uint8Array<ArrayBuffer> {
  const blocks = data.length / 32;
  if (!Number.isInteger(blocks)) {
    throw new Error(`${what} has rows that do not fill blocks. Expected a multiple of 32 values.`);
  }
  const out = new Uint8Array(blocks * 34);
  const scales = new Float32Array(blocks);
  for (let b = 0; b < blocks; b++) {
    let largest = 0;
    for (let i = 32 * b; i < 32 * b + 32; i++) {
      const size = Math.abs(data[i]);
      // Nothing is larger than a NaN, so that it stays.
      if (size > largest || Number.isNaN(size)) largest = size;
    }
    if (!Number.isFinite(largest)) throw new Error(`${what} holds ${largest}. Expected finite numbers.`);
    const d = fround(largest / 127);
    scales[b] = d;
    const inverse = fround(1 / d);
    // So small a block is zero in any case: so is its scale in half precision.
    if (inverse === Infinity) continue;
    for (let i = 0; i < 32; i++) {
      const value = fround(data[32 * b + i] * inverse), size = Math.abs(value), whole = Math.floor(size);
      const rounded = whole + Math.floor(2 * (size - whole));
      out[34 * b + 2 + i] = value < 0 ? -rounded : rounded;
    }
  }
  const halves = toHalf(scales, `The scale of a block of ${what}`);
  for (let b = 0; b < blocks; b++) {
    out[34 * b] = halves[2 * b];
    out[34 * b + 1] = halves[2 * b + 1];
  }
  return out;
}
