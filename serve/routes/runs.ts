/**
 * Making, listing, showing and deleting runs.
 *
 * @module
 */
import { createRoute, z } from "@hono/zod-openapi";
import { type App, BODY, body, type Context, GUARDED, json, refusals } from "../context.ts";
import { HttpError, invalid } from "../http_error.ts";
import { breathe } from "../json.ts";
import { checkOptions } from "../methods.ts";
import { findRun, runIds, viewRun } from "../runs.ts";
import { newRun, run, runDetail, runParam, state, wholeNumber } from "../schemas.ts";
import { runPage, runRow } from "../views.ts";

const list = createRoute({
  method: "get",
  path: "/runs",
  operationId: "listRuns",
  summary: "Runs in the order of their names",
  request: {
    query: z.object({
      state: state.optional(),
      limit: wholeNumber("Runs at most; 100 if not given.", 1, 500).optional(),
      after: z.string().optional().openapi({ description: "Names that come after this one." }),
    }),
  },
  responses: {
    200: json(
      "The runs; next is the name to give as after for those that follow.",
      z.object({ runs: z.array(run), next: z.string().nullable() }),
    ),
    ...GUARDED,
    ...refusals(422),
  },
});

const create = createRoute({
  method: "post",
  path: "/runs",
  operationId: "createRun",
  summary: "Make a run and start it, or put it into the queue",
  request: { body: body(newRun, true) },
  responses: {
    201: json("The run.", runDetail),
    ...GUARDED,
    ...BODY,
    ...refusals(409, 422),
  },
});

const show = createRoute({
  method: "get",
  path: "/runs/{id}",
  operationId: "getRun",
  summary: "A run with its settings, pending requests, last events, and how it failed if it did",
  request: { params: runParam },
  responses: { 200: json("The run.", runDetail), ...GUARDED, ...refusals(404) },
});

const remove = createRoute({
  method: "delete",
  path: "/runs/{id}",
  operationId: "deleteRun",
  summary: "Delete a run that does not go, with everything in its directory",
  request: { params: runParam },
  responses: { 204: { description: "It is gone." }, ...GUARDED, ...refusals(404, 409) },
});

/** Adds the routes. */
export function addRunRoutes(app: App, context: Context): void {
  app.openapi(list, async (c) => {
    const { state, limit = 100, after = "" } = c.req.valid("query");
    const runs: z.output<typeof run>[] = [];
    for (const id of runIds(context.runsDir).filter((name) => name > after)) {
      if (runs.length === limit) return c.json({ runs, next: runs[limit - 1].id }, 200);
      const view = viewRun(context, id);
      if (view && (state === undefined || view.state === state)) runs.push(runRow(context, view));
      await breathe();
    }
    return c.json({ runs, next: null }, 200);
  });

  app.openapi(create, (c) => {
    const { id, method, options: given, queue } = c.req.valid("json");
    const { options, problems } = checkOptions(method, given, context);
    if (problems.length) {
      throw invalid(
        "These options",
        problems.map(({ path, message }) => ({ path: `options.${path}`, message })),
      );
    }
    const made = context.supervisor.create({ id, method, options, queue });
    const path = `/runs/${made}`;
    return c.json(runPage(context, findRun(context, made)), 201, { location: path });
  });

  app.openapi(show, (c) => c.json(runPage(context, findRun(context, c.req.valid("param").id)), 200));

  app.openapi(remove, async (c) => {
    const view = findRun(context, c.req.valid("param").id);
    if (view.holder) {
      throw new HttpError(
        409,
        "going",
        `Run ${view.id} is ${view.state}. Stop it first: POST /runs/${view.id}/stop, or /kill.`,
      );
    }
    await context.supervisor.remove(view);
    return c.body(null, 204);
  });
}
