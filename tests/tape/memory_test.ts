import assert from "node:assert/strict";
import { type Interval, packIntervals } from "../../src/tape/memory.ts";
import { random } from "../kernels/helpers.ts";

/** Packs and checks what must hold for every input. */
function pack(intervals: Interval[], alignment: number) {
  const { offsets, total } = packIntervals(intervals, alignment);
  assert.equal(offsets.length, intervals.length);
  intervals.forEach((a, i) => {
    assert.equal(offsets[i] % alignment, 0, "aligned");
    assert.ok(offsets[i] >= 0 && offsets[i] + a.size <= total, "inside the arena");
    intervals.forEach((b, j) => {
      if (i >= j || a.last < b.first || b.last < a.first) return;
      const apart = offsets[i] + a.size <= offsets[j] || offsets[j] + b.size <= offsets[i];
      assert.ok(apart, `${JSON.stringify([a, b])} overlap at ${offsets[i]} and ${offsets[j]}`);
    });
  });
  return total;
}

/** Bytes that are alive at the busiest launch: no packing can be smaller. */
function lowerBound(intervals: Interval[], alignment: number): number {
  const at = (time: number) =>
    intervals.reduce(
      (sum, { size, first, last }) =>
        first <= time && time <= last ? sum + Math.ceil(size / alignment) * alignment : sum,
      0,
    );
  return Math.max(0, ...intervals.map(({ first }) => at(first)));
}

Deno.test("tensors that live at the same time never overlap", () => {
  for (let seed = 0; seed < 300; seed++) {
    const { below } = random(seed);
    const alignment = [1, 4, 256][below(3)], length = 1 + below(60), time = 1 + below(40);
    const intervals = Array.from({ length }, () => {
      const first = below(time);
      return { size: 1 + below(2000), first, last: first + below(time - first) };
    });
    assert.ok(pack(intervals, alignment) >= lowerBound(intervals, alignment));
  }
});

Deno.test("a chain of equal tensors takes the space of those alive at once", () => {
  const chain = Array.from({ length: 50 }, (_, i) => ({ size: 1000, first: i, last: i + 1 }));
  assert.equal(pack(chain, 256), 2 * 1024);
});

Deno.test("the shape of a backward pass is packed within a tenth of the least possible", () => {
  const forward = Array.from({ length: 40 }, (_, i) => ({
    size: 1000 + 37 * (i % 5),
    first: i,
    last: 80 - i,
  }));
  const gradients = Array.from({ length: 40 }, (_, i) => ({ size: 1000, first: 40 + i, last: 41 + i }));
  const all = [...forward, ...gradients];
  assert.ok(pack(all, 256) <= 1.1 * lowerBound(all, 256));
});

Deno.test("no tensors need no memory", () => {
  assert.deepEqual(packIntervals([], 256), { offsets: [], total: 0 });
});
