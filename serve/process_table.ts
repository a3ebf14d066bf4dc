/**
 * Processes of this machine, as `ps` tells of them: Deno reads `/proc` only where everything is allowed.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import process from "node:process";

/** A process. */
export interface ProcessEntry {
  pid: number;
  /** Ended, and only not yet asked for by its parent. */
  zombie: boolean;
  /** Unix time in seconds at which it started, to about a second. */
  started: number;
  command: string;
}

/** Milliseconds for which a table is good enough. */
const FRESH = 1000;

/** Seconds by which `ps` and the clock may differ. */
const NOISE = 3;

let table: { time: number; entries: Map<number, ProcessEntry> } | undefined;

/** All processes; none where there is no `ps`. */
export function processTable(fresh = false): Map<number, ProcessEntry> {
  const now = Date.now();
  if (!fresh && table && now - table.time < FRESH) return table.entries;
  const { stdout, status } = spawnSync("ps", ["-A", "-ww", "-o", "pid=,stat=,etime=,command="], {
    encoding: "utf8",
    maxBuffer: 1 << 24,
  });
  const entries = new Map<number, ProcessEntry>();
  for (const line of status === 0 ? stdout.split("\n") : []) {
    const match = /^\s*(\d+)\s+(\S+)\s+(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)\s+(.*)$/.exec(line);
    if (!match) continue;
    const [pid, days, hours, minutes, seconds] = [1, 3, 4, 5, 6].map((i) => Number(match[i] ?? 0));
    const age = ((days * 24 + hours) * 60 + minutes) * 60 + seconds;
    entries.set(pid, {
      pid,
      zombie: match[2].startsWith("Z"),
      started: now / 1000 - age,
      command: match[7],
    });
  }
  table = { time: now, entries };
  return entries;
}

/**
 * Whether process `pid` exists, has not ended, and started no later than `since`: the number of one that ended may be
 * given to another.
 */
export function isAlive(pid: number, since: number): boolean {
  if (!sendSignal(pid, 0)) return false;
  const entry = processTable().get(pid) ?? processTable(true).get(pid);
  // Without ps, that it takes signals has to do.
  return entry ? !entry.zombie && entry.started <= since + NOISE : processTable().size === 0;
}

/** Sends a signal, 0 for none; returns whether there was someone to get it. */
export function sendSignal(pid: number, signal: "SIGKILL" | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}
