/**
 * Rows of a Parquet file, one row group after the other: plain and nested columns, in every usual compression.
 *
 * A file's own sizes and counts are checked against what the file has before memory is given to them.
 *
 * @module
 */
import {
  type AsyncBuffer,
  type ColumnMetaData,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
} from "hyparquet";
import { getMaxDefinitionLevel, getMaxRepetitionLevel, getSchemaPath } from "hyparquet/src/schema.js";
import { fileSize, type JsonObject } from "../model/json_file.ts";
import { checkPages, DECOMPRESSORS } from "./parquet_pages.ts";
import type { DataRow } from "./rows.ts";

/** Limits of what a file may ask for. */
const MAX_METADATA = 256e6, MAX_COLUMNS = 10_000, MAX_GROUP_ROWS = 2 ** 24, MAX_GROUP_BYTES = 2 ** 32;

/** Most values for each byte of a column, where it has many: a run of equal values, compressed, takes next to nothing. */
const MOST_VALUES_PER_BYTE = 2 ** 16, MANY_VALUES = 2 ** 22;

function damaged(problem: string): never {
  throw new Error(`it is damaged: ${problem}`);
}

/** The file as hyparquet reads it; no part beyond its end. */
function openBuffer(path: string): AsyncBuffer & { close(): void } {
  const byteLength = fileSize(path);
  const file = Deno.openSync(path);
  return {
    byteLength,
    slice(start, end = byteLength) {
      if (!(start >= 0 && start <= end && end <= byteLength)) {
        damaged(`it refers to bytes ${start} to ${end} of ${byteLength}`);
      }
      const bytes = new Uint8Array(end - start);
      file.seekSync(start, Deno.SeekMode.Start);
      for (let at = 0; at < bytes.length;) {
        const count = file.readSync(bytes.subarray(at));
        if (count === null) damaged("it has become shorter");
        at += count;
      }
      return bytes.buffer;
    },
    close: () => file.close(),
  };
}

/** The columns of a row group with their place in the file, checked. */
function groupColumns(metadata: FileMetaData, group: number, byteLength: number): ColumnMetaData[] {
  const { columns, num_rows: rows } = metadata.row_groups[group];
  if (!(rows >= 0n && rows <= MAX_GROUP_ROWS)) damaged(`a row group of ${rows} rows`);
  let bytes = 0;
  const checked = columns.map(({ meta_data: column, file_path }) => {
    if (file_path) throw new Error(`a column lies in another file, ${file_path}`);
    if (!column) return damaged("a column has no metadata");
    const { total_compressed_size: packed, total_uncompressed_size: size, num_values: values } = column;
    if (!(packed >= 0n && packed <= byteLength)) damaged(`a column of ${packed} bytes`);
    bytes += Number(size);
    if (!(size >= 0n && bytes <= MAX_GROUP_BYTES)) {
      throw new Error(
        `a row group has ${bytes} bytes. Expected at most ${MAX_GROUP_BYTES}; write it with smaller row groups`,
      );
    }
    const most = Math.min(2 ** 30, Math.max(MANY_VALUES, Number(packed) * MOST_VALUES_PER_BYTE));
    if (!(values >= 0n && values <= most)) damaged(`a column of ${values} values in ${packed} bytes`);
    return column;
  });
  if (rows > 0n && checked.length === 0) damaged("a row group without columns");
  if (checked.some((column) => column.num_values < rows)) damaged("a column with fewer values than rows");
  return checked;
}

/** Rows of one row group. */
async function readGroup(
  file: AsyncBuffer,
  metadata: FileMetaData,
  group: number,
): Promise<Record<string, unknown>[]> {
  for (const column of groupColumns(metadata, group, file.byteLength)) {
    const path = getSchemaPath(metadata.schema, column.path_in_schema);
    const start = Number(column.dictionary_page_offset || column.data_page_offset);
    checkPages(await file.slice(start, start + Number(column.total_compressed_size)), {
      codec: column.codec,
      values: Number(column.num_values),
      bytes: Number(column.total_uncompressed_size),
      repetition: getMaxRepetitionLevel(path),
      definition: getMaxDefinitionLevel(path),
    });
  }
  const rows = Number(metadata.row_groups[group].num_rows);
  return await parquetReadObjects({
    file,
    metadata: { ...metadata, num_rows: BigInt(rows), row_groups: [metadata.row_groups[group]] },
    compressors: DECOMPRESSORS,
    rowStart: 0,
    rowEnd: rows,
  });
}

/** Values as JSON has them: whole numbers that are exact, dates and bytes as text. */
function plainValue(value: unknown): unknown {
  if (typeof value === "bigint") {
    return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  }
  if (value instanceof Date) return value.toISOString();
  if (Array.isArray(value)) return value.map(plainValue);
  if (ArrayBuffer.isView(value)) return Array.from(value as Uint8Array, plainValue);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, plainValue(part)]));
}

/** Reads the metadata at the file's end. */
async function readMetadata(file: AsyncBuffer): Promise<FileMetaData> {
  if (file.byteLength < 12) damaged(`it has only ${file.byteLength} bytes`);
  const end = new DataView(await file.slice(file.byteLength - 8, file.byteLength));
  const size = end.getUint32(0, true);
  if (end.getUint32(4, true) !== 0x31524150) throw new Error("it is not a Parquet file");
  if (size > Math.min(MAX_METADATA, file.byteLength - 12)) damaged(`metadata of ${size} bytes`);
  const metadata = await parquetMetadataAsync(file, { initialFetchSize: size + 8, geoparquet: false });
  if (metadata.schema.length > MAX_COLUMNS) damaged(`${metadata.schema.length} columns`);
  const rows = metadata.row_groups.reduce((sum, group) => sum + group.num_rows, 0n);
  if (rows !== metadata.num_rows) damaged(`${metadata.num_rows} rows, but ${rows} in its row groups`);
  return metadata;
}

/** Reads the rows of a Parquet file one after the other. */
export async function* parquetRows(path: string, name: string): AsyncGenerator<DataRow> {
  const file = openBuffer(path);
  let number = 0;
  const failing = <T>(error: unknown): T => {
    throw new Error(`Cannot read ${name}: ${(error as Error).message ?? error}.`, { cause: error });
  };
  try {
    const metadata = await readMetadata(file).catch<FileMetaData>(failing);
    let columns: string[];
    try {
      columns = parquetSchema(metadata).children.map(({ element }) => element.name);
    } catch (error) {
      return failing(error);
    }
    for (let group = 0; group < metadata.row_groups.length; group++) {
      const rows = await readGroup(file, metadata, group).catch<Record<string, unknown>[]>(failing);
      // What has been read is let go row by row: a group of rows is large.
      rows.reverse();
      for (let row = rows.pop(); row; row = rows.pop()) {
        const where = `${name} row ${++number}`;
        const values = row, missing = columns.find((column) => values[column] === undefined);
        if (missing !== undefined) {
          throw new Error(`Cannot read ${where}: it is damaged: the column "${missing}" ends early.`);
        }
        yield { columns: plainValue(row) as JsonObject, where };
      }
    }
  } finally {
    file.close();
  }
}
