/**
 * The page at `/`: files that the server carries with it, so that it works without a network and without a build.
 *
 * @module
 */
import uplotCss from "uplot/dist/uPlot.min.css" with { type: "text" };
import uplot from "uplot/dist/uPlot.iife.min.js" with { type: "text" };
import api from "../page/api.js" with { type: "text" };
import charts from "../page/charts.js" with { type: "text" };
import controls from "../page/controls.js" with { type: "text" };
import diff from "../page/diff.js" with { type: "text" };
import dom from "../page/dom.js" with { type: "text" };
import events from "../page/events.js" with { type: "text" };
import files from "../page/files.js" with { type: "text" };
import icon from "../page/icon.svg" with { type: "text" };
import index from "../page/index.html" with { type: "text" };
import knobs from "../page/knobs.js" with { type: "text" };
import metrics from "../page/metrics.js" with { type: "text" };
import css from "../page/page.css" with { type: "text" };
import page from "../page/page.js" with { type: "text" };
import runs from "../page/runs.js" with { type: "text" };
import samples from "../page/samples.js" with { type: "text" };
import { VERSION } from "../../src/run/version.ts";
import type { App } from "../context.ts";

const FILES: Record<string, string> = {
  "uplot.css": uplotCss,
  "uplot.js": uplot,
  "api.js": api,
  "charts.js": charts,
  "controls.js": controls,
  "diff.js": diff,
  "dom.js": dom,
  "events.js": events,
  "files.js": files,
  "icon.svg": icon,
  "knobs.js": knobs,
  "metrics.js": metrics,
  "page.css": css,
  "page.js": page,
  "runs.js": runs,
  "samples.js": samples,
};

const TYPES: Record<string, string> = {
  css: "text/css; charset=utf-8",
  js: "text/javascript; charset=utf-8",
  svg: "image/svg+xml",
};

/** Whether this is a file of the page, which may be read without a token: it asks for the token itself. */
export function isPage(path: string): boolean {
  return path === "/" || Object.keys(FILES).some((name) => path === `/page/${name}`);
}

/** Adds the routes. They are for browsers and stand in no document. */
export function addPageRoutes(app: App): void {
  app.get(
    "/",
    (c) => c.body(index, 200, { "content-type": "text/html; charset=utf-8", "cache-control": "no-cache" }),
  );
  for (const [name, text] of Object.entries(FILES)) {
    const headers = {
      "content-type": TYPES[name.split(".").at(-1)!],
      "cache-control": "no-cache",
      etag: `"${VERSION}-${text.length}"`,
    };
    app.get(`/page/${name}`, (c) => c.body(text, 200, headers));
  }
}
