/**
 * `run.db` as others read it: a page at a time, without writing, so that nobody waits long for whom it grew large.
 *
 * @module
 */
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { fromJson } from "./json.ts";
import type { EventRow, KnobRow, RequestRow, SampleRow } from "./rows.ts";

/** Metrics of one name over some neighbouring steps. */
export interface Bucket {
  /** The first of its steps. */
  step: number;
  /** When that was made, Unix time in seconds. */
  time: number;
  /** Values in it. */
  count: number;
  /** Smallest, largest and mean value; null where there is none but NaN. */
  min: number | null;
  max: number | null;
  mean: number | null;
}

/** One stored sample with its place. */
export interface NumberedSample extends SampleRow {
  /** From 1, growing. */
  row: number;
}

/** An entry of the stream whose data are still text. */
export interface RawStreamRow {
  seq: number;
  time: number;
  kind: string;
  stage: string;
  step: number;
  data: string;
}

/** Steps from and to, both inclusive. */
export interface StepRange {
  from: number;
  to: number;
}

/** Reads a run's database. */
export interface RunReader {
  /** The series `(stage, name)` that comes after this one in the order of stage and name. */
  seriesAfter(stage: string, name: string): { stage: string; name: string } | undefined;
  /** First and last step of a series; undefined where it has none. */
  range(stage: string, name: string): StepRange | undefined;
  /** Values of a series, `width` steps to a bucket counted from `from`. */
  buckets(stage: string, name: string, range: StepRange, width: number): Bucket[];
  /** All metrics of the last step of a stage. */
  lastMetrics(stage: string): Record<string, number>;
  /** Samples after row `row` within steps, at most `limit`, of all stages if none is given. */
  samples(row: number, limit: number, range: StepRange, stage?: string): NumberedSample[];
  /** Events after the `after`-th, at most `limit`. */
  events(after: number, limit: number): (EventRow & { id: number })[];
  /** The last `limit` events, of these kinds if given, in their order. */
  lastEvents(limit: number, kinds?: readonly string[]): (EventRow & { id: number })[];
  /** Requests after `after`, at most `limit`. */
  requests(after: number, limit: number): RequestRow[];
  /** The last `limit` requests that have no answer yet, in their order. */
  waiting(limit: number): RequestRow[];
  /** One request. */
  request(id: number): RequestRow | undefined;
  /** The journal of settings that were changed, the last `limit` of a stage. */
  knobs(stage: string, limit: number): KnobRow[];
  /** What was told after entry `seq`, at most `limit` entries. */
  stream(seq: number, limit: number): RawStreamRow[];
  /** Number of the last entry of the stream; 0 where there is none. */
  lastSeq(): number;
  /** The first and the last entry of the stream that belong to a stage. */
  ends(): { first?: RawStreamRow; last?: RawStreamRow };
  /** Closes the database. */
  close(): void;
}

