/**
 * Metrics of a run, thinned out in the database so that a week of steps is a screenful.
 *
 * @module
 */
import type { RunReader, StepRange } from "../src/run/reader.ts";
import { breathe, plainNumber } from "./json.ts";

/** Which metrics are wanted. */
export interface SeriesQuery extends StepRange {
  /** Of these stages. */
  stages: string[];
  /** With these names; all if empty. */
  names: string[];
  /** Points of a series at most. */
  maxPoints: number;
}

/** A point: one step, or neighbouring steps of which mean, smallest and largest value are given. */
export interface Point {
  stage: string;
  name: string;
  /** The first of its steps. */
  step: number;
  /** When that was made, Unix time in seconds. */
  time: number;
  value: number | string;
  min: number | string;
  max: number | string;
  /** Steps in it. */
  count: number;
}

/** Points in the order of stage, name and step. */
export interface Series {
  points: Point[];
  /** There were more than are ever returned. */
  truncated: boolean;
}

/** Points of all series together at most. */
export const MOST_POINTS = 20_000;

/** Steps that one look into the database goes over. */
const STEPS_AT_A_TIME = 20_000;

/** The points that are wanted. */
export async function readSeries(
  reader: RunReader,
  { stages, names, from, to, maxPoints }: SeriesQuery,
): Promise<Series> {
  const points: Point[] = [];
  let looked = 0;
  for (const series of names.length ? named(stages, names) : allSeries(reader, stages)) {
    const whole = reader.range(series.stage, series.name);
    if (!whole) continue;
    const first = Math.max(from, whole.from), last = Math.min(to, whole.to);
    const width = Math.max(1, Math.ceil((last - first + 1) / maxPoints));
    const stride = width * Math.max(1, Math.floor(STEPS_AT_A_TIME / width));
    for (let at = first; at <= last; at += stride) {
      looked += stride;
      if (looked > STEPS_AT_A_TIME) {
        await breathe();
        looked = stride;
      }
      const part = { from: at, to: Math.min(last, at + stride - 1) };
      for (
        const { step, time, count, min, max, mean } of reader.buckets(series.stage, series.name, part, width)
      ) {
        if (points.length === MOST_POINTS) return { points, truncated: true };
        const [value, least, most] = [mean, min, max].map((number) => plainNumber(number ?? NaN));
        points.push({
          stage: series.stage,
          name: series.name,
          step,
          time,
          value,
          min: least,
          max: most,
          count,
        });
      }
    }
  }
  return { points, truncated: false };
}

function* allSeries(reader: RunReader, stages: string[]): Generator<{ stage: string; name: string }> {
  let series = reader.seriesAfter("", "");
  for (; series; series = reader.seriesAfter(series.stage, series.name)) {
    if (stages.includes(series.stage)) yield series;
  }
}

/** Series of these names, whether there are such or not. */
function* named(stages: string[], names: string[]): Generator<{ stage: string; name: string }> {
  for (const stage of stages.toSorted()) {
    for (const name of [...new Set(names)].sort()) yield { stage, name };
  }
}

const COLUMNS = ["stage", "name", "step", "time", "value", "min", "max", "count"] as const;

/** Points as comma-separated values with a line of names. */
export function csv(points: Point[]): string {
  const quoted = (value: string | number) =>
    typeof value === "string" && /[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : String(value);
  return [COLUMNS.join(","), ...points.map((point) => COLUMNS.map((name) => quoted(point[name])).join(","))]
    .map((line) => line + "\n").join("");
}
