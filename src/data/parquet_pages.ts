/**
 * Checks the pages of a Parquet column before they are decoded: sizes and counts in a damaged or hostile file could otherwise
 * ask for any amount of memory.
 *
 * @module
 */
import type { CompressionCodec, Compressors, PageHeader } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { parquetHeader } from "hyparquet/src/column.js";

/** Most values in one page, and most bytes of one page after decompression. */
const MAX_VALUES = 2 ** 24, MAX_PAGE_BYTES = 2 ** 30;

/** Most groups of eight by which bit-packed values may be filled up. */
const MAX_FILLED_GROUPS = 64;

/** Decompressors by codec; a page of no bytes is nothing, which LZ4's does not know. */
export const DECOMPRESSORS: Compressors = Object.fromEntries(
  Object.entries(compressors).map(([codec, decompress]) => [
    codec,
    (input: Uint8Array, size: number) => size === 0 ? new Uint8Array() : decompress(input, size),
  ]),
);

/** What is known of a column from the file's metadata. */
export interface ColumnChunk {
  codec: CompressionCodec;
  /** Values that it should have, nulls included. */
  values: number;
  /** Bytes after decompression that it should have. */
  bytes: number;
  /** Largest repetition and definition level. */
  repetition: number;
  definition: number;
}

function damaged(problem: string): never {
  throw new Error(`it is damaged: ${problem}`);
}

const bitWidth = (value: number) => 32 - Math.clz32(value);

/** A whole number of 7 bits per byte, at most 2³²: the number and the place after it. */
function readVarint(bytes: Uint8Array, at: number, end: number): [number, number] {
  let number = 0;
  for (let shift = 0; shift <= 28; shift += 7) {
    if (at >= end) break;
    const byte = bytes[at++];
    number += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return [number, at];
  }
  return damaged("a page ends early");
}

/**
 * Walks through runs of the hybrid of run lengths and bit packing until there are `values` values, or, where nulls may leave
 * fewer, the page ends. A run must not be longer than what is left; one of bit-packed groups may be filled up.
 */
function checkRuns(
  bytes: Uint8Array,
  [begin, end]: [number, number],
  width: number,
  values: number,
  fewer = false,
): void {
  let at = begin, left = values;
  while (left > 0 && !(fewer && at >= end)) {
    const [header, next] = readVarint(bytes, at, end);
    const packed = header % 2 === 1, count = Math.floor(header / 2);
    const most = packed ? left / 8 + MAX_FILLED_GROUPS : left;
    if (count > most || (count === 0 && !fewer)) damaged("a run is longer than its page");
    left -= packed ? count * 8 : count;
    at = next + (packed ? count * width : Math.ceil(width / 8));
  }
}

/** Runs with their length before them, as levels in pages of the first version have; the place after them. */
function checkLevels(
  bytes: Uint8Array,
  at: number,
  highest: number,
  values: number,
  fewer = false,
): number {
  if (highest === 0) return at;
  if (at + 4 > bytes.length) damaged("a page is too short for its levels");
  const length = new DataView(bytes.buffer, bytes.byteOffset + at, 4).getUint32(0, true);
  const end = at + 4 + length;
  if (end > bytes.length) damaged("a page is too short for its levels");
  checkRuns(bytes, [at + 4, end], bitWidth(highest), values, fewer);
  return end;
}

