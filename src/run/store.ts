/**
 * `run.db`: metrics, samples, events and knobs of a run, in SQLite.
 *
 * The database is in WAL mode, so it can be read while a run writes it. Nothing is fsynced per step; what a crash of the
 * machine (not of the process) may lose is at most what came after the last checkpoint, because {@linkcode RunStore.sync}
 * comes before each.
 *
 * Metrics that are not finite survive: ±Infinity is stored as itself and NaN, which SQLite does not know, as NULL.
 *
 * @module
 */
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { fromJson, toJson } from "./json.ts";
import type {
  EventRow,
  KnobRow,
  LoggedStep,
  MetricRow,
  RequestRow,
  Sample,
  SampleRow,
  StreamRow,
} from "./rows.ts";

export type {
  EventRow,
  KnobRow,
  LoggedStep,
  MetricRow,
  RequestKind,
  RequestRow,
  Sample,
  SampleRow,
  StreamRow,
} from "./rows.ts";

/** The database of a run. */
export interface RunStore {
  /** Stores the metrics of a step. */
  appendMetrics(stage: string, step: number, metrics: Record<string, number>): void;
  /** Adds samples to a step. */
  appendSamples(stage: string, step: number, samples: Sample[]): void;
  /** Records that something happened. */
  appendEvent(stage: string, step: number, kind: string, detail?: Record<string, unknown>): void;
  /** Settings that hold from `step` on, all or none; with the request that asked for them, which is answered. */
  turnKnobs(
    stage: string,
    step: number,
    knobs: Record<string, number>,
    by: { who: string; id?: number },
  ): void;
  /** Asks something of the process that trains; returns the request's id. */
  ask(request: Pick<RequestRow, "who" | "kind"> & Partial<Pick<RequestRow, "stage" | "detail">>): number;
  /** Requests without an answer that `stage` may answer, in their order. */
  waiting(stage: string): RequestRow[];
  /** Answers a request: done, or refused with a reason. An event tells of it. */
  answer({ id, kind, who }: RequestRow, stage: string, step: number, refusal?: string): void;
  /** All requests in their order. */
  requests(): RequestRow[];
  /** What was told after entry `seq`, at most `limit` entries. */
  stream(seq: number, limit: number): StreamRow[];
  /** Metrics in the order of steps, of one stage or name if given. */
  metrics(stage?: string, name?: string): MetricRow[];
  /** Steps of a stage in their order, one at a time, each with its metrics in the order of their names. */
  steps(stage: string, from?: number, to?: number): Generator<LoggedStep>;
  /** Samples of a step in the order they were written. */
  samplesOf(stage: string, step: number): SampleRow[];
  /** Samples in the order they were written. */
  samples(stage?: string): SampleRow[];
  /** Events in the order they happened. */
  events(stage?: string): EventRow[];
  /** Changes of settings in the order they were made. */
  knobs(stage?: string): KnobRow[];
  /**
   * Drops metrics and samples of later steps of a stage, which a resumed run is about to write again. Events and knobs are
   * history and stay; a `resumed` event is added.
   */
  truncateAfter(stage: string, step: number): void;
  /**
   * Drops metrics, samples and knobs of later steps of a stage, which goes on from `step` as if they had not been; what was
   * dropped is told in a `rolled_back` event. With the request that asked for it, which is answered.
   */
  rollBack(stage: string, step: number, by: { who: string; id?: number }): void;
  /** Makes everything written so far safe on disk. */
  sync(): void;
  /** Closes the database. */
  close(): void;
}

const SCHEMA = `
  PRAGMA busy_timeout = 5000;
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = NORMAL;
  CREATE TABLE IF NOT EXISTS metrics (
    step INTEGER NOT NULL, name TEXT NOT NULL, value REAL, stage TEXT NOT NULL, time REAL NOT NULL,
    PRIMARY KEY (stage, step, name)
  ) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS metrics_by_name ON metrics (stage, name, step, value, time);
  CREATE TABLE IF NOT EXISTS samples (
    step INTEGER NOT NULL, stage TEXT NOT NULL, prompt TEXT NOT NULL, completion TEXT NOT NULL,
    tokens INTEGER NOT NULL, rewards TEXT NOT NULL, split TEXT NOT NULL
  );
  CREATE INDEX IF NOT EXISTS samples_of_stage ON samples (stage, step);
  CREATE TABLE IF NOT EXISTS events (
    time REAL NOT NULL, step INTEGER NOT NULL, stage TEXT NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL
  );
  CREATE TABLE IF NOT EXISTS knobs (
    step INTEGER NOT NULL, stage TEXT NOT NULL, name TEXT NOT NULL, value REAL, who TEXT NOT NULL, time REAL NOT NULL
  );
  CREATE TABLE IF NOT EXISTS stream (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, kind TEXT NOT NULL, stage TEXT NOT NULL,
    step INTEGER NOT NULL, data TEXT NOT NULL
  );
  CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL, who TEXT NOT NULL, stage TEXT, kind TEXT NOT NULL,
    detail TEXT NOT NULL, answered REAL, step INTEGER, refusal TEXT
  );
`;

