import assert from "node:assert/strict";
import { dequantize, GGML_TYPES, type GgmlType, ggmlType, quantizeQ80 } from "../../src/model/ggml_types.ts";
import { randomStream } from "../../src/random/stream.ts";
import { goldenBytes, goldenFloats, goldens } from "./gguf_goldens.ts";

Deno.test("blocks of every type become the floats that Python's gguf makes of them, bit for bit", () => {
  const { dequantised } = goldens();
  assert.deepEqual(Object.keys(dequantised).sort(), Object.keys(GGML_TYPES).sort());
  for (const [type, { bytes, values }] of Object.entries(dequantised)) {
    const got = dequantize(type as GgmlType, goldenBytes(bytes));
    assert.deepEqual(new Uint32Array(got.buffer), new Uint32Array(goldenFloats(values).buffer), type);
  }
});

Deno.test("floats become the Q8_0 blocks that Python's gguf makes of them", () => {
  const { quantised } = goldens();
  assert.deepEqual(quantizeQ80(goldenFloats(quantised.values), "x"), goldenBytes(quantised.Q8_0));
});

Deno.test("Q8_0 is off by at most half a step and a rounding of the scale", () => {
  const rng = randomStream(3, "q8_0");
  const values = Float32Array.from({ length: 32 * 50 }, () => rng.normal() * 10 ** rng.integer(6));
  const again = dequantize("Q8_0", quantizeQ80(values, "x"));
  for (let block = 0; block < 50; block++) {
    const largest = values.subarray(32 * block, 32 * block + 32).reduce(
      (a, b) => Math.max(a, Math.abs(b)),
      0,
    );
    for (let i = 32 * block; i < 32 * block + 32; i++) {
      assert.ok(
        Math.abs(again[i] - values[i]) <= largest * (0.5 / 127 + 2 ** -10),
        `${values[i]} ${again[i]}`,
      );
    }
  }
});

Deno.test("what Q8_0 cannot hold is an error that names the tensor", () => {
  const values = new Float32Array(64);
  values[40] = NaN;
  values[41] = 1;
  assert.throws(() => quantizeQ80(values, "tensor"), /tensor holds NaN\. Expected finite numbers/);
  values[40] = -Infinity;
  assert.throws(() => quantizeQ80(values, "tensor"), /tensor holds Infinity/);
  values[40] = 1e8;
  assert.throws(() => quantizeQ80(values, "tensor"), /block of tensor holds 787401\.5.*at most 65504/);
  assert.throws(() => quantizeQ80(new Float32Array(31), "tensor"), /tensor has rows that do not fill blocks/);
});

Deno.test("a type that is not understood is named, with those that are", () => {
  assert.equal(ggmlType(12, "x"), "Q4_K");
  assert.throws(
    () => ggmlType(16, `Cannot read a.gguf: tensor "x"`),
    /^Error: Cannot read a\.gguf: tensor "x" has type IQ2_XXS\. Expected one of F32, F16, BF16, Q8_0, .*Q6_K\.$/,
  );
  assert.throws(() => ggmlType(99, "Tensor"), /Tensor has type number 99/);
  assert.throws(
    () => dequantize("Q4_0", new Uint8Array(19)),
    /Got 19 bytes of Q4_0\. Expected a multiple of 18/,
  );
});
