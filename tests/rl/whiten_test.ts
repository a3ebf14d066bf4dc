/** Whitening against TRL's masked functions and against the definition. */
import assert from "node:assert/strict";
import { moments, whiten } from "../../src/rl/whiten.ts";
import { random } from "../kernels/helpers.ts";
import { tensors } from "./ppo_functions.ts";

const mask = tensors.readIntegers("in/stat_mask");
const masked = (name: string) => tensors.read(name).filter((_, i) => mask[i] === 1);

Deno.test("mean, variance and whitened values are TRL's over the elements of a mask", () => {
  const values = masked("in/stat_values");
  assert.ok(values.length > 10 && values.length < mask.length);
  const close = (got: number, want: number) => assert.ok(Math.abs(got - want) < 1e-5, `${got}, not ${want}`);
  close(moments(values).mean, tensors.read("masked_mean_all")[0]);
  close(moments(values, true).variance, tensors.read("masked_var_unbiased")[0]);
  close(moments(values, false).variance, tensors.read("masked_var_biased")[0]);
  const plain = masked("masked_whiten"), kept = masked("masked_whiten_keep_mean");
  whiten(values).forEach((x, i) => close(x, plain[i]));
  whiten(values, { keepMean: true }).forEach((x, i) => close(x, kept[i]));
});

Deno.test("whitened values have mean 0 and variance 1, by n − 1 or by n, or keep their mean", () => {
  const { float } = random(2);
  const values = Array.from({ length: 101 }, () => 3 + 7 * float());
  const stats = (x: ArrayLike<number>, divisor: number) => {
    const all = Array.from(x), mean = all.reduce((a, b) => a + b) / all.length;
    return { mean, variance: all.reduce((sum, v) => sum + (v - mean) ** 2, 0) / divisor };
  };
  for (const unbiased of [true, false]) {
    const divisor = unbiased ? 100 : 101;
    const { mean, variance } = stats(whiten(values, { unbiased }), divisor);
    assert.ok(Math.abs(mean) < 1e-12 && Math.abs(variance - 1) < 1e-8);
    const kept = stats(whiten(values, { unbiased, keepMean: true }), divisor);
    assert.ok(Math.abs(kept.mean - stats(values, 1).mean) < 1e-12 && Math.abs(kept.variance - 1) < 1e-8);
  }
});

Deno.test("equal values, and a single one, become 0 and nothing infinite", () => {
  for (const values of [[4, 4, 4], [4]]) {
    assert.deepEqual([...whiten(values)], values.map(() => 0));
    assert.deepEqual([...whiten(values, { keepMean: true })], values);
  }
});
