/**
 * Shapes of what the server takes and gives; the OpenAPI document is made from them.
 *
 * @module
 */
import { z } from "@hono/zod-openapi";
import { METHODS } from "./methods.ts";
import { RUN_ID } from "./runs.ts";

const text = (description: string) => z.string().meta({ description });
const integer = (description: string) => z.int().meta({ description });
const unixTime = (description: string) =>
  z.number().meta({ description: `${description}, Unix time in seconds.` });

/** A number of a run; JSON has none for these three. */
export const value = z.union([z.number(), z.enum(["NaN", "Infinity", "-Infinity"])]).openapi("Value");

/** What an event, a request or a line of the journal has to say. */
const detail = z.record(z.string(), z.unknown());

/** A whole number in a query. */
export function wholeNumber(description: string, least: number, most: number) {
  return z.string().regex(/^\d{1,16}$/, `expected a whole number from ${least} to ${most}`)
    .refine((digits) => Number(digits) >= least && Number(digits) <= most, {
      message: `expected a whole number from ${least} to ${most}`,
    }).transform(Number).openapi({
      type: "integer",
      minimum: least,
      maximum: most,
      pattern: undefined,
      description,
    });
}

/** A step in a query. */
export const stepQuery = (description: string) => wholeNumber(description, 0, Number.MAX_SAFE_INTEGER);

export const runParam = z.object({
  id: z.string().regex(RUN_ID).openapi({
    pattern: "^[a-z0-9][a-z0-9._-]{0,63}$",
    example: "mine",
    description: "Name of a run: the name of its folder.",
  }),
});

export const failure = z.object({
  error: z.object({
    code: text("A word for programs."),
    message: text("What was got, what was expected, what to do."),
    fields: z.array(z.object({ path: z.string(), message: z.string() })).optional().meta({
      description: "What is wrong, field by field.",
    }),
  }),
}).openapi("Error");

export const state = z.enum(["queued", "going", "paused", "stopped", "failed", "finished"]).openapi("State");

export const run = z.object({
  id: z.string(),
  method: text("The command: sft, reward, ppo, train, …"),
  state,
  stages: z.array(z.string()),
  stage: text("The stage it is in or was last in."),
  step: integer("Last step of that stage."),
  total: integer("Steps of that stage.").nullable(),
  created: unixTime("When it was made").nullable(),
  updated: unixTime("When it last told of itself").nullable(),
  pid: integer("The process that goes.").nullable(),
  metrics: z.record(z.string(), value).meta({ description: "Some metrics of the last step." }),
}).openapi("Run");

export const event = z.object({
  id: integer("From 1, growing."),
  time: unixTime("When"),
  stage: z.string(),
  step: z.int(),
  kind: z.string(),
  detail,
}).openapi("Event");

export const request = z.object({
  id: integer("From 1, in the order they were made."),
  time: unixTime("When it was made"),
  who: z.string(),
  stage: z.string().nullable(),
  kind: z.enum(["set", "pause", "resume", "stop", "checkpoint", "roll_back"]),
  detail,
  state: z.enum(["waiting", "done", "refused"]),
  answered: unixTime("When it was answered").nullable(),
  step: integer("The step after which it was answered.").nullable(),
  refusal: text("Why it was refused.").nullable(),
}).openapi("Request");

export const runDetail = run.extend({
  metrics: z.record(z.string(), value).meta({ description: "All metrics of the last step." }),
  config: z.record(z.string(), z.unknown()).nullable().meta({ description: "config.json, once it began." }),
  queue_place: integer("Its place in the queue, from 1.").nullable(),
  pending: z.array(request).meta({ description: "Requests without an answer." }),
  events: z.array(event).meta({ description: "The last events." }),
  stream_end: integer("The last entry of its stream; follow it from there."),
  failure: z.object({
    message: z.string(),
    code: integer("Exit code.").nullable(),
    signal: z.string().nullable(),
    log: z.array(z.string()).meta({ description: "The last lines of its log." }),
  }).nullable(),
  journal: z.array(z.object({ time: z.number(), what: z.string(), detail })).meta({
    description: "What the server did for it.",
  }),
}).openapi("RunDetail");

