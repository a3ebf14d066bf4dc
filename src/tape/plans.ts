/**
 * Plans by shape: the first batch of a shape records and compiles, later ones replay.
 *
 * @module
 */
import { compile, type Plan, type Workspace } from "./plan.ts";
import { Tape } from "./tape.ts";

/** Returns the plan of a shape, compiled once. */
export interface PlanCache<S extends (string | number)[]> {
  (...shape: S): Plan;
  /** Frees the plans. */
  destroy(): void;
}

/** A cache of the plans that `build` records. */
export function planCache<S extends (string | number)[]>(
  workspace: Workspace,
  build: (tape: Tape, ...shape: S) => void,
): PlanCache<S> {
  const plans = new Map<string, Plan>();
  const planOf = (...shape: S): Plan => {
    const key = shape.join();
    let plan = plans.get(key);
    if (!plan) {
      const tape = new Tape(workspace.gpu.profile);
      build(tape, ...shape);
      plans.set(key, plan = compile(workspace, tape));
    }
    return plan;
  };
  const destroy = () => {
    for (const plan of plans.values()) plan.destroy();
    plans.clear();
  };
  return Object.assign(planOf, { destroy });
}