/** Opens the existing `run.db` at `path` for reading. */
export function openReader(path: string): RunReader {
  const db = new DatabaseSync(path, { readOnly: true });
  db.exec("PRAGMA busy_timeout = 1000");
  const statements = new Map<string, StatementSync>();
  const all = <T>(sql: string, ...values: SQLInputValue[]): T[] => {
    let statement = statements.get(sql);
    if (!statement) statements.set(sql, statement = db.prepare(sql));
    return statement.all(...values) as T[];
  };
  const detailed = <T>(row: Record<string, unknown>): T =>
    ({ ...row, detail: fromJson(row.detail as string) }) as T;

  return {
    seriesAfter: (stage, name) =>
      all<{ stage: string; name: string }>(
        "SELECT stage, name FROM metrics WHERE (stage, name) > (?, ?) ORDER BY stage, name LIMIT 1",
        stage,
        name,
      )[0],
    range(stage, name) {
      const [{ first, last }] = all<Record<"first" | "last", number | null>>(
        `SELECT (SELECT MIN(step) FROM metrics WHERE stage = ?1 AND name = ?2) AS first,
          (SELECT MAX(step) FROM metrics WHERE stage = ?1 AND name = ?2) AS last`,
        stage,
        name,
      );
      return first === null || last === null ? undefined : { from: first, to: last };
    },
    buckets: (stage, name, { from, to }, width) =>
      all<Bucket>(
        `SELECT MIN(step) AS step, MIN(time) AS time, COUNT(*) AS count, MIN(value) AS min, MAX(value) AS max, AVG(value) AS mean
          FROM metrics WHERE stage = ?1 AND name = ?2 AND step BETWEEN ?3 AND ?4
          GROUP BY CAST((step - ?3) / ?5 AS INTEGER) ORDER BY 1`,
        stage,
        name,
        from,
        to,
        width,
      ),
    lastMetrics: (stage) =>
      Object.fromEntries(
        all<{ name: string; value: number | null }>(
          "SELECT name, value FROM metrics WHERE stage = ?1 AND step = (SELECT MAX(step) FROM metrics WHERE stage = ?1) ORDER BY name",
          stage,
        ).map(({ name, value }) => [name, value ?? NaN]),
      ),
    samples: (row, limit, { from, to }, stage) =>
      all<Record<string, unknown>>(
        `SELECT rowid AS row, * FROM samples WHERE rowid > ?1 AND step BETWEEN ?3 AND ?4
          AND (?5 IS NULL OR stage = ?5) ORDER BY rowid LIMIT ?2`,
        row,
        limit,
        from,
        to,
        stage ?? null,
      ).map((found) => ({ ...found, rewards: fromJson(found.rewards as string) }) as NumberedSample),
    events: (after, limit) =>
      all<Record<string, unknown>>(
        "SELECT rowid AS id, * FROM events WHERE rowid > ? ORDER BY rowid LIMIT ?",
        after,
        limit,
      ).map(detailed<EventRow & { id: number }>),
    lastEvents: (limit, kinds) =>
      all<Record<string, unknown>>(
        `SELECT rowid AS id, * FROM events ${
          kinds ? `WHERE kind IN (${kinds.map(() => "?").join(", ")})` : ""
        } ORDER BY rowid DESC LIMIT ?`,
        ...kinds ?? [],
        limit,
      ).reverse().map(detailed<EventRow & { id: number }>),
    requests: (after, limit) =>
      all<Record<string, unknown>>("SELECT * FROM requests WHERE id > ? ORDER BY id LIMIT ?", after, limit)
        .map(detailed<RequestRow>),
    waiting: (limit) =>
      all<Record<string, unknown>>(
        "SELECT * FROM requests WHERE answered IS NULL ORDER BY id DESC LIMIT ?",
        limit,
      ).reverse().map(detailed<RequestRow>),
    request: (id) =>
      all<Record<string, unknown>>("SELECT * FROM requests WHERE id = ?", id).map(detailed<RequestRow>)[0],
    knobs: (stage, limit) =>
      all<Record<string, unknown>>(
        "SELECT * FROM knobs WHERE stage = ? ORDER BY rowid DESC LIMIT ?",
        stage,
        limit,
      ).reverse().map((row) => ({ ...row, value: row.value ?? NaN }) as unknown as KnobRow),
    stream: (seq, limit) => all("SELECT * FROM stream WHERE seq > ? ORDER BY seq LIMIT ?", seq, limit),
    lastSeq: () => all<{ seq: number | null }>("SELECT MAX(seq) AS seq FROM stream")[0].seq ?? 0,
    ends: () => ({
      first: all<RawStreamRow>("SELECT * FROM stream ORDER BY seq LIMIT 1")[0],
      last: all<RawStreamRow>("SELECT * FROM stream WHERE stage <> '' ORDER BY seq DESC LIMIT 1")[0],
    }),
    close: () => db.close(),
  };
}
