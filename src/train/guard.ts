/**
 * What happens when a loss or a gradient is not finite: the step is skipped and counted, its batch is kept for a look, and
 * the third in a row stops the run.
 *
 * @module
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { writeTextAtomically } from "../model/atomic_file.ts";
import { toJson } from "../run/json.ts";
import type { StageRun } from "../run/run.ts";
import type { Inputs, Plan } from "../tape/plan.ts";
import { isDue } from "./schedule.ts";

/** Skipped steps in a row that stop a run. */
const MOST_IN_A_ROW = 3;

/** One forward and backward pass of a step. */
export interface Pass {
  plan: Plan;
  inputs: Inputs;
}

/** Plain data, part of a checkpoint. */
export interface GuardState {
  /** Steps skipped so far. */
  skipped: number;
  /** Of these, the last ones without a good step between them. */
  inARow: number;
}

/** Watches over skipped steps. */
export interface Guard {
  state: GuardState;
  /**
   * Call as soon as an optimiser step was skipped, with the passes that made its gradient: finds the first operation that
   * went wrong, keeps the batch, and clears the gradients that the search left behind.
   */
  examine(step: number, passes: Pass[], learners: { discard(): void }[]): Promise<void>;
  /** Call after every step. Throws when too many in a row were skipped. */
  count(step: number, skipped: boolean): void;
  /** Whether to write a checkpoint: never after a skipped step, so that the newest is a good one, but always at the end. */
  saveDue(step: number, every: number, total: number): boolean;
}

/** A guard for a run. */
export function openGuard(run: StageRun): Guard {
  let found = "";
  return {
    state: { skipped: 0, inARow: 0 },
    async examine(step, passes, learners) {
      let culprit: string | undefined, bad = passes;
      for (const pass of passes) {
        culprit = await pass.plan.findNonFinite(pass.inputs);
        if (culprit === undefined) continue;
        bad = [pass];
        break;
      }
      culprit ??= "no single kernel: the sum over the batch overflowed";
      for (const learner of learners) learner.discard();
      const directory = join(run.dir, "non_finite"), file = join(directory, `step-${step}.json`);
      mkdirSync(directory, { recursive: true });
      const inputs = bad.map((pass) =>
        Object.fromEntries(Object.entries(pass.inputs).map(([name, data]) => [name, Array.from(data)]))
      );
      writeTextAtomically(file, toJson({ step, culprit, inputs }));
      run.event("non_finite", { step, culprit, file });
      found = `First: ${culprit}. The batch is in ${file}.`;
    },
    count(step, skipped) {
      if (!skipped) {
        this.state.inARow = 0;
        return;
      }
      this.state.skipped++;
      this.state.inARow++;
      if (this.state.inARow < MOST_IN_A_ROW) return;
      const last = run.newest();
      throw new Error(
        `Step ${step}: loss or gradient was not finite for ${this.state.inARow} steps in a row. ${found} ` +
          (last ? `The last good checkpoint is ${last.path}.` : "There is no checkpoint yet.") +
          " Try a smaller learning rate or max_grad_norm.",
      );
    },
    saveDue(step, every, total) {
      return step === total || (this.state.inARow === 0 && isDue(step, every, total));
    },
  };
}
