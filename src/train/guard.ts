/**
 * What happens when a loss or a gradient is not finite: the step is skipped and counted, its batch is kept for a look, and
 * the third in a row stops the run.
 *
 * @module
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { StageRun } from "../run/run.ts";
import type { Inputs, Plan } from "../tape/plan.ts";

/** Skipped steps in a row that stop a run. */
const MOST_IN_A_ROW = 3;

/** Counts skipped steps. */
export interface Guard {
  /** Steps skipped so far; part of a checkpoint. */
  skipped: number;
  /** Call after every step. Throws when too many in a row were skipped. */
  check(step: number, skipped: boolean, batch: () => { plan: Plan; inputs: Inputs }): Promise<void>;
}

/** A guard for a run. */
export function openGuard(run: StageRun): Guard {
  let row = 0;
  return {
    skipped: 0,
    async check(step, skipped, batch) {
      if (!skipped) {
        row = 0;
        return;
      }
      this.skipped++;
      row++;
      const { plan, inputs } = batch();
      const culprit = await plan.findNonFinite(inputs) ??
        "no single kernel: the sum over the batch overflowed";
      const directory = join(run.dir, "non_finite");
      mkdirSync(directory, { recursive: true });
      const file = join(directory, `step-${step}.json`);
      const arrays = Object.fromEntries(
        Object.entries(inputs).map(([name, data]) => [name, Array.from(data)]),
      );
      writeFileSync(file, JSON.stringify({ step, culprit, inputs: arrays }));
      run.event("non_finite", { step, culprit, file });
      if (row < MOST_IN_A_ROW) return;
      const last = run.newest();
      throw new Error(
        `Step ${step}: the gradient was not finite for ${row} steps in a row. First: ${culprit}. The batch is in ${file}. ` +
          (last ? `The last good checkpoint is ${last.path}.` : "There is no checkpoint yet.") +
          " Try a smaller learning rate or max_grad_norm.",
      );
    },
  };
}
