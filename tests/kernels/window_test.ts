import assert from "node:assert/strict";
import { narrow } from "../../kernels/window.ts";
import { OUTSIDE, run, words } from "./launches.ts";
import { testOnProfiles } from "./helpers.ts";

testOnProfiles("a window narrows what is seen, from both sides alike", async (gpu) => {
  const lengths = [1, 13, 8, 30, 2];
  for (const window of [1, 2, 7, 8, 29, 30, 2 ** 24]) {
    const starts: number[] = [], ends: number[] = [];
    for (const length of lengths) {
      const first = starts.length;
      for (let i = 0; i < length; i++) {
        starts.push(first);
        ends.push(first + length);
      }
      // Filler up to the next multiple of eight sees itself.
      while (starts.length % 8) {
        starts.push(starts.length);
        ends.push(ends.length + 1);
      }
    }
    const tokens = starts.length;
    const data = {
      starts: Uint32Array.from([...starts, OUTSIDE]),
      ends: Uint32Array.from([...ends, OUTSIDE]),
      narrowStarts: new Uint32Array(tokens + 1).fill(OUTSIDE),
      narrowEnds: new Uint32Array(tokens + 1).fill(OUTSIDE),
    };
    const got = await run(gpu, data, (buffers) => [narrow(gpu.profile, buffers, { tokens, window })]);
    const from = [...words(got.narrowStarts)], to = [...words(got.narrowEnds)];
    assert.deepEqual([from.pop(), to.pop()], [OUTSIDE, OUTSIDE]);
    const sees = (i: number, j: number) => starts[i] <= j && j <= i && i - j < window;
    for (let i = 0; i < tokens; i++) {
      const keys = Array.from({ length: tokens }, (_, j) => j).filter((j) => sees(i, j));
      const queries = Array.from({ length: tokens }, (_, q) => q).filter((q) => sees(q, i));
      assert.equal(from[i], keys[0], `window ${window}: first key of ${i}`);
      assert.equal(to[i], queries.at(-1)! + 1, `window ${window}: end of the queries of ${i}`);
      if (i > 0) assert.ok(from[i] >= from[i - 1] && to[i] >= to[i - 1]);
    }
    if (window >= 30) assert.deepEqual([from, to], [starts, ends]);
  }
});
