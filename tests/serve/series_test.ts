import assert from "node:assert/strict";
import { join } from "node:path";
import { csv, MOST_POINTS, type Point, readSeries } from "../../serve/series.ts";
import { openReader } from "../../src/run/reader.ts";
import { openStore } from "../../src/run/store.ts";
import { withDirectory } from "../assets.ts";

const ALL = {
  stages: ["sft", "ppo"],
  names: [] as string[],
  from: 0,
  to: Number.MAX_SAFE_INTEGER,
  maxPoints: 5000,
};

/** A database with metrics, made by `fill`. */
async function withMetrics(
  fill: (log: (stage: string, step: number, metrics: Record<string, number>) => void) => void,
  use: (read: (query: Partial<typeof ALL>) => ReturnType<typeof readSeries>) => Promise<void>,
): Promise<void> {
  await withDirectory(async (directory) => {
    const path = join(directory, "run.db"), store = openStore(path), reader = openReader(path);
    try {
      fill(store.appendMetrics);
      await use((query) => readSeries(reader, { ...ALL, ...query }));
    } finally {
      reader.close();
      store.close();
    }
  });
}

Deno.test("a series is thinned out to mean, smallest and largest value of neighbouring steps", async () => {
  const value = (step: number) => Math.sin(step) * step;
  await withMetrics((log) => {
    for (let step = 0; step <= 103; step++) log("ppo", step, { "a/b": value(step), other: step });
    log("sft", 7, { other: -1 });
  }, async (read) => {
    for (
      const [from, to, maxPoints] of [[0, 103, 5000], [0, 1e9, 10], [5, 99, 7], [103, 103, 1], [50, 60, 3]]
    ) {
      const { points } = await read({ names: ["a/b"], from, to, maxPoints });
      const steps = Array.from({ length: 104 }, (_, i) => i).filter((step) => step >= from && step <= to);
      const width = Math.ceil(steps.length / maxPoints);
      const expected = Array.from({ length: Math.ceil(steps.length / width) }, (_, i) => {
        const values = steps.slice(i * width, (i + 1) * width).map(value);
        return [steps[i * width], values.length, Math.min(...values), Math.max(...values)];
      });
      assert.deepEqual(points.map(({ step, count, min, max }) => [step, count, min, max]), expected);
      assert.ok(points.length <= maxPoints);
      points.forEach(({ step, value: mean, count }) => {
        const sum = Array.from({ length: count }, (_, i) => value(step + i)).reduce((a, b) => a + b);
        assert.ok(Math.abs(Number(mean) - sum / count) < 1e-12);
      });
    }
    assert.deepEqual((await read({ stages: ["sft"] })).points.map(({ time: _, ...point }) => point), [
      { stage: "sft", name: "other", step: 7, value: -1, min: -1, max: -1, count: 1 },
    ]);
    const named =
      (await read({ names: ["other", "a/b", "other", "none"], from: 6, to: 7, maxPoints: 1 })).points;
    assert.deepEqual(named.map(({ stage, name }) => [stage, name]), [["ppo", "a/b"], ["ppo", "other"], [
      "sft",
      "other",
    ]]);
    assert.deepEqual((await read({ names: ["none"] })).points, []);
    assert.deepEqual((await read({ from: 104 })).points, []);
  });
});

Deno.test("numbers that JSON does not know have names, and commas do not break a table", async () => {
  await withMetrics((log) => {
    [NaN, Infinity, -Infinity, -0.5].forEach((x, step) => log("sft", step, { 'odd,"name"': x }));
  }, async (read) => {
    const { points } = await read({});
    assert.deepEqual(points.map(({ value }) => value), ["NaN", "Infinity", "-Infinity", -0.5]);
    assert.match(csv(points).split("\n")[1], /^sft,"odd,""name""",0,\d{10}[.\d]*,NaN,NaN,NaN,1$/);
    assert.deepEqual((await read({ maxPoints: 1 })).points.map(({ count, min, max }) => [count, min, max]), [
      [4, "-Infinity", "Infinity"],
    ]);
  });
});

Deno.test("long runs are read in parts that fit together, and there is a most that is ever given", async () => {
  await withMetrics((log) => {
    const metrics = Object.fromEntries(Array.from({ length: 5 }, (_, i) => [`m${i}`, i]));
    for (let step = 1; step <= 4500; step++) log("ppo", step * 10, metrics);
  }, async (read) => {
    const whole = await read({ names: ["m3"], maxPoints: 777 });
    const steps = whole.points.reduce((sum: number, { count }: Point) => sum + count, 0);
    assert.deepEqual([steps, whole.truncated], [4500, false]);
    assert.ok(whole.points.length <= 777);
    const all = await read({});
    assert.deepEqual([all.points.length, all.truncated], [MOST_POINTS, true]);
  });
});
