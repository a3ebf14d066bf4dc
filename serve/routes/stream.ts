/**
 * What is told of a run: its events, everything as it happens, and what its process printed.
 *
 * @module
 */
import { createRoute, z } from "@hono/zod-openapi";
import { join } from "node:path";
import { fileExists } from "../../src/model/json_file.ts";
import { type App, type Context, GUARDED, json, refusals } from "../context.ts";
import { invalid } from "../http_error.ts";
import { lastLines } from "../log.ts";
import { findPlace } from "../runs.ts";
import { event, runParam, wholeNumber } from "../schemas.ts";
import { eventRow } from "../views.ts";

/** Events that are listed at a time. */
const PAGE = 500;

const entry = (description: string) => wholeNumber(description, 0, Number.MAX_SAFE_INTEGER);

const events = createRoute({
  method: "get",
  path: "/runs/{id}/events",
  operationId: "listEvents",
  summary: "What happened: checkpoints, changes, refusals, resumptions",
  request: { params: runParam, query: z.object({ after: entry("Events after this one.").optional() }) },
  responses: {
    200: json(`At most ${PAGE} events in their order.`, z.object({ events: z.array(event) })),
    ...GUARDED,
    ...refusals(404, 422),
  },
});

const stream = createRoute({
  method: "get",
  path: "/runs/{id}/stream",
  operationId: "stream",
  summary: "Server-sent events: metrics, samples and events as they come",
  description:
    "Each has its number as id, what it is as event (metrics, samples, or the kind of an event) and {seq, time, stage, step, data} as data. " +
    "It begins after the entry in Last-Event-ID, or in ?after, or at the first; a client that comes back with its last id misses nothing. " +
    "A number that was never told begins at the first: the run was replaced.",
  request: {
    params: runParam,
    query: z.object({ after: entry("Entries after this one.").optional() }),
    headers: z.object({
      "last-event-id": z.string().optional().openapi({
        type: "integer",
        minimum: 0,
        maximum: Number.MAX_SAFE_INTEGER,
      }),
    }),
  },
  responses: {
    200: {
      description: "The stream; it does not end.",
      content: { "text/event-stream": { schema: z.string() } },
    },
    ...GUARDED,
    ...refusals(404, 422),
  },
});

const log = createRoute({
  method: "get",
  path: "/runs/{id}/log",
  operationId: "getLog",
  summary: "The last lines that the run's process printed",
  request: {
    params: runParam,
    query: z.object({ tail: wholeNumber("Lines; 100 if not given.", 1, 2000).optional() }),
  },
  responses: {
    200: { description: "The lines.", content: { "text/plain": { schema: z.string() } } },
    ...GUARDED,
    ...refusals(404, 422),
  },
});

/** Adds the routes. */
export function addStreamRoutes(app: App, context: Context): void {
  app.openapi(events, (c) => {
    const run = findPlace(context, c.req.valid("param").id);
    const rows = context.readers.of(run.dir)?.events(c.req.valid("query").after ?? 0, PAGE) ?? [];
    return c.json({ events: rows.map(eventRow) }, 200);
  });

  app.openapi(stream, (c) => {
    const { id, dir } = findPlace(context, c.req.valid("param").id);
    const header = c.req.header("last-event-id");
    if (header !== undefined && !/^\d{1,16}$/.test(header)) {
      throw invalid("The header", [
        { path: "last-event-id", message: `Got ${JSON.stringify(header)}. Expected the id of an entry.` },
      ]);
    }
    const head = { "content-type": "text/event-stream", "cache-control": "no-store" };
    // Nobody would read what is opened for it.
    if (c.req.method === "HEAD") return c.body(null, 200, head);
    const reader = () => context.readers.of(dir);
    const asked = header === undefined ? c.req.valid("query").after ?? 0 : Number(header);
    const after = asked > (reader()?.lastSeq() ?? asked) ? 0 : asked;
    const body = context.tails.follow(
      id,
      after,
      reader,
      () => fileExists(join(dir, "run.db")) || fileExists(join(dir, "serve.json")),
    );
    return c.body(body, 200, head);
  });

  app.openapi(log, (c) => {
    const run = findPlace(context, c.req.valid("param").id);
    const lines = lastLines(join(run.dir, "log.txt"), c.req.valid("query").tail ?? 100);
    return c.text(lines.map((line) => line + "\n").join(""), 200);
  });
}
