/**
 * Protocol buffers, as much as trackers need of writing them: https://protobuf.dev/programming-guides/encoding
 *
 * A message is its fields one after the other; each function returns one field with its number.
 *
 * @module
 */
import { concat, utf8 } from "./tracker.ts";

const VARINT = 0, FIXED_64 = 1, LENGTH = 2, FIXED_32 = 5;

/** A whole number from 0 to 2⁵³, seven bits to a byte, the lowest first. */
function varint(value: number): number[] {
  const bytes: number[] = [];
  // Not by shifts, which have 32 bits.
  for (; value >= 0x80; value = Math.floor(value / 0x80)) bytes.push(value % 0x80 | 0x80);
  return [...bytes, value];
}

const tag = (field: number, type: number) => varint(field * 8 + type);

/** A head and what follows it, in one array: half of the time of a message goes into making arrays. */
function after(head: number[], rest: Uint8Array): Uint8Array {
  const out = new Uint8Array(head.length + rest.length);
  for (let i = 0; i < head.length; i++) out[i] = head[i];
  out.set(rest, head.length);
  return out;
}

/** An integer, a Boolean or a value of an enumeration; not negative. */
export function integer(field: number, value: number): Uint8Array {
  return new Uint8Array([...tag(field, VARINT), ...varint(value)]);
}

/** A double. */
export function double(field: number, value: number): Uint8Array {
  const number = new DataView(new ArrayBuffer(8));
  number.setFloat64(0, value, true);
  return after(tag(field, FIXED_64), new Uint8Array(number.buffer));
}

/** A float. */
export function float(field: number, value: number): Uint8Array {
  const number = new DataView(new ArrayBuffer(4));
  number.setFloat32(0, value, true);
  return after(tag(field, FIXED_32), new Uint8Array(number.buffer));
}

/** Bytes. */
export function bytes(field: number, value: Uint8Array): Uint8Array {
  return after([...tag(field, LENGTH), ...varint(value.length)], value);
}

/** A string. */
export function text(field: number, value: string): Uint8Array {
  return bytes(field, utf8(value));
}

/** A message of these fields. */
export function message(field: number, ...fields: Uint8Array[]): Uint8Array {
  return bytes(field, concat(fields));
}
