/**
 * Metrics and samples of a run.
 *
 * @module
 */
import { createRoute, z } from "@hono/zod-openapi";
import { type App, type Context, GUARDED, json, refusals } from "../context.ts";
import { invalid } from "../http_error.ts";
import { breathe, plain } from "../json.ts";
import { keepAnswers } from "../kept.ts";
import { findPlace } from "../runs.ts";
import { point, runParam, sample, stepQuery, wholeNumber } from "../schemas.ts";
import { csv, MOST_POINTS, readSeries, type Series } from "../series.ts";

const metrics = createRoute({
  method: "get",
  path: "/runs/{id}/metrics",
  operationId: "getMetrics",
  summary: "Metrics, thinned out to max_points a series",
  description:
    "Where a series has more steps than max_points, neighbouring steps become one point with their mean (value), smallest and largest value. " +
    `At most ${MOST_POINTS} points in all: ask for fewer names, steps or points where truncated is true.`,
  request: {
    params: runParam,
    query: z.object({
      stage: z.string().optional(),
      name: z.union([z.string(), z.array(z.string())]).optional().openapi({
        type: "array",
        items: { type: "string" },
        anyOf: undefined,
        description: "Names of metrics; all if not given.",
      }),
      from_step: stepQuery("First step.").optional(),
      to_step: stepQuery("Last step.").optional(),
      max_points: wholeNumber("Points of a series at most; 500 if not given.", 1, 5000).optional(),
      format: z.enum(["json", "ndjson", "csv"]).default("json"),
    }),
  },
  responses: {
    200: {
      description: "The points in the order of stage, name and step.",
      content: {
        "application/json": { schema: z.object({ points: z.array(point), truncated: z.boolean() }) },
        "application/x-ndjson": { schema: z.string() },
        "text/csv": { schema: z.string() },
      },
    },
    ...GUARDED,
    ...refusals(404, 422),
  },
});

const samples = createRoute({
  method: "get",
  path: "/runs/{id}/samples",
  operationId: "getSamples",
  summary: "Samples with every component of their reward, in the order they were written",
  request: {
    params: runParam,
    query: z.object({
      stage: z.string().optional(),
      from_step: stepQuery("First step.").optional(),
      to_step: stepQuery("Last step.").optional(),
      split: z.enum(["train", "eval"]).optional(),
      search: z.string().max(200).optional().openapi({
        description: "A text that stands in the prompt or the completion, in upper or lower case.",
      }),
      limit: wholeNumber("Samples at most; 50 if not given.", 1, 500).optional(),
      offset: wholeNumber("Fitting samples to pass over.", 0, 1_000_000).optional(),
      after_row: wholeNumber("Samples after this row: quicker than an offset.", 0, Number.MAX_SAFE_INTEGER)
        .optional(),
    }),
  },
  responses: {
    200: json(
      "The samples; next_row is to be given as after_row for those that follow, null where there are none.",
      z.object({ samples: z.array(sample), next_row: z.int().nullable() }),
    ),
    ...GUARDED,
    ...refusals(404, 422),
  },
});

/** Samples that are looked through before others have their turn. */
const SAMPLES_AT_A_TIME = 500;

/** Adds the routes. */
export function addMetricRoutes(app: App, context: Context): void {
  const keep = keepAnswers<Table>();

  app.openapi(metrics, async (c) => {
    const run = findPlace(context, c.req.valid("param").id);
    const { stage, name = [], from_step, to_step, max_points = 500, format } = c.req.valid("query");
    const range = stepRange(from_step, to_step);
    const stages = run.stages.filter((one) => stage === undefined || one === stage);
    const query = { stages, names: [name].flat(), ...range, maxPoints: max_points };
    const reader = context.readers.of(run.dir);
    const make = async () => table(reader ? await readSeries(reader, query) : NONE, format);
    const { text, truncated } = reader
      ? await keep(reader, JSON.stringify([query, format]), make)
      : await make();
    const head = {
      "content-type": TYPES[format],
      ...format === "json" ? {} : { "x-truncated": `${truncated}` },
    };
    return c.body(text, 200, head);
  });

  app.openapi(samples, async (c) => {
    const run = findPlace(context, c.req.valid("param").id);
    const { stage, from_step, to_step, split, search, limit = 50, offset = 0, after_row = 0 } = c.req.valid(
      "query",
    );
    const range = stepRange(from_step, to_step), wanted = search?.toLowerCase();
    const found: z.output<typeof sample>[] = [];
    let left = offset, row = after_row;
    for (;;) {
      // Opened anew each time: it may be replaced while others have their turn.
      const page = context.readers.of(run.dir)?.samples(row, SAMPLES_AT_A_TIME, range, stage) ?? [];
      for (const one of page) {
        const fits = (split === undefined || one.split === split) &&
          (wanted === undefined ||
            [one.prompt, one.completion].some((text) => text.toLowerCase().includes(wanted)));
        if (fits && left > 0) left--;
        else if (fits && found.length === limit) return c.json({ samples: found, next_row: row }, 200);
        else if (fits) found.push({ ...one, rewards: plain(one.rewards) });
        row = one.row;
      }
      if (page.length < SAMPLES_AT_A_TIME) return c.json({ samples: found, next_row: null }, 200);
      await breathe();
    }
  });
}

const NONE = { points: [], truncated: false };

const TYPES = {
  json: "application/json",
  ndjson: "application/x-ndjson",
  csv: "text/csv; charset=utf-8",
};

/** Points as a text. */
interface Table {
  text: string;
  truncated: boolean;
}

function table(found: Series, format: keyof typeof TYPES): Table {
  const { points, truncated } = found;
  if (format === "csv") return { text: csv(points), truncated };
  if (format === "ndjson") {
    return { text: points.map((one) => JSON.stringify(one) + "\n").join(""), truncated };
  }
  return { text: JSON.stringify(found), truncated };
}

function stepRange(from = 0, to = Number.MAX_SAFE_INTEGER): { from: number; to: number } {
  if (from <= to) return { from, to };
  throw invalid("The query", [
    { path: "from_step", message: `Got ${from}, which is after to_step ${to}. Expected at most that.` },
  ]);
}
