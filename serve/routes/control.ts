/**
 * Steering a run: what its process answers between two steps, and what the server does where there is no process.
 *
 * @module
 */
import { createRoute, type z } from "@hono/zod-openapi";
import { join } from "node:path";
import type { RequestKind } from "../../src/run/rows.ts";
import { ask, refusedBy, waitForAnswer } from "../asking.ts";
import { type App, BODY, body, type Context, GUARDED, json, refusals } from "../context.ts";
import { HttpError } from "../http_error.ts";
import { listCheckpoints } from "../run_files.ts";
import { findRun, type RunView, stageDone, viewRun } from "../runs.ts";
import { rollBackTarget, runParam, steered, target, waitQuery } from "../schemas.ts";
import { requestRow } from "../views.ts";

const WORDS = {
  pause: "Wait after the running step",
  resume: "Go on: a run that is paused, or one that was stopped or has failed",
  stop: "Stop after the running step and a checkpoint; or leave the queue",
  checkpoint: "Write a checkpoint after the running step",
} as const;

/** The answers of a route that asks something of a run. */
const ANSWERS = {
  200: json("It was done.", steered),
  202: json("It was asked, or the run was put into the queue or started.", steered),
  ...GUARDED,
  ...BODY,
  ...refusals(404, 409, 422),
};

const route = <A extends keyof typeof WORDS>(action: A) =>
  createRoute({
    method: "post",
    path: `/runs/{id}/${action}`,
    operationId: action,
    summary: WORDS[action],
    request: { params: runParam, query: waitQuery, body: body(target, false) },
    responses: ANSWERS,
  });

const rollBack = createRoute({
  method: "post",
  path: "/runs/{id}/roll_back",
  operationId: "rollBack",
  summary: "Go on from an earlier checkpoint as if nothing after it had been",
  request: { params: runParam, query: waitQuery, body: body(rollBackTarget, true) },
  responses: ANSWERS,
});

const kill = createRoute({
  method: "post",
  path: "/runs/{id}/kill",
  operationId: "kill",
  summary: "End the process at once (SIGKILL); what came after the last checkpoint is made again on resume",
  request: { params: runParam },
  responses: { 200: json("Its process is gone.", steered), ...GUARDED, ...refusals(404, 409) },
});

/** Milliseconds within which a killed process is gone. */
const DEATH = 5000;

/** Adds the routes. */
export function addControlRoutes(app: App, context: Context): void {
  const now = (id: string, request: z.output<typeof steered>["request"] = null) => ({
    run: id,
    state: findRun(context, id).state,
    request,
  });

  /** Asks the process and waits for its answer as long as the client wants to. */
  async function tell(
    run: RunView,
    kind: RequestKind,
    asked: { who: string; stage?: string; detail?: Record<string, unknown>; wait?: number },
  ) {
    const id = ask(run, { who: asked.who, kind, stage: asked.stage ?? null, detail: asked.detail });
    const answered = await waitForAnswer(context, run, id, asked.wait ?? 0);
    refusedBy(answered);
    return now(run.id, requestRow(answered));
  }

  const notGoing = (run: RunView, action: string) =>
    new HttpError(
      409,
      "not_going",
      `Run ${run.id} is ${run.state}; there is no process that could ${action}.`,
    );

  const finished = (run: RunView) =>
    new HttpError(
      409,
      "finished",
      `Run ${run.id} is finished. Roll it back to a checkpoint to go on from there.`,
    );

  for (const action of ["pause", "resume", "stop", "checkpoint"] as const) {
    app.openapi(route(action), async (c) => {
      const run = findRun(context, c.req.valid("param").id);
      const { stage } = c.req.valid("json") ?? {}, { wait } = c.req.valid("query");
      knownStage(run, stage);
      if (!run.holder) {
        if (run.state === "queued" && action === "stop") {
          context.supervisor.dequeue(run.id);
          return c.json(now(run.id), 200);
        }
        if (action !== "resume") throw notGoing(run, action);
        if (run.state === "finished") throw finished(run);
        context.supervisor.start(run);
        return c.json(now(run.id), 202);
      }
      const answer = await tell(run, action, { who: `http ${c.env.address}`, stage, wait });
      return answer.request?.state === "done" ? c.json(answer, 200) : c.json(answer, 202);
    });
  }

  app.openapi(rollBack, async (c) => {
    const run = findRun(context, c.req.valid("param").id);
    const { step, stage = run.stage } = c.req.valid("json"), { wait } = c.req.valid("query");
    knownStage(run, stage);
    const checkpoints = listCheckpoints(run).filter((one) => one.stage === stage);
    const checkpoint = checkpoints.find((one) => one.step === step);
    if (!checkpoint) {
      const steps = checkpoints.map((one) => one.step).reverse();
      throw new HttpError(
        409,
        "no_such_checkpoint",
        `Stage ${stage} of ${run.id} has no checkpoint of step ${step}${
          steps.length ? `; there are those of ${steps.join(", ")}` : " or any other yet"
        }.`,
      );
    }
    if (!run.holder) {
      context.supervisor.start(run, join(run.dir, checkpoint.path));
      return c.json(now(run.id), 202);
    }
    if (stageDone(run, stage)) {
      throw new HttpError(
        409,
        "stage_done",
        `Stage ${stage} of ${run.id} is done and the run is in ${run.stage}. Stop the run first, then roll it back.`,
      );
    }
    const answer = await tell(run, "roll_back", {
      who: `http ${c.env.address}`,
      stage,
      wait,
      detail: { step },
    });
    return answer.request?.state === "done" ? c.json(answer, 200) : c.json(answer, 202);
  });

  app.openapi(kill, async (c) => {
    const run = findRun(context, c.req.valid("param").id);
    if (!run.holder) throw notGoing(run, "be killed");
    context.supervisor.kill(run);
    const until = Date.now() + DEATH;
    while (Date.now() < until && viewRun(context, run.id)?.holder) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return c.json(now(run.id), 200);
  });
}

/** Refuses a stage that a run does not have. */
export function knownStage(run: RunView, stage: string | undefined): void {
  if (stage === undefined || run.stages.includes(stage)) return;
  const message = `Run ${run.id} has no stage ${JSON.stringify(stage)}. Expected ${run.stages.join(", ")}.`;
  throw new HttpError(422, "invalid", message, { fields: [{ path: "stage", message }] });
}
