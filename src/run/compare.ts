/**
 * Whether two runs are the same to the bit.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { join } from "node:path";
import { fileExists } from "../model/json_file.ts";
import { checkpointSteps } from "./checkpoint.ts";
import type { RunStore } from "./store.ts";

/** A run to compare. */
export interface ComparedRun {
  /** Its directory. */
  dir: string;
  /** Its database. */
  store: RunStore;
  /** Names of its stages. */
  stages: string[];
}

/** What two runs have in common. */
export interface Comparison {
  /** Metrics, samples and files that were compared. */
  compared: { metrics: number; samples: number; files: number };
  /** What differs, the earliest metrics first; empty where all is the same. */
  differences: string[];
}

/** Differences of metrics or samples that are listed. */
const LISTED = 3;

/**
 * Compares everything that `first` has with the same of `second`; times do not count, and neither does what only `second` has.
 */
export function compareRuns(first: ComparedRun, second: ComparedRun): Comparison {
  const differences: string[] = [];
  const several = (all: string[]) => {
    differences.push(...all.slice(0, LISTED));
    if (all.length > LISTED) differences.push(`and ${all.length - LISTED} more like these`);
  };

  const key = ({ stage, step, name }: { stage: string; step: number; name: string }) =>
    `${stage} step ${step} ${name}`;
  const values = new Map(second.store.metrics().map((row) => [key(row), row.value]));
  const metrics = first.store.metrics();
  several(
    metrics.sort((a, b) => first.stages.indexOf(a.stage) - first.stages.indexOf(b.stage) || a.step - b.step)
      .filter((row) => !Object.is(values.get(key(row)), row.value))
      .map((row) => `${key(row)} was ${row.value} and is ${values.get(key(row)) ?? "missing"}`),
  );

  const samples = first.store.samples(), others = groupSamples(second.store);
  const mine = groupSamples(first.store);
  several(
    [...mine].filter(([step, texts]) => others.get(step) !== texts)
      .map(([step]) => `the samples of ${step} are others`),
  );

  let files = 0;
  for (const path of resultFiles(first)) {
    const [before, after] = [first, second].map(({ dir }) => hashOf(join(dir, path)));
    if (after === undefined && path.includes("checkpoints")) continue; // only the newest ones are kept
    files++;
    if (before !== after) {
      differences.push(`${path} ${after === undefined ? "is missing" : "has other bytes"}`);
    }
  }
  return { compared: { metrics: metrics.length, samples: samples.length, files }, differences };
}

/** The samples of each step as one text. */
function groupSamples(store: RunStore): Map<string, string> {
  const out = new Map<string, string>();
  for (const sample of store.samples()) {
    const step = `${sample.stage} step ${sample.step}`;
    out.set(step, (out.get(step) ?? "") + JSON.stringify(sample));
  }
  return out;
}

/** Weights of the results and files of the checkpoints, relative to the run's directory. */
function resultFiles({ dir, stages }: ComparedRun): string[] {
  const folders = stages.length === 1 ? [""] : stages;
  return folders.flatMap((folder) => [
    join(folder, "model", "model.safetensors"),
    ...checkpointSteps(join(dir, folder, "checkpoints")).flatMap((step) => {
      const path = join(folder, "checkpoints", `step-${step}`);
      return [...Deno.readDirSync(join(dir, path))].map(({ name }) => join(path, name));
    }),
  ]).filter((path) => fileExists(join(dir, path)));
}

function hashOf(path: string): string | undefined {
  try {
    return createHash("sha256").update(Deno.readFileSync(path)).digest("hex");
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
