/**
 * `metrics.jsonl`: a line of JSON per step.
 *
 * @module
 */
import { join } from "node:path";
import { plainNumber } from "../json.ts";
import { namesIn, type TrackedStage, type TrackerFile, utf8 } from "./tracker.ts";

/** The file of a stage. */
export function jsonlFile({ dir, stage }: TrackedStage): TrackerFile {
  return {
    path: join(dir, "metrics.jsonl"),
    begin: () => utf8(""),
    step({ step, time, metrics }) {
      const numbers = Object.entries(metrics).map(([name, value]) => [name, plainNumber(value)]);
      return utf8(JSON.stringify({ step, stage, time, ...Object.fromEntries(numbers) }) + "\n");
    },
    end: () => utf8(""),
  };
}

/** What there is of it in the folder of a stage. */
export function jsonlPaths(dir: string): string[] {
  return namesIn(dir, /^metrics\.jsonl$/).map((name) => join(dir, name));
}
