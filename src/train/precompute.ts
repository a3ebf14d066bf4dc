/**
 * Numbers of a reference that are computed once for a whole dataset.
 *
 * @module
 */
import type { StageRun } from "../run/run.ts";
import { breathe } from "./events.ts";

/** Two numbers of each row of a dataset. */
export type RowNumbers = (row: number) => readonly [number, number];

/**
 * Asks `scoreOf` for two numbers of each of `count` rows, `batchSize` rows at a time, and keeps them. Undefined where the run
 * is interrupted before the end.
 */
export async function precomputeRows(
  run: StageRun,
  count: number,
  batchSize: number,
  scoreOf: (rows: number[]) => Promise<(readonly [number, number])[]>,
  say: (line: string) => void,
): Promise<RowNumbers | undefined> {
  const numbers = new Float64Array(2 * count);
  let told = 0;
  for (let at = 0; at < count; at += batchSize) {
    const rows = Array.from({ length: Math.min(batchSize, count - at) }, (_, i) => at + i);
    const scores = await scoreOf(rows);
    scores.forEach((pair, i) => numbers.set(pair, 2 * (at + i)));
    const tenth = Math.floor(10 * (at + rows.length) / count);
    if (tenth > told) say(`reference: ${at + rows.length} of ${count} rows scored`);
    told = tenth;
    await breathe();
    if (run.interrupted()) return undefined;
  }
  return (row) => [numbers[2 * row], numbers[2 * row + 1]];
}
