/**
 * Plans by shape: the first batch of a shape records and compiles, later ones replay.
 *
 * @module
 */
import { compile, type Plan, type Workspace } from "./plan.ts";
import { Tape } from "./tape.ts";

/** A function that returns the plan of a shape, compiled once. */
export function planCache<S extends (string | number)[]>(
  workspace: Workspace,
  build: (tape: Tape, ...shape: S) => void,
): (...shape: S) => Plan {
  const plans = new Map<string, Plan>();
  return (...shape) => {
    const key = shape.join();
    let plan = plans.get(key);
    if (!plan) {
      const tape = new Tape(workspace.gpu.profile);
      build(tape, ...shape);
      plans.set(key, plan = compile(workspace, tape));
    }
    return plan;
  };
}
