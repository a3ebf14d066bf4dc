/**
 * Runs, events and requests as they are given out.
 *
 * @module
 */
import type { z } from "@hono/zod-openapi";
import type { EventRow, RequestRow } from "../src/run/rows.ts";
import type { Context } from "./context.ts";
import { plain } from "./json.ts";
import type { RunView } from "./runs.ts";
import type { event, request, run, runDetail } from "./schemas.ts";

/** Metrics that stand in the list of runs. */
const HEADLINES =
  /^(loss|accuracy|mean_token_accuracy|objective\/(kl|scores|rlhf_reward|kl_coef)|gold\/reward|eval\/(proxy|kl)|eval_loss|eval_accuracy)$/;

const EVENTS = 20, JOURNAL = 50, PENDING = 100;

/** A run in the list. */
export function runRow(context: Context, view: RunView): z.output<typeof run> {
  const { id, method, state, stages, stage, step, total, created, updated, holder, dir } = view;
  const metrics = Object.entries(context.readers.of(dir)?.lastMetrics(stage) ?? {});
  return {
    id,
    method,
    state,
    stages,
    stage,
    step,
    total,
    created,
    updated,
    pid: holder?.pid ?? null,
    metrics: plain(Object.fromEntries(metrics.filter(([name]) => HEADLINES.test(name)))),
  };
}

/** A run with everything that is known of it. */
export function runPage(context: Context, view: RunView): z.output<typeof runDetail> {
  const reader = context.readers.of(view.dir);
  const place = context.state.queue().findIndex((start) => start.run === view.id);
  return {
    ...runRow(context, view),
    metrics: plain(reader?.lastMetrics(view.stage) ?? {}),
    config: view.config ? plain({ ...view.config }) as Record<string, unknown> : null,
    queue_place: place < 0 ? null : place + 1,
    pending: reader?.waiting(PENDING).map(requestRow) ?? [],
    events: reader?.lastEvents(EVENTS).map(eventRow) ?? [],
    stream_end: reader?.lastSeq() ?? 0,
    failure: view.failure ?? null,
    journal: context.state.journal(view.id, JOURNAL),
  };
}

/** An event. */
export function eventRow({ id, time, stage, step, kind, detail }: EventRow & { id: number }): z.output<
  typeof event
> {
  return { id, time, stage, step, kind, detail: plain(detail) };
}

/** A request. */
export function requestRow(row: RequestRow): z.output<typeof request> {
  const { id, time, who, stage, kind, detail, answered, step, refusal } = row;
  const state = answered === null ? "waiting" : refusal === null ? "done" : "refused";
  return { id, time, who, stage, kind, detail: plain(detail), state, answered, step, refusal };
}
