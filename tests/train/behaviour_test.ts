/** Seeds, recomputation and resuming, for each method, to the bit. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { withDirectory } from "../assets.ts";
import { type Method, smallRun, type SmallSettings } from "./small.ts";

/** Everything that PPO keeps between two steps, in use. */
const STATEFUL = { useScoreScaling: true, useScoreNorm: true, adapKlCtrl: true, target: 0.1, horizon: 40 };

const METHODS: Method[] = [
  { method: "sft" },
  { method: "sft", options: { lossType: "dft", gradientAccumulationSteps: 2 } },
  { method: "reward", options: { centerRewardsCoefficient: 0.01 } },
  { method: "ppo", options: STATEFUL },
  { method: "dpo", options: { syncRefModel: true, refModelSyncSteps: 1, lossType: ["sigmoid", "sft"] } },
  { method: "dpo", options: { precomputeRefLogProbs: true, usePeft: true, gradientAccumulationSteps: 2 } },
  { method: "kto", options: { syncRefModel: true, refModelSyncSteps: 2, gradientAccumulationSteps: 2 } },
  { method: "orpo" },
  { method: "cpo", options: { lossType: "simpo" } },
];

const titleOf = ({ method, options = {} }: Method) =>
  Object.keys(options).length ? `${method} with ${Object.keys(options).join(", ")}` : method;

/** The method with further options. */
const having = (run: Method, options: Record<string, unknown>) =>
  ({ ...run, options: { ...run.options, ...options } }) as Method;

/** Runs a method in a folder and returns what must be equal where runs are. */
async function outcome(directory: string, run: Method, settings: SmallSettings = {}) {
  const { hashes, state, events, samples, error } = await smallRun(directory, run, settings);
  assert.equal(error, undefined);
  return { hashes, state, samples, metrics: events.map(({ metrics }) => metrics) };
}

for (const run of METHODS) {
  Deno.test(`${titleOf(run)}: a seed determines every bit, another one gives others`, () =>
    withDirectory(async (directory) => {
      const first = await outcome(join(directory, "1"), run);
      assert.deepEqual(await outcome(join(directory, "2"), run), first);
      const other = await outcome(join(directory, "3"), having(run, { seed: 6 }));
      assert.notDeepEqual(other.hashes, first.hashes);
    }));

  Deno.test(`${titleOf(run)}: recomputed activations give the same bits`, () =>
    withDirectory(async (directory) => {
      const kept = await outcome(join(directory, "kept"), run);
      const recomputed = await outcome(
        join(directory, "recomputed"),
        having(run, { gradientCheckpointing: true }),
      );
      assert.deepEqual(recomputed, kept);
    }));

  Deno.test(`${titleOf(run)}: stopped after any step and resumed, it ends with the same bits`, () =>
    withDirectory(async (directory) => {
      const whole = await outcome(join(directory, "whole"), run);
      for (let step = 1; step < whole.metrics.length; step++) {
        const dir = join(directory, `stopped-${step}`);
        const before = await outcome(dir, run, { stopAfter: step });
        assert.equal(before.metrics.length, step);
        const after = await outcome(dir, run, { resume: true });
        assert.deepEqual({ ...after, metrics: [...before.metrics, ...after.metrics] }, whole);
      }
    }));

  Deno.test(`${titleOf(run)}: a checkpoint of another run can be the start`, () =>
    withDirectory(async (directory) => {
      const old = join(directory, "old"), whole = await outcome(old, having(run, { saveSteps: 1 }));
      const resumeFromCheckpoint = join(old, "checkpoints", "step-2");
      const branch = await outcome(join(directory, "new"), run, { resumeFromCheckpoint });
      assert.deepEqual(branch.hashes, whole.hashes);
      assert.deepEqual(branch.metrics, whole.metrics.slice(2));
    }));

  Deno.test(`${titleOf(run)}: a finished run that is resumed does nothing`, () =>
    withDirectory(async (directory) => {
      const whole = await outcome(directory, run);
      const again = await outcome(directory, run, { resume: true });
      assert.deepEqual(again, { ...whole, metrics: [] });
    }));
}
