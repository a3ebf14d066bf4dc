/**
 * Processes of runs: starting one that survives the server, and telling whether one still goes.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { isAlive, processTable, sendSignal } from "./process_table.ts";

/** The holder of a run's lock. */
export interface Holder {
  pid: number;
  /** Unix time in seconds at which it took the lock. */
  since: number;
}

/** What keel's training commands are allowed to do; the same as the task `keel`. */
const PERMISSIONS = [
  "--allow-read",
  "--allow-write",
  "--allow-net",
  "--allow-env=INIT_CWD,HF_ENDPOINT,HF_TOKEN,HF_HOME,HF_HUB_CACHE,HF_HUB_OFFLINE,OPENAI_API_KEY,KEEL_JUDGE_API_KEY,XDG_CACHE_HOME,HOME,USERPROFILE",
  "--allow-sys=hostname,statfs,systemMemoryInfo",
];

const MAIN = import.meta.resolve("../src/cli/main.ts"), MANIFEST = import.meta.resolve("../deno.json");

/** Processes that this server started and that it has not seen to end. */
const children = new Set<number>();

/** Whether process `pid` goes, which is the one that went at the time `since`. */
export function goes(pid: number, since: number): boolean {
  return children.has(pid) || isAlive(pid, since);
}

/** Ends a process at once. */
export function killProcess(pid: number): void {
  sendSignal(pid, "SIGKILL");
}

/** Who holds the lock of the run in `dir`, if anyone who is alive. The lock itself is not touched. */
export function lockHolder(dir: string): Holder | undefined {
  try {
    const { pid, host, start } = JSON.parse(Deno.readTextFileSync(join(dir, "lock")));
    const since = Date.parse(start) / 1000;
    return host === Deno.hostname() && goes(pid, since) ? { pid, since } : undefined;
  } catch {
    // No lock, or an empty one: nobody holds it.
    return undefined;
  }
}

/** The process that was started for the run in `dir`, found by its command line. */
export function findKeel(dir: string): number | undefined {
  for (const { pid, zombie, command } of processTable(true).values()) {
    if (!zombie && command.includes(` ${MAIN} `) && command.includes(` --output_dir ${dir} `)) return pid;
  }
}

/**
 * Starts `keel COMMAND` in a process and session of its own, which the server's end does not touch; what it prints is added
 * to `log`.
 */
export function startKeel(
  argv: string[],
  { cwd, log, ended }: {
    cwd: string;
    log: string;
    ended: (code: number | null, signal: string | null) => void;
  },
): number {
  const config = MANIFEST.startsWith("file:") ? ["--config", fileURLToPath(MANIFEST)] : [];
  const file = openSync(log, "a", 0o600);
  try {
    const child = spawn(
      Deno.execPath(),
      ["run", "--quiet", "--no-prompt", ...config, ...PERMISSIONS, MAIN, ...argv],
      {
        detached: true,
        stdio: ["ignore", file, file],
        cwd,
        env: { ...process.env, INIT_CWD: cwd, NO_COLOR: "1" },
      },
    );
    const { pid } = child;
    child.on("exit", (code, signal) => {
      children.delete(pid!);
      ended(code, signal);
    });
    // Told below: it has no number then.
    child.on("error", () => {});
    if (pid === undefined) {
      throw new Error(`Deno (${Deno.execPath()}) could not be started in ${cwd}. Expected both to exist.`);
    }
    child.unref();
    children.add(pid);
    return pid;
  } finally {
    closeSync(file);
  }
}
