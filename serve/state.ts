/**
 * `serve.db`: the queue, the processes that the server started, and a journal of what it did.
 *
 * What a run is doing is read from its own directory. Here stands only what no directory tells: what waits, which process
 * was started for what, and how it ended. Each change is one transaction, so a server that is killed at any moment has
 * done a thing or will do it again.
 *
 * @module
 */
import { DatabaseSync, type SQLInputValue } from "node:sqlite";

/** How a run is to be started. */
export interface Start {
  /** The run. */
  run: string;
  /** A checkpoint to go back to first. */
  checkpoint?: string;
}

/** The last process that was started for a run. */
export interface ProcessRow {
  run: string;
  pid: number;
  /** Unix time in seconds of its start. */
  started: number;
  /** Unix time of its end; null while it goes, or if it ended unseen. */
  ended: number | null;
  /** Exit code and signal, as far as they were seen. */
  code: number | null;
  signal: string | null;
}

/** One line of the journal. */
export interface JournalRow {
  time: number;
  /** What was done: queued, started, ended, … */
  what: string;
  detail: Record<string, unknown>;
}

/** The server's database. */
export interface ServerState {
  /** Puts a run at the end of the queue; one that is there keeps its place. */
  enqueue(start: Start): void;
  /** Takes a run out of the queue; returns whether it was there. */
  dequeue(run: string, why: string): boolean;
  /** What waits, first come first. */
  queue(): Start[];
  /** A process was started for a run, which waits no longer. */
  started(run: string, pid: number): void;
  /** A process was seen to end. */
  ended(run: string, pid: number, code: number | null, signal: string | null): void;
  /** The last process of a run. */
  process(run: string): ProcessRow | undefined;
  /** Writes a line into the journal. */
  note(run: string, what: string, detail?: Record<string, unknown>): void;
  /** The last `limit` lines about a run. */
  journal(run: string, limit: number): JournalRow[];
  /** Forgets a run. */
  forget(run: string): void;
  /** Throws where the database cannot be used. */
  check(): void;
  close(): void;
}

const SCHEMA = `
  PRAGMA busy_timeout = 1000;
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = FULL;
  CREATE TABLE IF NOT EXISTS queue (place INTEGER PRIMARY KEY AUTOINCREMENT, run TEXT NOT NULL UNIQUE, checkpoint TEXT);
  CREATE TABLE IF NOT EXISTS processes (
    run TEXT PRIMARY KEY, pid INTEGER NOT NULL, started REAL NOT NULL, ended REAL, code INTEGER, signal TEXT
  );
  CREATE TABLE IF NOT EXISTS journal (time REAL NOT NULL, run TEXT NOT NULL, what TEXT NOT NULL, detail TEXT NOT NULL);
  CREATE INDEX IF NOT EXISTS journal_of_run ON journal (run);
`;

const now = () => Date.now() / 1000;

/** Opens the database at `path`, which is created where it does not exist. */
export function openState(path: string): ServerState {
  const db = new DatabaseSync(path);
  db.exec(SCHEMA);
  const run = (sql: string, ...values: SQLInputValue[]) => Number(db.prepare(sql).run(...values).changes);
  const all = (sql: string, ...values: SQLInputValue[]) => db.prepare(sql).all(...values);
  const note = (name: string, what: string, detail: Record<string, unknown> = {}) =>
    void run(
      "INSERT INTO journal (time, run, what, detail) VALUES (?, ?, ?, ?)",
      now(),
      name,
      what,
      JSON.stringify(detail),
    );

  /** All or nothing. */
  function write<T>(action: () => T): T {
    db.exec("BEGIN IMMEDIATE");
    try {
      const result = action();
      db.exec("COMMIT");
      return result;
    } catch (error) {
      if (db.isTransaction) db.exec("ROLLBACK");
      throw error;
    }
  }

  return {
    enqueue: ({ run: name, checkpoint }) =>
      write(() => {
        run(
          "INSERT INTO queue (run, checkpoint) VALUES (?1, ?2) ON CONFLICT (run) DO UPDATE SET checkpoint = ?2",
          name,
          checkpoint ?? null,
        );
        note(name, "queued", checkpoint === undefined ? {} : { checkpoint });
      }),
    dequeue: (name, why) =>
      write(() => {
        const found = run("DELETE FROM queue WHERE run = ?", name) > 0;
        if (found) note(name, "dequeued", { why });
        return found;
      }),
    queue: () =>
      all("SELECT run, checkpoint FROM queue ORDER BY place").map(({ run, checkpoint }) => ({
        run: run as string,
        checkpoint: (checkpoint as string | null) ?? undefined,
      })),
    started: (name, pid) =>
      write(() => {
        run("DELETE FROM queue WHERE run = ?", name);
        run(
          "INSERT OR REPLACE INTO processes (run, pid, started) VALUES (?, ?, ?)",
          name,
          pid,
          now(),
        );
        note(name, "started", { pid });
      }),
    ended: (name, pid, code, signal) =>
      write(() => {
        run(
          "UPDATE processes SET ended = ?, code = ?, signal = ? WHERE run = ? AND pid = ?",
          now(),
          code,
          signal,
          name,
          pid,
        );
        note(name, "ended", { pid, code, signal });
      }),
    process: (name) =>
      all("SELECT * FROM processes WHERE run = ?", name)[0] as unknown as ProcessRow | undefined,
    note: (name, what, detail) => note(name, what, detail),
    journal: (name, limit) =>
      all("SELECT time, what, detail FROM journal WHERE run = ? ORDER BY rowid DESC LIMIT ?", name, limit)
        .reverse().map(({ time, what, detail }) => ({
          time: time as number,
          what: what as string,
          detail: JSON.parse(detail as string),
        })),
    forget: (name) =>
      write(() => {
        for (const table of ["queue", "processes", "journal"]) {
          run(`DELETE FROM ${table} WHERE run = ?`, name);
        }
        note(name, "deleted");
      }),
    check: () => void all("SELECT COUNT(*) FROM queue"),
    close: () => db.close(),
  };
}
