import assert from "node:assert/strict";
import { rowDot, rowDotBackward } from "../../kernels/row_dot.ts";
import { OUTSIDE, run, unpadded } from "./launches.ts";
import { random, relativeError, stored, testOnProfiles } from "./helpers.ts";

testOnProfiles("a head with one output equals float64, forward and back", async (gpu) => {
  for (const [rows, cols] of [[1, 1], [9, 3], [70, 64], [33, 331], [2, 1000], [3, 1024]]) {
    const { floats } = random(rows + cols);
    const x = floats(rows * cols), w = floats(cols), dout = floats(rows), old = floats(rows * cols);
    const outside = { extraRows: 2, outside: OUTSIDE };
    const data = {
      x: stored(x, rows, cols, outside),
      w: stored(w, 1, cols),
      out: new Float32Array(rows + 4).fill(OUTSIDE),
      dout,
      dx: stored(old, rows, cols, outside),
      added: stored(old, rows, cols, outside),
    };
    const got = await run(gpu, data, ({ x, w, out, dout, dx, added }) => [
      rowDot(gpu.profile, { x, w, out }, { rows, cols }),
      rowDotBackward(gpu.profile, { dout, w, dx }, { rows, cols }, false),
      rowDotBackward(gpu.profile, { dout, w, dx: added }, { rows, cols }, true),
    ]);
    const name = `[${rows}, ${cols}]`;
    const want = Array.from(dout, (_, r) => w.reduce((sum, v, c) => sum + v * x[r * cols + c], 0));
    assert.ok(relativeError(got.out.subarray(0, rows), want) < 2e-6, name);
    assert.ok(got.out.subarray(rows).every((v) => v === OUTSIDE), name);
    const dx = Array.from(x, (_, i) => dout[Math.floor(i / cols)] * w[i % cols]);
    assert.ok(relativeError(unpadded(got.dx, rows, cols, name), dx) < 2e-7, name);
    const added = unpadded(got.added, rows, cols, name);
    assert.ok(relativeError(added, dx.map((v, i) => v + old[i])) < 2e-7, name);
  }
});
