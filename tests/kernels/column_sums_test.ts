import assert from "node:assert/strict";
import { type ColumnSum, columnSumPartials, columnSums } from "../../kernels/column_sums.ts";
import { padded } from "../../kernels/kernel.ts";
import { OUTSIDE, run, unpadded } from "./launches.ts";
import { random, relativeError, stored, testOnProfiles } from "./helpers.ts";

testOnProfiles("column sums add what their table says to what was there", async (gpu) => {
  for (const kind of ["plain", "rows", "product", "rms", "layer"] as ColumnSum[]) {
    for (
      const [rows, cols] of [[1, 1], [5, 3], [32, 8], [33, 115], [200, 64], [97, 261], [2500, 12], [40, 1024]]
    ) {
      const { floats } = random(rows + cols);
      const x = floats(rows * cols), dy = floats(rows * cols), s = floats(2 * rows), old = floats(cols);
      const matrix = (values: Float32Array) => stored(values, rows, cols, { extraRows: 40 });
      const data = {
        x: matrix(x),
        dy: matrix(dy),
        s: new Float32Array([...s, NaN, NaN]),
        partials: new Float32Array(columnSumPartials(rows, cols)).fill(NaN),
        out: stored(old, 1, cols, { extraRows: 1, outside: OUTSIDE }),
      };
      const got = await run(gpu, data, (b) => columnSums(gpu.profile, kind, b, { rows, cols }));
      const want = Array.from(old, (sum, c) => {
        for (let r = 0; r < rows; r++) {
          const v = x[r * cols + c], g = dy[r * cols + c];
          if (kind === "plain") sum += v;
          else if (kind === "rows") sum += s[r] * v;
          else if (kind === "product") sum += v * g;
          else if (kind === "rms") sum += v * s[r] * g;
          else sum += (v - s[rows + r]) * s[r] * g;
        }
        return sum;
      });
      const error = relativeError(unpadded(got.out, 1, cols, kind), want);
      assert.ok(error < 2e-6, `${kind} [${rows}, ${cols}] has a relative error of ${error}`);
      assert.equal(got.partials.length % padded(cols), 0);
    }
  }
});

Deno.test("a column sum over too many rows is refused", () => {
  const buffers = { x: 0, partials: 0, out: 0 };
  assert.throws(
    () => columnSums({ kind: "cpu", lanes: 8 }, "plain", buffers, { rows: 70_000_000, cols: 4 }),
    /at most 67107840 rows/,
  );
});
