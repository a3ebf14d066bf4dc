/**
 * TFRecord, the framing of TensorBoard's event files: length and data, each with a masked CRC-32C.
 *
 * @module
 */
import { concat } from "./tracker.ts";

/** Castagnoli's polynomial with its bits reversed (RFC 3720, B.4). */
const POLYNOMIAL = 0x82f63b78;

/** The remainder of each byte. */
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let remainder = byte;
  for (let bit = 0; bit < 8; bit++) remainder = (remainder >>> 1) ^ (remainder & 1 ? POLYNOMIAL : 0);
  return remainder;
});

/** CRC-32C, as an unsigned number of 32 bits. */
export function crc32c(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = (crc >>> 8) ^ TABLE[(crc ^ byte) & 0xff];
  return (crc ^ 0xffffffff) >>> 0;
}

/** Masked, because a CRC over data that have CRCs in them is a weak one. */
function maskedCrc(data: Uint8Array): Uint8Array {
  const crc = crc32c(data), out = new Uint8Array(4);
  new DataView(out.buffer).setUint32(0, ((crc >>> 15) | (crc << 17)) + 0xa282ead8, true);
  return out;
}

/** One record. */
export function tfRecord(data: Uint8Array): Uint8Array {
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(data.length), true);
  return concat([length, maskedCrc(length), data, maskedCrc(data)]);
}
