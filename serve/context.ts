/**
 * What the routes work with.
 *
 * @module
 */
import { type Hook, OpenAPIHono, type z } from "@hono/zod-openapi";
import type { Env } from "hono";
import { HttpError, invalid } from "./http_error.ts";
import type { Inference } from "./inference/process.ts";
import type { Leave } from "./methods.ts";
import type { Sources } from "./runs.ts";
import { failure } from "./schemas.ts";
import type { Supervisor } from "./supervisor.ts";
import type { Tails } from "./tail.ts";

/** The parts of a server. */
export interface Context extends Sources, Leave {
  supervisor: Supervisor;
  tails: Tails;
  inference: Inference;
  /** Unix time in seconds. */
  started: number;
  maxConcurrentRuns: number;
  /** Whether it has been closed. */
  closed: () => boolean;
}

/** What a handler knows of the one who asks. */
export interface Variables extends Env {
  Bindings: { address: string };
}

/** An application whose requests are refused as all are. */
export type App = OpenAPIHono<Variables>;

// deno-lint-ignore no-explicit-any
const refuse: Hook<any, Variables, any, any> = (result) => {
  if (result.success) return;
  // A name that no run can have is a run that does not exist.
  if (result.target === "param") {
    throw new HttpError(404, "not_found", "There is nothing under this name. GET /runs lists the runs.");
  }
  const issues = (result.error as z.ZodError).issues;
  const fields = issues.flatMap((issue) =>
    issue.code === "unrecognized_keys"
      ? issue.keys.map((key) => ({
        path: [...issue.path, key].join("."),
        message: "There is no such field here.",
      }))
      : [{ path: issue.path.join("."), message: `${issue.message}.` }]
  );
  throw invalid(result.target === "json" ? "The body" : "The query", fields);
};

/** An application without routes. */
export function newApp(): App {
  return new OpenAPIHono<Variables>({ defaultHook: refuse });
}

/** A JSON response. */
export function json<T extends z.ZodType>(description: string, schema: T) {
  return { description, content: { "application/json": { schema } } };
}

const REASONS = {
  400: "The body is not JSON in UTF-8.",
  401: "The token is missing or wrong.",
  403: "Addressed by a wrong name, or from a page of another origin.",
  404: "There is no such thing.",
  408: "The body came too slowly.",
  409: "This cannot be done now.",
  413: "The body is too large.",
  415: "The body is not application/json.",
  416: "The file has no such bytes.",
  422: "A value is wrong; fields says which.",
  429: "Too many requests; Retry-After says when to try again.",
  503: "The server, or the process that computes for it, is not ready or has failed.",
} as const;

type Refusals<S extends keyof typeof REASONS> = { [status in S]: ReturnType<typeof json<typeof failure>> };

/** These refusals, as a route declares them. */
export function refusals<S extends keyof typeof REASONS>(...statuses: S[]): Refusals<S> {
  return Object.fromEntries(statuses.map((status) => [status, json(REASONS[status], failure)])) as Refusals<
    S
  >;
}

/** Refusals of every route that is guarded. */
export const GUARDED: Refusals<401 | 403 | 429> = refusals(401, 403, 429);

/** Refusals of every route that takes a body. */
export const BODY: Refusals<400 | 408 | 413 | 415> = refusals(400, 408, 413, 415);

/** A body that may be left out, or must be there. */
export function body<T extends z.ZodType>(schema: T, required: boolean) {
  return { required, content: { "application/json": { schema } } };
}