/** SQLite's text ends at a NUL for many readers; the picture of one (U+2400) takes its place. */
const visible = (text: string) => text.replaceAll("\0", "\u2400");

const now = () => Date.now() / 1000;

/** Opens `run.db` at `path`, which is created where it does not exist. */
export function openStore(path: string): RunStore {
  const db = attempt(() => {
    const opened = new DatabaseSync(path);
    opened.exec(SCHEMA);
    return opened;
  });
  const statements = new Map<string, StatementSync>();

  /** Runs `action`; an error of SQLite names the file. */
  function attempt<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      throw new Error(`Cannot use ${path}: ${(error as Error).message}.`, { cause: error });
    }
  }

  function prepared(sql: string): StatementSync {
    let statement = statements.get(sql);
    if (!statement) statements.set(sql, statement = db.prepare(sql));
    return statement;
  }

  /** All or nothing, in one transaction. */
  function write(action: () => void): void {
    attempt(() => {
      db.exec("BEGIN IMMEDIATE");
      try {
        action();
        db.exec("COMMIT");
      } catch (error) {
        if (db.isTransaction) db.exec("ROLLBACK");
        throw error;
      }
    });
  }

  function insertEvent(stage: string, step: number, kind: string, detail: Record<string, unknown>): void {
    prepared("INSERT INTO events (time, step, stage, kind, detail) VALUES (?, ?, ?, ?, ?)")
      .run(now(), step, stage, kind, toJson(detail));
    tell(kind, stage, step, detail);
  }

  function tell(kind: string, stage: string, step: number, data: Record<string, unknown>): void {
    prepared("INSERT INTO stream (time, kind, stage, step, data) VALUES (?, ?, ?, ?, ?)")
      .run(now(), kind, stage, step, toJson(data));
  }

  function setAnswer(id: number, step: number, refusal: string | null): void {
    prepared("UPDATE requests SET answered = ?, step = ?, refusal = ? WHERE id = ?").run(
      now(),
      step,
      refusal,
      id,
    );
  }

  function dropAfter(stage: string, step: number) {
    const metrics = prepared("DELETE FROM metrics WHERE stage = ? AND step > ?").run(stage, step);
    const samples = prepared("DELETE FROM samples WHERE stage = ? AND step > ?").run(stage, step);
    return { droppedMetrics: Number(metrics.changes), droppedSamples: Number(samples.changes) };
  }

  const sampleOf = (row: Record<string, unknown>) =>
    ({ ...row, rewards: fromJson(row.rewards as string) }) as unknown as SampleRow;
  const requestOf = (row: Record<string, unknown>) =>
    ({ ...row, detail: fromJson(row.detail as string) }) as unknown as RequestRow;

  /** Rows of a table; each filter whose value is undefined lets everything through. */
  function select(table: string, filters: Record<string, string | undefined>, order: string) {
    const given = Object.entries(filters).filter((entry): entry is [string, string] =>
      entry[1] !== undefined
    );
    const where = given.length ? ` WHERE ${given.map(([name]) => `${name} = ?`).join(" AND ")}` : "";
    return attempt(() =>
      prepared(`SELECT * FROM ${table}${where} ORDER BY ${order}`).all(...given.map(([, value]) => value))
    );
  }

  return {
    appendMetrics(stage, step, metrics) {
      write(() => {
        const insert = prepared(
          "INSERT OR REPLACE INTO metrics (step, name, value, stage, time) VALUES (?, ?, ?, ?, ?)",
        );
        const time = now();
        for (const [name, value] of Object.entries(metrics)) insert.run(step, name, value, stage, time);
        tell("metrics", stage, step, metrics);
      });
    },
    appendSamples(stage, step, samples) {
      write(() => {
        const insert = prepared(
          "INSERT INTO samples (step, stage, prompt, completion, tokens, rewards, split) VALUES (?, ?, ?, ?, ?, ?, ?)",
        );
        for (const { prompt, completion, tokens, rewards, split = "train" } of samples) {
          insert.run(step, stage, visible(prompt), visible(completion), tokens, toJson(rewards), split);
        }
        tell("samples", stage, step, { count: samples.length });
      });
    },
    appendEvent(stage, step, kind, detail = {}) {
      write(() => insertEvent(stage, step, kind, detail));
    },
    turnKnobs(stage, step, knobs, { who, id }) {
      write(() => {
        const insert = prepared(
          "INSERT INTO knobs (step, stage, name, value, who, time) VALUES (?, ?, ?, ?, ?, ?)",
        );
        for (const [name, value] of Object.entries(knobs)) insert.run(step, stage, name, value, who, now());
        insertEvent(stage, step - 1, "knobs", { ...knobs, who, from_step: step });
        if (id !== undefined) setAnswer(id, step - 1, null);
      });
    },
    ask({ who, kind, stage = null, detail = {} }) {
      let id = 0;
      write(() => {
        id = Number(
          prepared("INSERT INTO requests (time, who, stage, kind, detail) VALUES (?, ?, ?, ?, ?)")
            .run(now(), who, stage, kind, toJson(detail)).lastInsertRowid,
        );
      });
      return id;
    },
    waiting: (stage) =>
      attempt(() =>
        prepared("SELECT * FROM requests WHERE answered IS NULL AND (stage IS NULL OR stage = ?) ORDER BY id")
          .all(stage)
      ).map(requestOf),
    answer({ id, kind, who }, stage, step, refusal) {
      write(() => {
        setAnswer(id, step, refusal ?? null);
        insertEvent(stage, step, refusal ? "refused" : kind, {
          who,
          ...(refusal ? { asked: kind, refusal } : {}),
        });
      });
    },
    requests: () => select("requests", {}, "id").map(requestOf),
    stream: (seq, limit) =>
      attempt(() => prepared("SELECT * FROM stream WHERE seq > ? ORDER BY seq LIMIT ?").all(seq, limit))
        .map((row) => ({ ...row, data: fromJson(row.data as string) }) as unknown as StreamRow),
    metrics: (stage, name) =>
      select("metrics", { stage, name }, "stage, step, name").map((row) =>
        ({ ...row, value: row.value ?? NaN }) as unknown as MetricRow
      ),
    *steps(stage, from = 0, to = Number.MAX_SAFE_INTEGER) {
      const rows = attempt(() =>
        prepared(
          "SELECT step, name, value, time FROM metrics WHERE stage = ? AND step BETWEEN ? AND ? ORDER BY step, name",
        ).iterate(stage, from, to)
      ) as Iterable<{ step: number; name: string; value: number | null; time: number }>;
      let logged: LoggedStep | undefined;
      for (const { step, name, value, time } of rows) {
        if (logged && logged.step !== step) {
          yield logged;
          logged = undefined;
        }
        logged ??= { step, time, metrics: {} };
        logged.metrics[name] = value ?? NaN;
      }
      if (logged) yield logged;
    },
    samplesOf: (stage, step) =>
      attempt(() =>
        prepared("SELECT * FROM samples WHERE stage = ? AND step = ? ORDER BY rowid").all(stage, step)
      ).map(sampleOf),
    samples: (stage) => select("samples", { stage }, "rowid").map(sampleOf),
    events: (stage) =>
      select("events", { stage }, "rowid").map((row) =>
        ({ ...row, detail: fromJson(row.detail as string) }) as unknown as EventRow
      ),
    knobs: (stage) =>
      select("knobs", { stage }, "rowid").map((row) =>
        ({ ...row, value: row.value ?? NaN }) as unknown as KnobRow
      ),
    truncateAfter(stage, step) {
      write(() => {
        const dropped = dropAfter(stage, step);
        // A stage that had not begun is not resumed.
        if (step < 0 && dropped.droppedMetrics === 0) return;
        insertEvent(stage, Math.max(0, step), "resumed", dropped);
      });
    },
    rollBack(stage, step, { who, id }) {
      write(() => {
        const from = prepared("SELECT MAX(step) AS step FROM metrics WHERE stage = ?").get(stage)?.step ?? 0;
        const knobs = prepared(
          "SELECT step, name, value FROM knobs WHERE stage = ? AND step > ? ORDER BY rowid",
        )
          .all(stage, step);
        prepared("DELETE FROM knobs WHERE stage = ? AND step > ?").run(stage, step);
        insertEvent(stage, step, "rolled_back", {
          who,
          from,
          ...dropAfter(stage, step),
          droppedKnobs: knobs.map((row) => ({ ...row })),
        });
        if (id !== undefined) setAnswer(id, step, null);
      });
    },
    sync: () => attempt(() => void prepared("PRAGMA wal_checkpoint(PASSIVE)").all()),
    close: () => attempt(() => db.close()),
  };
}
