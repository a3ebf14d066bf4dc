/**
 * Asking the process of a run for something, through its database, and waiting for the answer.
 *
 * @module
 */
import { join } from "node:path";
import type { RequestRow } from "../src/run/rows.ts";
import { openStore } from "../src/run/store.ts";
import type { Context } from "./context.ts";
import { HttpError } from "./http_error.ts";
import { holderOf, type RunView } from "./runs.ts";

/** Milliseconds between two looks at whether it was answered. */
const LOOK = 25;

/** Writes a request into a run's database and returns its number. */
export function ask(
  run: RunView,
  request: Pick<RequestRow, "who" | "kind" | "stage"> & { detail?: Record<string, unknown> },
): number {
  const store = openStore(join(run.dir, "run.db"));
  try {
    return store.ask(request);
  } finally {
    store.close();
  }
}

/** The request as it is after at most `seconds`, or earlier if it was answered or the run's process is gone. */
export async function waitForAnswer(
  context: Context,
  run: RunView,
  id: number,
  seconds: number,
): Promise<RequestRow> {
  const until = Date.now() + seconds * 1000;
  for (;;) {
    const row = findRequest(context, run, id);
    if (row.answered !== null || Date.now() >= until || !holderOf(context, run.id)) return row;
    await new Promise((resolve) => setTimeout(resolve, LOOK));
  }
}

/** @throws {HttpError} 404 where the run has no such request. */
export function findRequest(context: Context, run: RunView, id: number): RequestRow {
  const row = context.readers.of(run.dir)?.request(id);
  if (row) return row;
  throw new HttpError(
    404,
    "no_such_request",
    `Run ${run.id} has no request ${id}. GET /runs/${run.id}/requests lists them.`,
  );
}

/** @throws {HttpError} 409 where a request was refused. */
export function refusedBy({ id, refusal }: RequestRow): void {
  if (refusal === null) return;
  throw new HttpError(409, "refused", `The run refused request ${id}. ${refusal}`);
}
