/**
 * Knobs: the settings of a trainer that may be changed while it runs, each within the limits that its option has.
 *
 * @module
 */
import { z } from "zod";
import type { SavedCheckpoint } from "../run/checkpoint.ts";
import type { StageRun } from "../run/run.ts";
import { camelCase, snakeCase } from "./options/names.ts";
import { cpoSchema } from "./options/cpo.ts";
import { dpoSchema } from "./options/dpo.ts";
import { grpoSchema } from "./options/grpo.ts";
import { ktoSchema } from "./options/kto.ts";
import { onlineDpoSchema } from "./options/online_dpo.ts";
import { orpoSchema } from "./options/orpo.ts";
import { ppoSchema } from "./options/ppo.ts";
import { reinforceSchema } from "./options/reinforce.ts";
import { rewardSchema } from "./options/reward.ts";
import { rlooSchema } from "./options/rloo.ts";
import { sftSchema } from "./options/sft.ts";

const optimiser = ["learningRate", "maxGradNorm", "weightDecay", "evalSteps", "saveSteps"] as const;

const online = [...optimiser, "beta", "epsilon", "epsilonHigh", "temperature"] as const;

/** Knobs of each trainer by their option's name, with the option's own schema. */
export const KNOBS: Record<
  "sft" | "reward" | "dpo" | "kto" | "orpo" | "cpo" | "ppo" | "grpo" | "rloo" | "reinforce" | "online-dpo",
  z.ZodObject
> = {
  sft: knobs(sftSchema, optimiser),
  reward: knobs(rewardSchema, optimiser),
  dpo: knobs(dpoSchema, [...optimiser, "beta"]),
  kto: knobs(ktoSchema, [...optimiser, "beta", "desirableWeight", "undesirableWeight"]),
  orpo: knobs(orpoSchema, [...optimiser, "beta"]),
  cpo: knobs(cpoSchema, [...optimiser, "beta", "cpoAlpha", "simpoGamma"]),
  ppo: knobs(ppoSchema, [
    ...optimiser,
    "klCoef",
    "target",
    "horizon",
    "cliprange",
    "cliprangeValue",
    "dualClip",
    "vfCoef",
    "entropyCoef",
    "gamma",
    "lam",
    "temperature",
    "missingEosPenalty",
    "scoreClip",
    "targetKl",
    "ratioThreshold",
    "valueLearningRate",
  ]),
  grpo: knobs(grpoSchema, [
    ...online,
    "delta",
    "entropyCoef",
    "entropyTarget",
    "topEntropyQuantile",
    "offPolicyMaskThreshold",
  ]),
  rloo: knobs(rlooSchema, online),
  "online-dpo": knobs(onlineDpoSchema, [...optimiser, "temperature"]),
  reinforce: knobs(reinforceSchema, [...online, "gamma", "entropyCoef"]),
};

/** The numbers among the fields of a schema, none of them needed and none with a default; names are TRL's. */
function knobs(schema: z.ZodObject, names: readonly string[]): z.ZodObject {
  const bare = (field: z.ZodType): z.ZodType =>
    field instanceof z.ZodDefault || field instanceof z.ZodOptional || field instanceof z.ZodNullable
      ? bare(field.unwrap() as z.ZodType)
      : field;
  return z.strictObject(Object.fromEntries(names.map((name) => {
    const field = schema.shape[name] as z.ZodType;
    const { description } = field.meta() ?? {};
    return [snakeCase(name), bare(field).optional().meta({ description })];
  })));
}

/** What is wrong with knobs of a trainer, if anything. */
export function knobProblem(stage: keyof typeof KNOBS, given: Record<string, unknown>): string | undefined {
  const { error } = KNOBS[stage].safeParse(given);
  return error?.issues.map(({ path, message }) => path.length ? `${path.join(".")}: ${message}` : message)
    .join("; ");
}

/** A penalty cannot be turned on where a run began without one, because then no reference was loaded. */
function referenceProblem(
  stage: string,
  options: unknown,
  given: Record<string, unknown>,
): string | undefined {
  const { beta } = options as { beta?: number };
  return ["grpo", "rloo", "reinforce"].includes(stage) && beta === 0 && Number(given.beta) > 0
    ? "beta: the run began with 0, so there is no reference to stay near"
    : undefined;
}

/** How a trainer goes on. */
export interface Course<O> {
  /** Leave; a checkpoint is written. */
  stop: boolean;
  /** Go on from here, then ask again. */
  rollBack?: SavedCheckpoint;
  /** The options with what was changed by hand. */
  settings: O;
  /** TRL's names of the settings that were changed just now. */
  fresh: string[];
}

/** Asks the run what holds for the step after `step`; waits while it is paused. */
export async function steer<O>(
  run: StageRun,
  stage: keyof typeof KNOBS,
  step: number,
  options: O,
  checkpoint: () => Promise<void>,
): Promise<Course<O>> {
  const { stop, rollBack, knobs, fresh } = await run.listen(step, {
    check: (given) => knobProblem(stage, given) ?? referenceProblem(stage, options, given),
    checkpoint,
  });
  const turned = Object.fromEntries(Object.entries(knobs).map(([name, value]) => [camelCase(name), value]));
  return { stop, rollBack, settings: { ...options, ...turned }, fresh };
}
