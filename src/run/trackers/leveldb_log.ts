/**
 * The framing of W&B's `.wandb` files: LevelDB's log format with a header of their own and, despite LevelDB's CRC-32C, the
 * CRC-32 of zlib. https://github.com/google/leveldb/blob/main/doc/log_format.md
 *
 * Records lie in blocks of 32 KiB. One that crosses the end of a block is cut into pieces; where less than the head of a
 * piece is left of a block, zeros are.
 *
 * @module
 */
import { crc32 } from "node:zlib";
import { concat, utf8 } from "./tracker.ts";

const BLOCK = 32768, HEAD = 7;

/** Kinds of pieces. */
const FULL = 1, FIRST = 2, MIDDLE = 3, LAST = 4;

/** The file's header: `:W&B`, a magic number, version 0. */
export const LOG_HEADER: Uint8Array = concat([utf8(":W&B"), Uint8Array.of(0xe1, 0xbe, 0)]);

/** The bytes of a record that begins `at` bytes into the file. */
export function logRecord(data: Uint8Array, at: number): Uint8Array {
  const out: Uint8Array[] = [];
  let from = 0, begun = false;
  do {
    let left = BLOCK - at % BLOCK;
    if (left < HEAD) {
      out.push(new Uint8Array(left));
      at += left;
      left = BLOCK;
    }
    const to = Math.min(data.length, from + left - HEAD);
    const whole = to === data.length;
    out.push(piece(begun ? (whole ? LAST : MIDDLE) : whole ? FULL : FIRST, data.subarray(from, to)));
    // Where only a head fits into the block, this piece was empty.
    begun = true;
    at += HEAD + to - from;
    from = to;
  } while (from < data.length);
  return concat(out);
}

function piece(kind: number, data: Uint8Array): Uint8Array {
  const head = new Uint8Array(HEAD), view = new DataView(head.buffer);
  view.setUint32(0, crc32(data, crc32(Uint8Array.of(kind))), true);
  view.setUint16(4, data.length, true);
  view.setUint8(6, kind);
  return concat([head, data]);
}
