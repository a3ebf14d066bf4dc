import assert from "node:assert/strict";
import { padded } from "../../kernels/kernel.ts";
import { rope } from "../../kernels/rope.ts";
import { OUTSIDE, run } from "./launches.ts";
import { random, relativeError, testOnProfiles } from "./helpers.ts";

testOnProfiles("queries and keys turn by their position's angle, and back", async (gpu) => {
  for (
    const [headDim, tokens, heads, others, rotaryDims = headDim] of [
      [2, 3, 1, 1],
      [8, 5, 3, 1],
      [10, 7, 2, 2],
      [12, 9, 5, 0],
      [64, 17, 2, 1],
      // A part of the columns: 2 in GPT-NeoX's smallest, and halves of whole vec4s and of broken ones.
      [8, 5, 3, 1, 2],
      [10, 7, 2, 2, 6],
      [16, 9, 3, 1, 4],
      [80, 6, 2, 2, 32],
      [20, 6, 2, 2, 16],
    ]
  ) {
    const { floats, below } = random(headDim * tokens + rotaryDims);
    const half = rotaryDims / 2, stride = padded(headDim), ld = (heads + others) * stride, most = 40;
    const angles = Float64Array.from({ length: most * half }, (_, i) => {
      return Math.floor(i / half) * 100 ** (-(i % half) / half);
    });
    const positions = Uint32Array.from({ length: tokens }, () => below(most));
    const x = new Float32Array((tokens + 1) * ld).fill(OUTSIDE);
    for (let t = 0; t < tokens; t++) {
      for (let c = 0; c < ld; c++) x[t * ld + c] = c % stride < headDim ? floats(1)[0] : 0;
    }
    const shape = { tokens, ld, heads, rotaryDims, headStride: stride };
    const data = {
      x,
      back: x,
      positions,
      cos: Float32Array.from(angles, Math.cos),
      sin: Float32Array.from(angles, Math.sin),
    };
    const got = await run(gpu, data, ({ x, back, ...rest }) => [
      rope(gpu.profile, { x, ...rest }, shape, false),
      rope(gpu.profile, { x: back, ...rest }, shape, true),
    ]);
    for (const [turned, sign] of [[got.x, 1], [got.back, -1]] as const) {
      const want = Float64Array.from(x);
      for (let t = 0; t < tokens; t++) {
        for (let h = 0; h < heads; h++) {
          for (let d = 0; d < half; d++) {
            const low = t * ld + h * stride + d, high = low + half;
            const angle = sign * angles[positions[t] * half + d];
            want[low] = x[low] * Math.cos(angle) - x[high] * Math.sin(angle);
            want[high] = x[low] * Math.sin(angle) + x[high] * Math.cos(angle);
          }
        }
      }
      const error = relativeError(turned, want);
      assert.ok(
        error < 3e-7,
        `headDim ${headDim}, ${rotaryDims} turned, sign ${sign}: relative error ${error}`,
      );
      // Columns that are not turned, values, padding and what follows the last token keep their bits.
      for (let i = 0; i < x.length; i++) {
        const column = i % ld;
        const rotates = i < tokens * ld && column < heads * stride && column % stride < rotaryDims;
        if (!rotates) assert.equal(turned[i], x[i], `headDim ${headDim} changed element ${i}`);
      }
    }
  }
});

Deno.test("a head of odd size is refused", () => {
  const buffers = { x: 0, positions: 0, cos: 0, sin: 0 };
  const shape = { tokens: 1, ld: 8, heads: 1, rotaryDims: 7, headStride: 8 };
  assert.throws(
    () => rope({ kind: "cpu", lanes: 8 }, buffers, shape, false),
    /even number of columns; got 7/,
  );
});
