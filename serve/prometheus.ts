/**
 * What Prometheus is told.
 *
 * @module
 */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import type { Context } from "./context.ts";
import { breathe } from "./json.ts";
import { runIds, type RunState, viewRun } from "./runs.ts";
import { runRow } from "./views.ts";

/** Metrics of the server and its runs. */
export interface Gauges {
  contentType: string;
  /** Counts a request. */
  observe(request: { method: string; route: string; status: number; seconds: number }): void;
  /** Everything in Prometheus' text format. */
  text(): Promise<string>;
}

const STATES: RunState[] = ["queued", "going", "paused", "stopped", "failed", "finished"];

/** Runs whose steps and metrics are told, those that are going first. */
const MOST_RUNS = 50;

/** Makes the metrics of a server. */
export function openGauges(context: Context): Gauges {
  const registers = [new Registry()];
  const requests = new Counter({
    name: "keel_http_requests_total",
    help: "Requests by route and status.",
    labelNames: ["method", "route", "status"],
    registers,
  });
  const durations = new Histogram({
    name: "keel_http_request_duration_seconds",
    help: "Seconds until a response began.",
    labelNames: ["route"],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30],
    registers,
  });
  const gauge = <L extends string>(name: string, help: string, labelNames: L[]) =>
    new Gauge({ name, help, labelNames, registers });
  const runs = gauge("keel_runs", "Runs by state.", ["state"]);
  const steps = gauge("keel_run_step", "Last step of the stage that a run is in.", ["run", "stage"]);
  const values = gauge("keel_run_metric", "Metrics of the last step: rewards, KL, loss.", [
    "run",
    "stage",
    "metric",
  ]);
  const streams = gauge("keel_streams", "Event streams that are open.", []);

  return {
    contentType: registers[0].contentType,
    observe({ method, route, status, seconds }) {
      requests.inc({ method, route, status });
      durations.observe({ route }, seconds);
    },
    async text() {
      const rows = [];
      for (const id of runIds(context.runsDir)) {
        const view = viewRun(context, id);
        if (view) rows.push(runRow(context, view));
        await breathe();
      }
      for (const state of STATES) runs.set({ state }, rows.filter((row) => row.state === state).length);
      steps.reset();
      values.reset();
      rows.sort((a, b) =>
        Number(b.pid !== null) - Number(a.pid !== null) || (b.updated ?? 0) - (a.updated ?? 0)
      );
      for (const { id: run, stage, step, metrics } of rows.slice(0, MOST_RUNS)) {
        steps.set({ run, stage }, step);
        for (const [metric, value] of Object.entries(metrics)) {
          values.set({ run, stage, metric }, Number(value));
        }
      }
      streams.set(context.tails.count());
      return await registers[0].metrics();
    },
  };
}
