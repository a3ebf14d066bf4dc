/**
 * Element types of stored tensors, and their conversion to and from what we compute with.
 *
 * @module
 */

/** Bytes per element of the types that are understood. */
export const ITEM_BYTES = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U64: 8,
  U32: 4,
  U16: 2,
  U8: 1,
  BOOL: 1,
} as const;

/** Element type of a stored tensor. */
export type StoredType = keyof typeof ITEM_BYTES;

/** Whether a type holds floating-point numbers. */
export function isFloat(dtype: StoredType): dtype is "F64" | "F32" | "F16" | "BF16" {
  return dtype.endsWith("F16") || dtype === "F32" || dtype === "F64";
}

/** Little-endian floats as float32: f16 and bf16 exactly, f64 rounded to nearest. The buffer may become the result. */
export function toFloats(dtype: StoredType, buffer: ArrayBuffer): Float32Array<ArrayBuffer> {
  switch (dtype) {
    case "F32":
      return new Float32Array(buffer);
    case "F16":
      return new Float32Array(new Float16Array(buffer));
    case "F64":
      return new Float32Array(new Float64Array(buffer));
    case "BF16":
      // bf16 is the upper half of a float32.
      return new Float32Array(Uint32Array.from(new Uint16Array(buffer), (half) => half << 16).buffer);
    default:
      throw new Error(`Got ${dtype}. Expected a floating-point type.`);
  }
}

function integerView(dtype: StoredType, buffer: ArrayBuffer): ArrayLike<number | bigint> {
  switch (dtype) {
    case "I64":
      return new BigInt64Array(buffer);
    case "U64":
      return new BigUint64Array(buffer);
    case "I32":
      return new Int32Array(buffer);
    case "U32":
      return new Uint32Array(buffer);
    case "I16":
      return new Int16Array(buffer);
    case "U16":
      return new Uint16Array(buffer);
    case "I8":
      return new Int8Array(buffer);
    case "U8":
    case "BOOL":
      return new Uint8Array(buffer);
    default:
      throw new Error(`Got ${dtype}. Expected an integer type.`);
  }
}

/** Little-endian integers as int32. `what` begins the error for a value that does not fit. */
export function toIntegers(dtype: StoredType, buffer: ArrayBuffer, what: string): Int32Array<ArrayBuffer> {
  const values = integerView(dtype, buffer);
  const result = new Int32Array(values.length);
  for (let i = 0; i < result.length; i++) {
    const value = Number(values[i]);
    result[i] = value;
    if (result[i] !== value) throw new Error(`${what} holds ${values[i]}, which does not fit 32 bits.`);
  }
  return result;
}

/** Float32 rounded to bf16, ties to even; what is not a number stays so. */
export function toBrainHalf(data: Float32Array): Uint8Array<ArrayBuffer> {
  const words = new Uint32Array(data.buffer, data.byteOffset, data.length);
  const half = Uint16Array.from(words, (word) => {
    if ((word & 0x7fffffff) > 0x7f800000) return word >>> 16 | 0x40;
    return word + 0x7fff + (word >>> 16 & 1) >>> 16;
  });
  return new Uint8Array(half.buffer);
}

/** Float32 rounded to f16. `what` begins the error for a finite value that would become infinite. */
export function toHalf(data: Float32Array, what: string): Uint8Array<ArrayBuffer> {
  const half = new Float16Array(data);
  const lost = half.findIndex((value, i) => !Number.isFinite(value) && Number.isFinite(data[i]));
  if (lost >= 0) throw new Error(`${what} holds ${data[lost]}. Expected at most 65504; write f32 instead.`);
  return new Uint8Array(half.buffer);
}
