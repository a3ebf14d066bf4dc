/** Running moments against the moments of everything at once. */
import assert from "node:assert/strict";
import {
  NOTHING_SEEN,
  type RunningMoments,
  runningStd,
  scaleScores,
  updateMoments,
} from "../../src/rl/running_moments.ts";
import { random } from "../kernels/helpers.ts";

const { float, below } = random(11);
const batches = Array.from(
  { length: 9 },
  (_, i) => Array.from({ length: i === 4 ? 0 : 1 + below(13) }, () => 5 + i + 3 * float()),
);

Deno.test("moments of batches are those of all numbers together", () => {
  let running: RunningMoments = NOTHING_SEEN;
  const all: number[] = [];
  for (const batch of batches) {
    running = updateMoments(running, batch);
    all.push(...batch);
    const mean = all.reduce((a, b) => a + b) / all.length;
    const squares = all.reduce((sum, x) => sum + (x - mean) ** 2, 0);
    assert.equal(running.count, all.length);
    assert.ok(Math.abs(running.mean - mean) < 1e-12);
    assert.ok(Math.abs(running.variance - squares / all.length) < 1e-11);
    if (all.length > 1) {
      assert.ok(Math.abs(runningStd(running) - Math.sqrt(squares / (all.length - 1))) < 1e-12);
    }
  }
});

Deno.test("scores are divided by the deviation, with or without their mean", () => {
  const moments = { mean: 2, variance: 9 * 3 / 4, count: 4 };
  const plain = scaleScores([2, 5, -1], moments, false), centred = scaleScores([2, 5, -1], moments, true);
  [2 / 3, 5 / 3, -1 / 3].forEach((x, i) => assert.ok(Math.abs(plain[i] - x) < 1e-8));
  [0, 1, -1].forEach((x, i) => assert.ok(Math.abs(centred[i] - x) < 1e-8));
});

Deno.test("a batch of equal scores does not become infinite", () => {
  const moments = updateMoments(NOTHING_SEEN, [3, 3, 3]);
  assert.deepEqual(scaleScores([3], moments, true), [0]);
  assert.ok(Number.isFinite(scaleScores([3], moments, false)[0]));
});

Deno.test("what was seen before is not changed", () => {
  const before = updateMoments(NOTHING_SEEN, [1, 2]), copy = { ...before };
  updateMoments(before, [7, 8, 9]);
  assert.deepEqual(before, copy);
  assert.deepEqual(NOTHING_SEEN, { mean: 0, variance: 1, count: 0 });
});
