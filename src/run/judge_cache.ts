/**
 * A judge's answers in `run.db`, so that a resumed run does not ask, and pay, for them again.
 *
 * @module
 */
import { DatabaseSync } from "node:sqlite";

/** Answers by key. */
export interface JudgeAnswers {
  /** The answer; undefined where there is none. */
  get(key: string): string | undefined;
  /** Keeps an answer, in place of an earlier one. */
  set(key: string, value: string): void;
  /** Answers that are kept. */
  count(): number;
  /** Closes the database. */
  close(): void;
}

const SCHEMA = `
  PRAGMA busy_timeout = 5000;
  PRAGMA journal_mode = WAL;
  PRAGMA synchronous = NORMAL;
  CREATE TABLE IF NOT EXISTS judge_answers (
    key TEXT PRIMARY KEY, value TEXT NOT NULL, time REAL NOT NULL
  ) WITHOUT ROWID;
`;

/** Opens the answers in the database at `path`, beside everything else that is in it. */
export function openJudgeAnswers(path: string): JudgeAnswers {
  const attempt = <T>(action: () => T): T => {
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
  const read = db.prepare("SELECT value FROM judge_answers WHERE key = ?");
  const write = db.prepare("INSERT OR REPLACE INTO judge_answers (key, value, time) VALUES (?, ?, ?)");
  const counted = db.prepare("SELECT COUNT(*) AS count FROM judge_answers");
  return {
    get: (key) => attempt(() => read.get(key))?.value as string | undefined,
    set: (key, value) => void attempt(() => write.run(key, value, Date.now() / 1000)),
    count: () => Number(attempt(() => counted.get())!.count),
    close: () => attempt(() => db.close()),
  };
}
