import assert from "node:assert/strict";
import { linePlot, ticks } from "../../src/run/svg.ts";

Deno.test("ticks are round, rising and within the range", () => {
  assert.deepEqual(ticks(0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]);
  assert.deepEqual(ticks(-0.31, 0.3), [-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3]);
  assert.deepEqual(ticks(3, 3010), [500, 1000, 1500, 2000, 2500, 3000]);
  for (let i = 0; i < 200; i++) {
    const low = (Math.random() - 0.5) * 10 ** (Math.random() * 12 - 6);
    const high = low + 10 ** (Math.random() * 12 - 6);
    const marks = ticks(low, high);
    assert.ok(marks.length >= 2 && marks.length <= 8, `${low} to ${high}: ${marks}`);
    const slack = (high - low) * 1e-6;
    marks.forEach((mark, at) => {
      assert.ok(mark >= low - slack && mark <= high + slack);
      if (at > 0) assert.ok(mark > marks[at - 1]);
    });
  }
});

const plot = (points: [number, number][], name = "loss") =>
  linePlot({ title: "t", xLabel: "step", yLabel: "y", series: [{ name, points }] });

Deno.test("no coordinate is ever NaN, whatever the points", () => {
  for (
    const points of [[], [[1, 1]], [[0, 0], [0, 0]], [[0, NaN], [1, NaN]], [[0, 1], [1, Infinity], [2, 3]]]
  ) {
    assert.doesNotMatch(plot(points as [number, number][]), /NaN|Infinity|undefined/);
  }
});

Deno.test("a value that is not finite interrupts the line", () => {
  const path = /<path class="line c0" d="(M[^"]*)"\/>(?!<\/svg>)/.exec(
    plot([[0, 1], [1, 2], [2, NaN], [3, 1], [4, 2]]),
  )![1];
  assert.equal(path.match(/M/g)!.length, 2);
  assert.equal(path.match(/L/g)!.length, 2);
});

Deno.test("long series are thinned and text is escaped", () => {
  const long = plot(Array.from({ length: 20000 }, (_, i) => [i, Math.sin(i)]), "<b>&");
  assert.ok(long.length < 20000);
  assert.match(long, /&lt;b&gt;&amp;/);
  assert.doesNotMatch(long, /<b>/);
});
