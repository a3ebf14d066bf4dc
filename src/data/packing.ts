/**
 * Packing documents into rows of bounded length: best fit, longest first ("best-fit decreasing").
 *
 * A row fills the model's batch without padding; attention never crosses its documents.
 *
 * @module
 */

/**
 * Indices of the documents of each row. Documents are taken from the longest to the shortest (equal lengths in their order)
 * and put into the row with the least room that still holds them (of several, the one that has had it longest), a new one where
 * none does.
 *
 * @param lengths tokens of each document; those over `capacity` are counted as `capacity`
 *
 * @example
 * ```ts
 * import { packBestFit } from "./packing.ts";
 * console.log(packBestFit([3, 5, 2], 5)); // [[1], [0, 2]]
 * ```
 */
export function packBestFit(lengths: number[], capacity: number): number[][] {
  const size = (i: number) => Math.min(lengths[i], capacity);
  const order = lengths.map((_, i) => i).sort((a, b) => size(b) - size(a) || a - b);
  const rows: number[][] = [];
  const byRoom: number[][] = Array.from({ length: capacity + 1 }, () => []); // rows with that much room
  for (const i of order) {
    let room = size(i);
    while (room <= capacity && byRoom[room].length === 0) room++;
    let row: number;
    if (room > capacity) {
      row = rows.length;
      rows.push([]);
      room = capacity;
    } else row = byRoom[room].shift()!;
    rows[row].push(i);
    byRoom[room - size(i)].push(row);
  }
  return rows;
}