/** Checks the decompressed values of a page, and its levels where they are compressed, too. */
function checkBody(bytes: Uint8Array, header: PageHeader, column: ColumnChunk): void {
  const first = header.data_page_header, second = header.data_page_header_v2;
  const page = first ?? second;
  if (!page) return;
  let at = 0;
  if (first) {
    at = checkLevels(bytes, at, column.repetition, first.num_values);
    at = checkLevels(bytes, at, column.definition, first.num_values);
  }
  switch (page.encoding) {
    case "PLAIN":
      return;
    case "RLE": // booleans
      checkLevels(bytes, at, 1, page.num_values, true);
      return;
    case "RLE_DICTIONARY":
    case "PLAIN_DICTIONARY":
      // A page of nulls has nothing but its levels.
      if (at >= bytes.length) return;
      if (bytes[at] > 32) damaged("dictionary indices of more than 32 bits");
      if (bytes[at] > 0) checkRuns(bytes, [at + 1, bytes.length], bytes[at], page.num_values, true);
      return;
    case "DELTA_BINARY_PACKED":
    case "DELTA_LENGTH_BYTE_ARRAY":
      return checkDeltas(bytes, at);
    default:
      throw new Error(
        `a column has the encoding ${page.encoding}. Expected PLAIN, RLE, RLE_DICTIONARY, DELTA_BINARY_PACKED or DELTA_LENGTH_BYTE_ARRAY; write the file again with pyarrow or datasets`,
      );
  }
}

/** Checks the head of a page of differences, whose blocks could otherwise be of any size. */
function checkDeltas(bytes: Uint8Array, at: number): void {
  if (at >= bytes.length) return;
  const [block, next] = readVarint(bytes, at, bytes.length);
  const [parts] = readVarint(bytes, next, bytes.length);
  if (block > 2 ** 20 || parts < 1 || parts > block) damaged(`blocks of ${block} values in ${parts} parts`);
}

/** Checks a page's header against its column; returns the number of its values. */
function checkHeader(header: PageHeader, column: ColumnChunk, room: number): number {
  const { compressed_page_size: packed, uncompressed_page_size: size } = header;
  if (!(packed >= 0 && packed <= room)) damaged(`a page of ${packed} bytes is larger than its column`);
  const limit = Math.min(MAX_PAGE_BYTES, column.bytes);
  if (!(size >= 0 && size <= limit)) damaged(`a page of ${size} bytes is larger than its column`);
  const page = header.data_page_header ?? header.data_page_header_v2 ?? header.dictionary_page_header;
  const values = page?.num_values ?? 0;
  const most = header.dictionary_page_header ? Math.min(MAX_VALUES, size + 1) : column.values;
  if (!(values >= 0 && values <= most)) damaged(`a page of ${values} values`);
  const second = header.data_page_header_v2;
  if (second) {
    const { definition_levels_byte_length: d, repetition_levels_byte_length: r } = second;
    if (!(d >= 0 && r >= 0 && d + r <= Math.min(packed, size))) damaged("levels larger than their page");
    if (!(second.num_nulls >= 0 && second.num_nulls <= values)) damaged("more nulls than values");
  }
  return header.dictionary_page_header ? 0 : values;
}

/**
 * Checks the pages of a column as they lie in the file; compressed ones are decompressed for it.
 */
export function checkPages(chunk: ArrayBuffer, column: ColumnChunk): void {
  const bytes = new Uint8Array(chunk);
  const reader = { view: new DataView(chunk), offset: 0 };
  const decompress = DECOMPRESSORS[column.codec];
  if (!decompress && column.codec !== "UNCOMPRESSED") {
    throw new Error(`its compression ${column.codec} is not supported`);
  }
  let values = 0;
  while (reader.offset < bytes.length - 1 && values < column.values) {
    const header = parquetHeader(reader);
    values += checkHeader(header, column, bytes.length - reader.offset);
    if (values > column.values) damaged("its pages have more values than its column");
    let body: Uint8Array = bytes.subarray(reader.offset, reader.offset + header.compressed_page_size);
    const second = header.data_page_header_v2;
    let levels = 0;
    if (second) {
      const { definition_levels_byte_length: d, repetition_levels_byte_length: r } = second;
      if (column.repetition) checkRuns(body, [0, r], bitWidth(column.repetition), second.num_values);
      if (column.definition) checkRuns(body, [r, r + d], bitWidth(column.definition), second.num_values);
      levels = d + r;
      body = body.subarray(levels);
    }
    const size = header.uncompressed_page_size - levels;
    if (decompress && second?.is_compressed !== false) body = decompress(body, size);
    checkBody(body, header, column);
    reader.offset += header.compressed_page_size;
  }
}
