/**
 * Rows that a command has finished, in `run.db`, so that it goes on after any kill without doing them again.
 *
 * @module
 */
import { DatabaseSync } from "node:sqlite";
import { fromJson, toJson } from "./json.ts";

/** Finished rows by number. */
export interface FinishedRows<T> {
  /** Keeps rows, all or none. */
  add(rows: { row: number; value: T }[]): void;
  /** Whether a row is finished. */
  has(row: number): boolean;
  /** How many are finished. */
  count(): number;
  /** What was kept, in the order of the rows, one at a time. */
  all(): Generator<T>;
  /** Closes the database. */
  close(): void;
}

const SCHEMA = `
  PRAGMA busy_timeout = 5000;
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = NORMAL;
  CREATE TABLE IF NOT EXISTS finished_rows (
    row INTEGER PRIMARY KEY, value TEXT NOT NULL, time REAL NOT NULL
  );
`;

/** Opens the finished rows in the database at `path`, beside everything else that is in it. */
export function openFinishedRows<T>(path: string): FinishedRows<T> {
  const attempt = <R>(action: () => R): R => {
    try {
      return action();
    } catch (error) {
      throw new Error(`Cannot use ${path}: ${(error as Error).message}.`, { cause: error });
    }
  };
  const db = attempt(() => {
    const opened = new DatabaseSync(path);
    opened.exec(SCHEMA);
    return opened;
  });
  const insert = db.prepare("INSERT OR REPLACE INTO finished_rows (row, value, time) VALUES (?, ?, ?)");
  const find = db.prepare("SELECT 1 FROM finished_rows WHERE row = ?");
  const counted = db.prepare("SELECT COUNT(*) AS count FROM finished_rows");
  return {
    add: (rows) =>
      attempt(() => {
        db.exec("BEGIN IMMEDIATE");
        try {
          for (const { row, value } of rows) insert.run(row, toJson(value), Date.now() / 1000);
          db.exec("COMMIT");
        } catch (error) {
          if (db.isTransaction) db.exec("ROLLBACK");
          throw error;
        }
      }),
    has: (row) => attempt(() => find.get(row)) !== undefined,
    count: () => Number(attempt(() => counted.get())!.count),
    *all() {
      // By pages of keys, so that rows may be added while these are read.
      const page = db.prepare("SELECT row, value FROM finished_rows WHERE row > ? ORDER BY row LIMIT 256");
      for (let last = -1;;) {
        const rows = attempt(() => page.all(last)) as { row: number; value: string }[];
        if (rows.length === 0) return;
        for (const { row, value } of rows) {
          yield fromJson(value) as T;
          last = row;
        }
      }
    },
    close: () => attempt(() => db.close()),
  };
}
