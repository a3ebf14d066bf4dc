/**
 * The server itself: methods and their options, the machine, health, Prometheus.
 *
 * @module
 */
import { createRoute, z } from "@hono/zod-openapi";
import process from "node:process";
import { VERSION } from "../../src/run/version.ts";
import { type App, type Context, GUARDED, json, refusals } from "../context.ts";
import { HttpError } from "../http_error.ts";
import { METHODS, optionsJsonSchema } from "../methods.ts";
import type { Gauges } from "../prometheus.ts";
import { runIds, viewRun } from "../runs.ts";
import { system } from "../schemas.ts";

const methods = createRoute({
  method: "get",
  path: "/methods",
  operationId: "getMethods",
  summary: "Methods and the JSON schema of their options, with defaults and descriptions",
  responses: {
    200: json(
      "By the method's name.",
      z.object({ methods: z.record(z.string(), z.record(z.string(), z.unknown())) }),
    ),
    ...GUARDED,
  },
});

const show = createRoute({
  method: "get",
  path: "/system",
  operationId: "getSystem",
  summary: "Versions, adapter, memory",
  responses: { 200: json("The system.", system), ...GUARDED },
});

const health = createRoute({
  method: "get",
  path: "/healthz",
  operationId: "getHealth",
  summary: "Whether the server answers",
  security: [],
  responses: { 200: json("It does.", z.object({ status: z.literal("ok") })) },
});

const ready = createRoute({
  method: "get",
  path: "/readyz",
  operationId: "getReadiness",
  summary: "Whether runs can be made: the directory of runs and the server's database can be used",
  security: [],
  responses: {
    200: json("They can.", z.object({ status: z.literal("ready") })),
    ...refusals(403, 429, 503),
  },
});

const metrics = createRoute({
  method: "get",
  path: "/metrics",
  operationId: "getPrometheusMetrics",
  summary: "Prometheus: runs by state, steps, reward and KL, requests and their durations",
  responses: {
    200: { description: "The metrics.", content: { "text/plain": { schema: z.string() } } },
    ...GUARDED,
  },
});

/** Adds the routes. */
export function addSystemRoutes(app: App, context: Context, gauges: Gauges): void {
  const schemas = Object.fromEntries(METHODS.map((method) => [method, optionsJsonSchema(method, context)]));
  app.openapi(methods, (c) => c.json({ methods: schemas }, 200));

  app.openapi(show, (c) => {
    const { total, available } = Deno.systemMemoryInfo();
    const newest = newestConfig(context);
    return c.json({
      keel: VERSION,
      deno: Deno.version.deno,
      pid: Deno.pid,
      started: context.started,
      uptime: Date.now() / 1000 - context.started,
      runs_dir: context.runsDir,
      max_concurrent_runs: context.maxConcurrentRuns,
      adapter: newest?.adapter ?? null,
      driver: newest?.driver ?? null,
      memory: { rss: process.memoryUsage().rss, total, available },
      streams: context.tails.count(),
      inference: context.inference.state(),
    }, 200);
  });

  app.openapi(health, (c) => c.json({ status: "ok" as const }, 200));

  app.openapi(ready, (c) => {
    try {
      if (context.closed()) throw new Error("the server is being closed");
      context.state.check();
      Array.from(Deno.readDirSync(context.runsDir));
    } catch (error) {
      throw new HttpError(
        503,
        "not_ready",
        `The server cannot use ${context.runsDir}: ${(error as Error).message}.`,
      );
    }
    return c.json({ status: "ready" as const }, 200);
  });

  app.openapi(metrics, async (c) => c.text(await gauges.text(), 200, { "content-type": gauges.contentType }));
}

/** Settings of the run that was told of last. */
function newestConfig(context: Context) {
  return runIds(context.runsDir).flatMap((id) => viewRun(context, id) ?? [])
    .filter(({ config }) => config).sort((a, b) => (b.updated ?? 0) - (a.updated ?? 0))[0]?.config;
}
