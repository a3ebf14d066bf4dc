import assert from "node:assert/strict";
import { braillePlot, shortNumber, sparkline } from "../../src/cli/plot.ts";

Deno.test("a sparkline rises with its values and is not wider than asked", () => {
  assert.equal(sparkline([0, 1, 2, 3, 4, 5, 6, 7]), "▁▂▃▄▅▆▇█");
  assert.equal(sparkline(Array.from({ length: 1000 }, (_, i) => -i), 8), "█▇▆▅▄▃▂▁");
  assert.equal(sparkline([1, NaN, 1]).length, 3);
  assert.equal(sparkline([]), "");
});

Deno.test("a braille plot has its size, its ranges, and dots where the line is", () => {
  const lines = braillePlot({ points: [[0, 0], [10, 1]], width: 20, height: 4 });
  assert.equal(lines.length, 6);
  assert.ok(lines[0].startsWith("1 │") && lines[3].startsWith("0 │"));
  assert.ok(lines[5].endsWith("10"));
  const cells = lines.slice(0, 4).map((line) => line.slice(3));
  assert.ok(cells.every((cell) => cell.length === 20));
  // The rising line begins at the lower left and ends at the upper right.
  assert.notEqual(cells[3][0], "⠀");
  assert.notEqual(cells[0][19], "⠀");
  assert.equal(cells[0][0], "⠀");
});

Deno.test("a plot of nothing or of one point does not fail", () => {
  assert.equal(braillePlot({ points: [] }).length, 10);
  assert.equal(braillePlot({ points: [[1, NaN], [2, 3]] }).length, 10);
});

Deno.test("numbers are short", () => {
  const shown = [0, 3, 0.12345, 12.345, 123.456, 1234.5, 2e-5, 1.5e7, NaN].map(shortNumber);
  assert.deepEqual(shown, ["0", "3", "0.123", "12.35", "123.5", "1235", "2.0e-5", "1.5e7", "NaN"]);
});
