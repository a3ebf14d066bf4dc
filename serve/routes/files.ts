/**
 * What a run has made: checkpoints, models, reports.
 *
 * @module
 */
import { createRoute, z } from "@hono/zod-openapi";
import { type App, type Context, GUARDED, json, refusals } from "../context.ts";
import { byteRange, fileStream, listCheckpoints, listFiles, openRunFile } from "../run_files.ts";
import { findRun } from "../runs.ts";
import { checkpoint, file, runParam } from "../schemas.ts";

const checkpoints = createRoute({
  method: "get",
  path: "/runs/{id}/checkpoints",
  operationId: "listCheckpoints",
  summary: "Checkpoints, newest first; each is a folder of files that can be downloaded",
  request: { params: runParam },
  responses: {
    200: json("The checkpoints.", z.object({ checkpoints: z.array(checkpoint) })),
    ...GUARDED,
    ...refusals(404),
  },
});

const list = createRoute({
  method: "get",
  path: "/runs/{id}/files",
  operationId: "listFiles",
  summary: "Files that can be downloaded",
  request: { params: runParam },
  responses: {
    200: json("The files.", z.object({ files: z.array(file), truncated: z.boolean() })),
    ...GUARDED,
    ...refusals(404),
  },
});

/** Which of these it is, the end of the file's name says. */
const bytes = z.string().openapi({ format: "binary" });
const binary = {
  content: {
    "application/octet-stream": { schema: bytes },
    "text/html": { schema: bytes },
    "text/plain": { schema: bytes },
    "image/svg+xml": { schema: bytes },
  },
};

const download = createRoute({
  method: "get",
  path: "/runs/{id}/files/{path}",
  operationId: "downloadFile",
  summary: "A file, or a part of it",
  request: {
    params: runParam.extend({ path: z.string().openapi({ example: "report.html" }) }),
    headers: z.object({ range: z.string().optional().openapi({ example: "bytes=0-1023" }) }),
  },
  responses: {
    200: { description: "The file.", ...binary },
    206: { description: "The part.", ...binary },
    ...GUARDED,
    ...refusals(404, 416),
  },
});

const TYPES: Record<string, string> = {
  html: "text/html; charset=utf-8",
  txt: "text/plain; charset=utf-8",
  svg: "image/svg+xml",
};

/** A report is read in the browser, but nothing in it may run or speak to this server. */
const SANDBOX = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:";

/** Adds the routes. */
export function addFileRoutes(app: App, context: Context): void {
  app.openapi(checkpoints, (c) => {
    const run = findRun(context, c.req.valid("param").id);
    return c.json({ checkpoints: listCheckpoints(run) }, 200);
  });

  app.openapi(list, async (c) => c.json(await listFiles(findRun(context, c.req.valid("param").id)), 200));

  // The path of a file has slashes, for which OpenAPI has no word.
  app.openAPIRegistry.registerPath(download);
  app.get("/runs/:id/files/:path{.+}", async (c) => {
    const run = findRun(context, c.req.param("id")), path = c.req.param("path");
    const { file, bytes } = await openRunFile(run, path);
    let range: ReturnType<typeof byteRange>;
    try {
      range = byteRange(c.req.header("range"), bytes);
    } catch (error) {
      file.close();
      throw error;
    }
    const { from, to } = range ?? { from: 0, to: bytes - 1 };
    const headers: Record<string, string> = {
      "content-type": TYPES[path.split(".").at(-1)!] ?? "application/octet-stream",
      "content-length": String(to - from + 1),
      "content-security-policy": SANDBOX,
      "accept-ranges": "bytes",
    };
    if (range) headers["content-range"] = `bytes ${from}-${to}/${bytes}`;
    if (c.req.method === "HEAD") {
      file.close();
      return c.body(null, 200, headers);
    }
    return c.body(fileStream(file, from, to), range ? 206 : 200, headers);
  });
}
