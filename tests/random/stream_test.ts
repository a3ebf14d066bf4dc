import assert from "node:assert/strict";
import { philox, randomStream } from "../../src/random/stream.ts";

Deno.test("philox gives the published known answers", () => {
  // Random123, kat_vectors, philox4x32 10.
  assert.deepEqual(philox([0, 0], [0, 0, 0, 0]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
  const ones = 0xffffffff;
  assert.deepEqual(philox([ones, ones], [ones, ones, ones, ones]), [
    0x408f276d,
    0x41c83b0e,
    0xa20bc7c6,
    0x6d5451fd,
  ]);
  assert.deepEqual(
    philox([0xa4093822, 0x299f31d0], [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344]),
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  );
});

Deno.test("a stream continues from a saved position to the same numbers", () => {
  const stream = randomStream(5, "rollout", 3);
  for (let i = 0; i < 7; i++) stream.uniform();
  stream.integer(1000);
  stream.normal();
  const saved = stream.position;
  const draw = (from: typeof stream) => [from.uniform(), from.normal(), from.integer(77), ...from.shuffle(9)];
  const expected = draw(stream);
  const again = randomStream(5, "rollout", 3);
  again.position = saved;
  assert.deepEqual(draw(again), expected);
  stream.position = saved;
  assert.deepEqual(draw(stream), expected);
});

Deno.test("streams differ by seed and by every part of the path", () => {
  const first = (...path: (number | string)[]) => randomStream(path[0] as number, ...path.slice(1)).uniform();
  const values = [
    first(1),
    first(2),
    first(1 + 2 ** 32),
    first(1, "a"),
    first(1, "b"),
    first(1, "a", 0),
    first(1, "a", 1),
    first(1, 1),
    first(1, "1"),
    first(1, "ab", "c"),
    first(1, "a", "bc"),
  ];
  assert.equal(new Set(values).size, values.length);
});

Deno.test("uniform numbers fill [0, 1) evenly", () => {
  const stream = randomStream(11, "uniform");
  const n = 40000, cells = new Array(16).fill(0);
  let sum = 0;
  for (let i = 0; i < n; i++) {
    const value = stream.uniform();
    assert.ok(value >= 0 && value < 1);
    sum += value;
    cells[Math.floor(value * 16)]++;
  }
  assert.ok(Math.abs(sum / n - 0.5) < 5 / Math.sqrt(12 * n));
  const chiSquare = cells.reduce((total, count) => total + (count - n / 16) ** 2 / (n / 16), 0);
  assert.ok(chiSquare < 40, `chi-square ${chiSquare} with 15 degrees of freedom`);
});

Deno.test("normal numbers have mean 0, variance 1 and the right tails", () => {
  const stream = randomStream(12, "normal");
  const values = Float64Array.from({ length: 40000 }, () => stream.normal());
  const mean = values.reduce((a, b) => a + b) / values.length;
  const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / values.length;
  const beyondTwo = values.filter((value) => Math.abs(value) > 2).length / values.length;
  assert.ok(Math.abs(mean) < 0.025);
  assert.ok(Math.abs(variance - 1) < 0.04);
  assert.ok(Math.abs(beyondTwo - 0.0455) < 0.006);
});

Deno.test("integers are even over a range that does not divide 2^32", () => {
  const stream = randomStream(13, "integer");
  const counts = new Array(7).fill(0);
  for (let i = 0; i < 35000; i++) counts[stream.integer(7)]++;
  for (const count of counts) assert.ok(Math.abs(count - 5000) < 400, String(counts));
  assert.equal(stream.integer(1), 0);
  assert.throws(() => stream.integer(0), /Expected a whole number from 1/);
});

Deno.test("weighted choices follow their weights and never take a weight of zero", () => {
  const stream = randomStream(14, "weighted");
  const counts: Record<string, number> = { a: 0, b: 0, c: 0, d: 0 };
  for (let i = 0; i < 20000; i++) counts[stream.weighted(["a", "b", "c", "d"], [1, 0, 3, 0])]++;
  assert.equal(counts.b + counts.d, 0);
  assert.ok(Math.abs(counts.a / 20000 - 0.25) < 0.02);
});

Deno.test("shuffle is a permutation, and every place gets every item equally often", () => {
  const stream = randomStream(15, "shuffle");
  const counts = Array.from({ length: 5 }, () => new Array(5).fill(0));
  for (let i = 0; i < 10000; i++) {
    const order = stream.shuffle(5);
    assert.deepEqual([...order].sort(), [0, 1, 2, 3, 4]);
    order.forEach((item, place) => counts[place][item]++);
  }
  for (const count of counts.flat()) assert.ok(Math.abs(count - 2000) < 250, String(counts));
  assert.deepEqual([...stream.shuffle(0)], []);
});

Deno.test("a seed that is not a whole number is refused", () => {
  for (const seed of [-1, 0.5, NaN, 2 ** 53]) assert.throws(() => randomStream(seed), /Expected an integer/);
});
