/**
 * Packing activations: each tensor lives from its first to its last launch, and tensors that never live together share
 * memory ("greedy by size", arXiv 2001.03288).
 *
 * @module
 */

/** A block of memory that is needed from launch `first` to launch `last`, both included. */
export interface Interval {
  size: number;
  first: number;
  last: number;
}

/** Offsets of the intervals, in the same order, and the size of the arena that holds them. */
export function packIntervals(
  intervals: Interval[],
  alignment: number,
): { offsets: number[]; total: number } {
  const offsets = new Array<number>(intervals.length).fill(0);
  const placed: { first: number; last: number; start: number; end: number }[] = []; // by start
  let total = 0;
  const bySize = intervals.map((_, i) => i).sort((a, b) => intervals[b].size - intervals[a].size || a - b);
  for (const i of bySize) {
    const { first, last } = intervals[i];
    const size = Math.ceil(intervals[i].size / alignment) * alignment;
    let start = 0, best = -1, bestGap = Infinity;
    for (const other of placed) {
      if (other.last < first || other.first > last) continue;
      const gap = other.start - start;
      if (gap >= size && gap < bestGap) {
        best = start;
        bestGap = gap;
      }
      start = Math.max(start, other.end);
    }
    const offset = best >= 0 ? best : start;
    offsets[i] = offset;
    total = Math.max(total, offset + size);
    const entry = { first, last, start: offset, end: offset + size };
    const at = placed.findIndex((p) => p.start > offset);
    if (at < 0) placed.push(entry);
    else placed.splice(at, 0, entry);
  }
  return { offsets, total };
}
