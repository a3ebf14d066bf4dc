/**
 * Packing documents into rows of bounded length, with TRL's three strategies. A row fills the model's batch without padding;
 * attention never crosses its documents.
 *
 * @module
 */

/** How documents are packed; see {@linkcode pack}. */
export type PackingStrategy = "bfd" | "bfd_split" | "wrapped";

/** The tokens of a document from `begin` to before `end`. */
export interface Piece {
  /** Number of the document. */
  document: number;
  begin: number;
  end: number;
}

/** Rows of pieces, a few bytes for each piece. */
export interface Packing {
  /** Number of rows. */
  readonly length: number;
  /** The pieces of a row. */
  row(index: number): Piece[];
}

/** The pieces that are to be packed. */
interface Pieces {
  document: Uint32Array;
  begin: Uint32Array;
  end: Uint32Array;
}

/** Cuts documents: whole ones without what is over `capacity`, or all of it in parts of `capacity` tokens. Empty ones vanish. */
function cut(lengths: ArrayLike<number>, capacity: number, keepAll: boolean): Pieces {
  const parts = (length: number) => keepAll ? Math.ceil(length / capacity) : Math.min(length, 1);
  let count = 0;
  for (let i = 0; i < lengths.length; i++) count += parts(lengths[i]);
  const pieces = {
    document: new Uint32Array(count),
    begin: new Uint32Array(count),
    end: new Uint32Array(count),
  };
  for (let i = 0, at = 0; i < lengths.length; i++) {
    for (let part = 0; part < parts(lengths[i]); part++, at++) {
      pieces.document[at] = i;
      pieces.begin[at] = part * capacity;
      pieces.end[at] = Math.min(lengths[i], (part + 1) * capacity);
    }
  }
  return pieces;
}

/** Indices from the longest piece to the shortest, equal lengths in their order. */
function longestFirst({ begin, end }: Pieces, capacity: number): Uint32Array {
  const next = new Uint32Array(capacity + 2);
  for (let i = 0; i < end.length; i++) next[capacity - (end[i] - begin[i]) + 1]++;
  for (let room = 1; room < next.length; room++) next[room] += next[room - 1];
  const order = new Uint32Array(end.length);
  for (let i = 0; i < end.length; i++) order[next[capacity - (end[i] - begin[i])]++] = i;
  return order;
}

/** The row of each piece in best-fit decreasing order, and the number of rows. */
function bestFit(pieces: Pieces, order: Uint32Array, capacity: number): { rowOf: Uint32Array; rows: number } {
  const rowOf = new Uint32Array(order.length);
  // Rows with the same room wait in a queue: its first and its last row, and for each row the one behind it.
  const first = new Int32Array(capacity + 1).fill(-1), last = new Int32Array(capacity + 1);
  const behind = new Int32Array(order.length).fill(-1);
  let rows = 0;
  for (const piece of order) {
    const size = pieces.end[piece] - pieces.begin[piece];
    let room = size;
    while (room <= capacity && first[room] < 0) room++;
    let row: number;
    if (room > capacity) {
      row = rows++;
      room = capacity;
    } else {
      row = first[room];
      first[room] = behind[row];
    }
    rowOf[piece] = row;
    const left = room - size;
    behind[row] = -1;
    if (first[left] < 0) first[left] = row;
    else behind[last[left]] = row;
    last[left] = row;
  }
  return { rowOf, rows };
}

/** Rows in which the pieces of `order` stand one after the other. */
function inRows(pieces: Pieces, order: Uint32Array, rowOf: Uint32Array, rows: number): Packing {
  const starts = new Uint32Array(rows + 1);
  for (const row of rowOf) starts[row + 1]++;
  for (let row = 0; row < rows; row++) starts[row + 1] += starts[row];
  const next = starts.slice(), sorted = new Uint32Array(order.length);
  for (const piece of order) sorted[next[rowOf[piece]]++] = piece;
  return {
    length: rows,
    row: (index) =>
      Array.from(sorted.subarray(starts[index], starts[index + 1]), (piece) => ({
        document: pieces.document[piece],
        begin: pieces.begin[piece],
        end: pieces.end[piece],
      })),
  };
}

/** Documents one after the other, cut into rows of exactly `capacity` tokens but for the last. */
function wrap(lengths: ArrayLike<number>, capacity: number): Packing {
  const ends = new Float64Array(lengths.length); // tokens up to the end of each document
  let tokens = 0;
  for (let i = 0; i < lengths.length; i++) ends[i] = tokens += lengths[i];
  const firstEndingAfter = (token: number) => {
    let low = 0, high = ends.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (ends[middle] > token) high = middle;
      else low = middle + 1;
    }
    return low;
  };
  return {
    length: Math.ceil(tokens / capacity),
    row(index) {
      const from = index * capacity, to = Math.min(from + capacity, tokens);
      const pieces: Piece[] = [];
      for (let document = firstEndingAfter(from); document < ends.length; document++) {
        const start = ends[document] - lengths[document];
        if (start >= to) break;
        if (lengths[document] === 0) continue;
        pieces.push({
          document,
          begin: Math.max(0, from - start),
          end: Math.min(ends[document], to) - start,
        });
      }
      return pieces;
    },
  };
}

/**
 * Packs documents of the given lengths in tokens into rows of at most `capacity` tokens.
 *
 * `bfd`, best-fit decreasing: from the longest to the shortest (equal lengths in their order) each is put into the row with the
 * least room that still holds it (of several, the one that has had it longest), into a new one where none does; what is over
 * `capacity` is left out. `bfd_split`: likewise, but a longer document is first cut into parts of `capacity` tokens (arXiv
 * 2404.10830). `wrapped`: all documents in their order, cut wherever a row is full.
 *
 * @example
 * ```ts
 * import { pack } from "./packing.ts";
 * const rows = pack([3, 5, 2], 5, "bfd");
 * console.log(rows.length, rows.row(1)); // 2, documents 0 and 2
 * ```
 */
export function pack(lengths: ArrayLike<number>, capacity: number, strategy: PackingStrategy): Packing {
  if (strategy === "wrapped") return wrap(lengths, capacity);
  const pieces = cut(lengths, capacity, strategy === "bfd_split");
  const order = longestFirst(pieces, capacity);
  const { rowOf, rows } = bestFit(pieces, order, capacity);
  return inRows(pieces, order, rowOf, rows);
}
