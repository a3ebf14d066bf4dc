import assert from "node:assert/strict";
import { fitRopeFactors, type Llama3Rope, ropeFactors } from "../../src/model/gguf_rope.ts";

const rope = (factor: number, low: number, high: number, context: number): Llama3Rope => ({
  factor,
  low_freq_factor: low,
  high_freq_factor: high,
  original_max_position_embeddings: context,
});

Deno.test("a reader finds parameters that give the stored factors, or says that there are none", () => {
  for (
    const [parameters, theta, headDim, context] of [
      [rope(8, 1, 4, 8192), 5e5, 128, undefined],
      [rope(32, 1, 4, 8192), 5e5, 64, undefined],
      [rope(8, 1, 4, 32), 5e5, 12, 32],
      [rope(8, 1, 4, 32), 5e5, 128, undefined],
      [rope(4, 1, 6.5, 4096), 1e4, 32, undefined],
    ] as [Llama3Rope, number, number, number | undefined][]
  ) {
    const factors = ropeFactors(theta, headDim, parameters);
    assert.deepEqual(fitRopeFactors(factors, theta, headDim, context), parameters);
    factors[headDim / 4] *= 1.01;
    assert.equal(fitRopeFactors(factors, theta, headDim, context), undefined);
  }
  // Only the quotients matter: 2, 8 and 4096 are 1, 4 and 2048.
  const doubled = ropeFactors(1e4, 32, rope(4, 2, 8, 4096));
  assert.deepEqual(fitRopeFactors(doubled, 1e4, 32), rope(4, 1, 4, 2048));
  assert.equal(fitRopeFactors(doubled.subarray(1), 1e4, 32), undefined);
  assert.equal(fitRopeFactors(doubled.map(() => NaN), 1e4, 32), undefined);
  assert.equal(fitRopeFactors(new Float32Array(16).fill(1), 1e4, 32)!.factor, 1);
});

Deno.test("factors are transformers' unscaled frequencies over its scaled ones", () => {
  for (
    const [parameters, theta, headDim, ones, between, full] of [
      [rope(8, 1, 4, 8192), 5e5, 128, 29, [1.207484, 1.553415, 2.026313, 2.69453, 3.684253, 5.257327], 29],
      [rope(32, 1, 4, 8192), 5e5, 64, 15, [1.651329, 3.292263, 9.66673], 14],
      [rope(4, 2, 8, 4096), 1e4, 32, 8, [1.227185, 2.182277, 3.880698], 5],
    ] as [Llama3Rope, number, number, number, number[], number][]
  ) {
    const factors = ropeFactors(theta, headDim, parameters);
    const expected = [...Array(ones).fill(1), ...between, ...Array(full).fill(parameters.factor)];
    assert.equal(factors.length, expected.length);
    for (const [i, factor] of factors.entries()) assert.ok(Math.abs(factor / expected[i] - 1) < 2e-6);
  }
});