export const newRun = z.strictObject({
  id: z.string().regex(
    RUN_ID,
    "expected a-z, 0-9, dots, dashes and underscores, at most 64, no two dots in a row",
  )
    .openapi({ pattern: "^[a-z0-9][a-z0-9._-]{0,63}$" }).optional(),
  method: z.enum(METHODS),
  options: z.record(z.string(), z.unknown()).default({}).meta({
    description: "Options by TRL's names; GET /methods describes them.",
    example: { ppo_steps: 40, kl_coef: 0.1 },
  }),
  queue: z.boolean().default(true).meta({
    description: "Wait where as many runs go as may; refused if false.",
  }),
}).openapi("NewRun");

export const steered = z.object({
  run: z.string(),
  state,
  request: z.union([request, z.null()]).meta({
    description: "What was asked of the process; null where it was for the server.",
  }),
}).openapi("Steered");

export const target = z.strictObject({
  stage: z.string().optional().meta({
    description: "The stage that is meant; the one it is in if not given.",
  }),
}).openapi("Target");

export const rollBackTarget = z.strictObject({
  stage: z.string().optional(),
  step: z.int().min(0).meta({ description: "Step of a checkpoint." }),
}).openapi("RollBack");

export const waitQuery = z.object({
  wait: wholeNumber("Seconds to wait for the answer.", 0, 30).optional(),
});

export const knob = z.object({
  name: z.string(),
  value: z.union([value, z.null()]).meta({
    description: "What holds for the next step; null: nothing was set.",
  }),
  schema: z.record(z.string(), z.unknown()).meta({ description: "JSON schema with its limits." }),
}).openapi("Knob");

export const knobs = z.object({
  stages: z.array(z.object({
    stage: z.string(),
    knobs: z.array(knob),
    journal: z.array(z.object({
      name: z.string(),
      value,
      from_step: z.int(),
      who: z.string(),
      time: z.number(),
    })),
  })),
}).openapi("Knobs");

export const knobChange = z.object({
  stage: z.string().optional().meta({
    description: "The stage that is meant; the one it is in if not given.",
  }),
}).catchall(z.unknown()).openapi("KnobChange", {
  example: { kl_coef: 0.2 },
  additionalProperties: { type: "number" },
});

export const knobsAnswer = z.object({
  run: z.string(),
  request,
  from_step: integer("The first step for which they hold; null until it was answered.").nullable(),
}).openapi("KnobsAnswer");

export const point = z.object({
  stage: z.string(),
  name: z.string(),
  step: integer("The first of its steps."),
  time: unixTime("When that was made"),
  value,
  min: value,
  max: value,
  count: integer("Steps in it."),
}).openapi("Point", {
  description: "One step, or several neighbours: value is the mean of those that have a number.",
});

export const sample = z.object({
  row: integer("From 1, growing."),
  stage: z.string(),
  step: z.int(),
  split: z.string(),
  prompt: z.string(),
  completion: z.string(),
  tokens: z.int(),
  rewards: z.record(z.string(), value),
}).openapi("Sample");

export const file = z.object({
  path: z.string(),
  bytes: z.int(),
  modified: unixTime("When it was written"),
}).openapi("File");

export const checkpoint = z.object({ stage: z.string(), step: z.int(), path: z.string() }).openapi(
  "Checkpoint",
);

export const system = z.object({
  keel: text("Version of keel."),
  deno: z.string(),
  pid: z.int(),
  started: unixTime("When the server was started"),
  uptime: z.number().meta({ description: "Seconds." }),
  runs_dir: z.string(),
  max_concurrent_runs: z.int(),
  adapter: text("The adapter as the newest run saw it.").nullable(),
  driver: z.string().nullable(),
  memory: z.object({
    rss: integer("Bytes of this process."),
    total: integer("Bytes of the machine."),
    available: z.int(),
  }),
  streams: integer("Event streams that are open."),
  inference: z.object({
    pid: integer("The process that computes completions and scores, while there is one.").nullable(),
    requests: integer("Requests that it has not answered."),
  }),
}).openapi("System");
