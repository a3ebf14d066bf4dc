/**
 * Knobs: settings that may be changed while a run goes, and what was asked of it.
 *
 * @module
 */
import { createRoute, z } from "@hono/zod-openapi";
import { camelCase } from "../../src/train/options/names.ts";
import { stageOptions } from "../../src/train/options/stages.ts";
import type { TrainOptions } from "../../src/train/options/train.ts";
import { KNOBS } from "../../src/train/steering.ts";
import { ask, findRequest, refusedBy, waitForAnswer } from "../asking.ts";
import { type App, BODY, body, type Context, GUARDED, json, refusals } from "../context.ts";
import { HttpError, invalid } from "../http_error.ts";
import { plain, plainNumber } from "../json.ts";
import { findRun, type RunView, stageDone } from "../runs.ts";
import { knobChange, knobs, knobsAnswer, request, runParam, waitQuery, wholeNumber } from "../schemas.ts";
import { requestRow } from "../views.ts";
import { knownStage } from "./control.ts";

/** Changes of a stage that are listed, the last ones. */
const JOURNAL = 200;

/** Requests that are listed at a time. */
const PAGE = 500;

const show = createRoute({
  method: "get",
  path: "/runs/{id}/knobs",
  operationId: "getKnobs",
  summary: "Knobs of every stage: what holds, the limits, and who changed what from which step on",
  request: { params: runParam },
  responses: { 200: json("The knobs.", knobs), ...GUARDED, ...refusals(404) },
});

const turn = createRoute({
  method: "patch",
  path: "/runs/{id}/knobs",
  operationId: "setKnobs",
  summary: "Change knobs, all or none, from the next step on; a run that does not go answers when it does",
  request: { params: runParam, query: waitQuery, body: body(knobChange, true) },
  responses: {
    200: json("They hold from from_step on.", knobsAnswer),
    202: json("It was asked.", knobsAnswer),
    ...GUARDED,
    ...BODY,
    ...refusals(404, 409, 422),
  },
});

const list = createRoute({
  method: "get",
  path: "/runs/{id}/requests",
  operationId: "listRequests",
  summary: "What was asked of a run, in order, and what it answered",
  request: {
    params: runParam,
    query: z.object({
      after: wholeNumber("Requests after this one.", 0, Number.MAX_SAFE_INTEGER).optional(),
    }),
  },
  responses: {
    200: json(`At most ${PAGE} requests.`, z.object({ requests: z.array(request) })),
    ...GUARDED,
    ...refusals(404, 422),
  },
});

const one = createRoute({
  method: "get",
  path: "/runs/{id}/requests/{n}",
  operationId: "getRequest",
  summary: "One request",
  request: {
    params: runParam.extend({
      n: z.string().regex(/^\d{1,15}$/).openapi({ type: "integer", pattern: undefined }),
    }),
  },
  responses: { 200: json("The request.", request), ...GUARDED, ...refusals(404) },
});

type Stage = keyof typeof KNOBS;

/** Adds the routes. */
export function addKnobRoutes(app: App, context: Context): void {
  app.openapi(show, (c) => {
    const run = findRun(context, c.req.valid("param").id);
    const stages = run.stages.filter((stage): stage is Stage => stage in KNOBS);
    return c.json({ stages: stages.map((stage) => stageKnobs(context, run, stage)) }, 200);
  });

  app.openapi(turn, async (c) => {
    const run = findRun(context, c.req.valid("param").id);
    const { stage = currentStage(run), ...given } = c.req.valid("json");
    knownStage(run, stage);
    if (!(stage in KNOBS)) {
      throw new HttpError(
        409,
        "no_knobs",
        `Stage ${stage} has no knobs. Those with knobs are ${Object.keys(KNOBS)}.`,
      );
    }
    const { error } = KNOBS[stage as Stage].safeParse(given);
    if (error) throw invalid(`These knobs of ${stage}`, problemsOf(stage as Stage, error, given));
    if (!Object.keys(given).length) {
      throw invalid("The body", [{
        path: "",
        message: `Got no knob. Expected one of ${names(stage as Stage)}.`,
      }]);
    }
    if (stageDone(run, stage)) {
      throw new HttpError(
        409,
        "stage_done",
        `Stage ${stage} of ${run.id} is done; its knobs change nothing.`,
      );
    }
    const id = ask(run, { who: `http ${c.env.address}`, kind: "set", stage, detail: given });
    const row = await waitForAnswer(context, run, id, c.req.valid("query").wait ?? 0);
    refusedBy(row);
    const answer = {
      run: run.id,
      request: requestRow(row),
      from_step: row.step === null ? null : row.step + 1,
    };
    return row.answered === null ? c.json(answer, 202) : c.json(answer, 200);
  });

  app.openapi(list, (c) => {
    const run = findRun(context, c.req.valid("param").id);
    const rows = context.readers.of(run.dir)?.requests(c.req.valid("query").after ?? 0, PAGE) ?? [];
    return c.json({ requests: rows.map(requestRow) }, 200);
  });

  app.openapi(one, (c) => {
    const { id, n } = c.req.valid("param");
    return c.json(requestRow(findRequest(context, findRun(context, id), Number(n))), 200);
  });
}

const names = (stage: Stage) => Object.keys(KNOBS[stage].shape).join(", ");

/** The stage that a run is in, or comes to next. */
function currentStage(run: RunView): string {
  return run.stages.slice(run.stages.indexOf(run.stage)).find((stage) => !stageDone(run, stage)) ?? run.stage;
}

function problemsOf(stage: Stage, { issues }: z.ZodError, given: Record<string, unknown>) {
  return issues.flatMap((issue) =>
    issue.code === "unrecognized_keys"
      ? issue.keys.map((path) => ({
        path,
        message: `${stage} has no such knob. Expected one of ${names(stage)}.`,
      }))
      : [{
        path: issue.path.join("."),
        message: `Got ${JSON.stringify(given[String(issue.path[0])])}. ${issue.message}.`,
      }]
  );
}

/** Options that a stage began with, by their TypeScript names. */
function optionsOf(run: RunView, stage: Stage): Record<string, unknown> {
  const options = run.config?.options ?? {};
  if (run.method !== "train" || !run.config) return options;
  const { sft, reward, ppo } = stageOptions(options as unknown as TrainOptions);
  return { ...stage === "sft" ? sft : stage === "reward" ? reward : ppo };
}

function stageKnobs(context: Context, run: RunView, stage: Stage): z.output<typeof knobs>["stages"][number] {
  const journal = context.readers.of(run.dir)?.knobs(stage, JOURNAL) ?? [];
  const began = optionsOf(run, stage);
  return {
    stage,
    knobs: Object.entries(KNOBS[stage].shape).map(([name, field]) => {
      const { $schema: _, ...schema } = z.toJSONSchema(field as z.ZodType, { io: "input" }) as Record<
        string,
        unknown
      >;
      const value = journal.findLast((row) => row.name === name)?.value ?? began[camelCase(name)] ?? null;
      return { name, value: plain(value) as number | null, schema };
    }),
    journal: journal.map(({ name, value, step, who, time }) => ({
      name,
      value: plainNumber(value),
      from_step: step,
      who,
      time,
    })),
  };
}
