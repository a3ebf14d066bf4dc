/**
 * The routes behind their guards.
 *
 * @module
 */
import { HTTPException } from "hono/http-exception";
import { matchedRoutes } from "hono/route";
import { VERSION } from "../src/run/version.ts";
import { checkAddress, checkToken } from "./auth.ts";
import { type App, type Context, newApp } from "./context.ts";
import { errorResponse, HttpError } from "./http_error.ts";
import { openRateLimit, withBody } from "./limits.ts";
import { openGauges } from "./prometheus.ts";
import { addControlRoutes } from "./routes/control.ts";
import { addFileRoutes } from "./routes/files.ts";
import { addInferenceRoutes } from "./routes/inference.ts";
import { addKnobRoutes } from "./routes/knobs.ts";
import { addMetricRoutes } from "./routes/metrics.ts";
import { addPageRoutes, isPage } from "./routes/page.ts";
import { addRunRoutes } from "./routes/runs.ts";
import { addStreamRoutes } from "./routes/stream.ts";
import { addSystemRoutes } from "./routes/system.ts";

/** How requests are guarded. */
export interface Guards {
  /** Names under which the server may be addressed. */
  names: () => string[];
  /** The token that is asked for, if one is. */
  token?: string;
  /** Requests of an address in a second, and at once. */
  rate: { perSecond: number; burst: number };
}

const SECURITY_HEADERS = {
  "content-security-policy": "default-src 'self'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
};

/** Answers a request from `address`. */
export type Answer = (request: Request, address: string) => Promise<Response>;

/** Makes the application. */
export function makeApp(context: Context, { names, token, rate }: Guards): Answer {
  const app = newApp(), gauges = openGauges(context);
  const limit = openRateLimit(rate.perSecond, rate.burst);

  app.use(async (c, next) => {
    const began = performance.now();
    await next();
    const route = matchedRoutes(c).at(-1)?.path ?? "/*";
    const seconds = (performance.now() - began) / 1000;
    gauges.observe({ method: c.req.method, route, status: c.res.status, seconds });
  });

  addRunRoutes(app, context);
  addControlRoutes(app, context);
  addKnobRoutes(app, context);
  addMetricRoutes(app, context);
  addStreamRoutes(app, context);
  addFileRoutes(app, context);
  addInferenceRoutes(app, context);
  addSystemRoutes(app, context, gauges);
  addPageRoutes(app);

  app.openAPIRegistry.registerComponent("securitySchemes", "token", { type: "http", scheme: "bearer" });
  app.doc31("/openapi.json", {
    openapi: "3.1.0",
    info: { title: "keel", version: VERSION, description: "Starts, steers and shows runs of keel." },
    security: [{}, { token: [] }],
  });
  const allowed = methodsOf(app);
  app.notFound((c) => {
    const methods = allowed.find(({ pattern }) => pattern.test(c.req.path))?.methods;
    if (!methods) {
      return errorResponse(
        new HttpError(
          404,
          "not_found",
          `There is nothing at ${c.req.path}. GET /openapi.json describes what there is.`,
        ),
      );
    }
    return errorResponse(
      new HttpError(
        405,
        "wrong_method",
        `${c.req.method} is not possible here. Expected ${methods.join(" or ")}.`,
        {
          headers: { allow: methods.join(", ") },
        },
      ),
    );
  });
  app.onError((error) => errorResponse(refusalOf(error)));

  async function guarded(request: Request, address: string): Promise<Response> {
    try {
      // It is made of the Host header, which may be anything.
      if (!URL.canParse(request.url)) {
        throw new HttpError(
          400,
          "no_address",
          "The Host header is no name. Expected one such as localhost:8686.",
        );
      }
      const { pathname } = new URL(request.url);
      if (pathname === "/healthz") return await app.fetch(request, { address });
      limit(address);
      checkAddress(request, names());
      if (token !== undefined && pathname !== "/readyz" && !isPage(pathname)) checkToken(request, token);
      return await app.fetch(await withBody(request), { address });
    } catch (error) {
      const refusal = refusalOf(error as Error);
      gauges.observe({ method: request.method, route: "refused", status: refusal.status, seconds: 0 });
      return errorResponse(refusal);
    }
  }

  return async (request, address) => {
    const response = await guarded(request, address);
    for (const [name, value] of Object.entries(SECURITY_HEADERS)) {
      if (!response.headers.has(name)) response.headers.set(name, value);
    }
    return response;
  };
}

/** Any error as a refusal; what was not foreseen is told on standard error and is ours. */
function refusalOf(error: Error): HttpError {
  if (error instanceof HttpError) return error;
  if (error instanceof HTTPException) return new HttpError(400, "bad_request", `${error.message}.`);
  console.error(error);
  return new HttpError(500, "failed", `The server failed: ${error.message} Its standard error has more.`);
}

/** Which methods each documented path has. */
function methodsOf(app: App): { pattern: RegExp; methods: string[] }[] {
  const paths = new Map<string, string[]>([["/openapi.json", ["GET"]]]);
  for (const definition of app.openAPIRegistry.definitions) {
    if (definition.type !== "route") continue;
    const { path, method } = definition.route;
    paths.set(path, [...paths.get(path) ?? [], method.toUpperCase()]);
  }
  return Array.from(paths, ([path, methods]) => ({
    pattern: new RegExp(`^${path.replace("{path}", ".+").replaceAll(/\{\w+\}/g, "[^/]+")}$`),
    methods,
  }));
}
