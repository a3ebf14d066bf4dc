/**
 * The order in which rows are used, and batches of documents packed into one flat sequence of tokens.
 *
 * @module
 */

import { randomStream } from "../random/stream.ts";

/** Documents begin at multiples of this many tokens, so that kernels that work on tiles of tokens see few boundaries. */
export const DOCUMENT_ALIGNMENT = 8;

/** The order of rows in an epoch (from 0): a permutation fixed by seed and epoch, or the file's order. */
export function epochOrder(
  seed: number,
  epoch: number,
  rows: number,
  shuffle: boolean,
): Uint32Array<ArrayBuffer> {
  if (shuffle) return randomStream(seed, "epoch order", epoch).shuffle(rows);
  return Uint32Array.from({ length: rows }, (_, index) => index);
}

/** The order that was used last: large datasets are shuffled once per epoch, not once per batch. */
let lastOrder: { key: string; order: Uint32Array<ArrayBuffer> } | undefined;

function orderOf({ seed, rows, shuffle }: DataWalk, epoch: number): Uint32Array<ArrayBuffer> {
  const key = [seed, epoch, rows, shuffle].join();
  if (lastOrder?.key !== key) lastOrder = { key, order: epochOrder(seed, epoch, rows, shuffle) };
  return lastOrder.order;
}

/** Rows that are read by number: an array, or a dataset that makes each row when it is asked for. */
export interface Rows<T> {
  /** Number of rows. */
  readonly length: number;
  /** The row; defined from 0 to length − 1. */
  at(row: number): T | undefined;
}

/** Some rows in a row, at most up to the last. */
export function rowsBetween<T>(rows: Rows<T>, from: number, to: number): T[] {
  const end = Math.min(to, rows.length);
  return Array.from({ length: Math.max(0, end - from) }, (_, i) => rows.at(from + i)!);
}

/** Where reading a dataset stands: plain JSON, for checkpoints. */
export interface DataCursor {
  /** Passes that are finished. */
  epoch: number;
  /** Rows of the present pass that are used. */
  row: number;
}

/** The beginning of a dataset. */
export const FIRST_ROW: Readonly<DataCursor> = { epoch: 0, row: 0 };

/** How a dataset is walked through. */
export interface DataWalk {
  seed: number;
  rows: number;
  batchSize: number;
  shuffle: boolean;
}

/** The rows of the batch at the cursor and the cursor after it. The last batch of an epoch may be smaller, as in PyTorch. */
export function takeBatch(cursor: DataCursor, walk: DataWalk): { rows: Uint32Array; next: DataCursor } {
  const { batchSize } = walk;
  if (walk.rows < 1) throw new Error("The dataset has no rows.");
  if (cursor.row >= walk.rows) {
    throw new Error(
      `The data cursor is at row ${cursor.row}, but the dataset has ${walk.rows}. It belongs to another dataset.`,
    );
  }
  const end = Math.min(cursor.row + batchSize, walk.rows);
  const rows = orderOf(walk, cursor.epoch).slice(cursor.row, end);
  return { rows, next: end < walk.rows ? { ...cursor, row: end } : { epoch: cursor.epoch + 1, row: 0 } };
}

/** Whole batches: where an epoch ends within one, the next begins in it. */
export function takeWholeBatch<T>(
  cursor: DataCursor,
  rows: Rows<T>,
  { seed, batchSize, shuffle }: Omit<DataWalk, "rows">,
): { batch: T[]; next: DataCursor } {
  const batch: T[] = [];
  let next = cursor;
  while (batch.length < batchSize) {
    const walk = {
      seed,
      shuffle,
      rows: rows.length,
      batchSize: Math.min(batchSize - batch.length, rows.length),
    };
    const taken = takeBatch(next, walk);
    batch.push(...Array.from(taken.rows, (row) => rows.at(row)!));
    next = taken.next;
  }
  return { batch, next };
}

/** Rounds a number of tokens up so that few shapes exist: multiples of 64 up to 1024, then multiples of 256. */
export function bucket(tokens: number): number {
  const step = tokens <= 1024 ? 64 : 256;
  return Math.max(step, Math.ceil(tokens / step) * step);
}

/** Documents as one flat sequence of `tokens` tokens; arrays of that length unless said otherwise. */
export interface PackedBatch {
  tokens: number;
  ids: Uint32Array<ArrayBuffer>;
  /** Place within the document, from 0. */
  positions: Uint32Array<ArrayBuffer>;
  /** Flat index of the first token that this token may attend to. Does not decrease. */
  starts: Uint32Array<ArrayBuffer>;
  /** Flat index after the last token that may attend to this token. Does not decrease. */
  ends: Uint32Array<ArrayBuffer>;
  /** Flat indices sorted by id, equal ids by index: the embedding's gradient is summed in this order. */
  order: Uint32Array<ArrayBuffer>;
  /** Likewise by position, for an embedding of positions. */
  positionOrder: Uint32Array<ArrayBuffer>;
  /** Flat index of each document's first token. `[documents]` */
  first: Uint32Array<ArrayBuffer>;
  /** Tokens of each document. `[documents]` */
  lengths: Uint32Array<ArrayBuffer>;
}

/** Indices sorted by id, stably: one exact float64 key holds both. */
function sortById(ids: Uint32Array): Uint32Array<ArrayBuffer> {
  const keys = Float64Array.from(ids, (id, index) => id * ids.length + index).sort();
  return Uint32Array.from(keys, (key) => key % ids.length);
}

/**
 * Packs documents one after the other, each from a multiple of {@linkcode DOCUMENT_ALIGNMENT} on, and rounds the length up
 * with `round`. Tokens that fill gaps have id 0, position 0 and attend to themselves only.
 */
export function packBatch(documents: number[][], round: (tokens: number) => number = bucket): PackedBatch {
  const first = new Uint32Array(documents.length);
  let used = 0;
  for (const [index, document] of documents.entries()) {
    if (document.length === 0) throw new Error(`Document ${index} of the batch has no tokens.`);
    first[index] = used;
    used += Math.ceil(document.length / DOCUMENT_ALIGNMENT) * DOCUMENT_ALIGNMENT;
  }
  const tokens = round(used);
  const ids = new Uint32Array(tokens), positions = new Uint32Array(tokens);
  const starts = Uint32Array.from({ length: tokens }, (_, index) => index);
  const ends = Uint32Array.from({ length: tokens }, (_, index) => index + 1);
  for (const [index, document] of documents.entries()) {
    const begin = first[index], end = begin + document.length;
    ids.set(document, begin);
    starts.fill(begin, begin, end);
    ends.fill(end, begin, end);
    for (let at = begin; at < end; at++) positions[at] = at - begin;
  }
  const lengths = Uint32Array.from(documents, (document) => document.length);
  const order = sortById(ids), positionOrder = sortById(positions);
  return { tokens, ids, positions, starts, ends, order, positionOrder, first, lengths };
}
