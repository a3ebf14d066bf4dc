/**
 * Starts runs, one process each, and the next of the queue when there is room.
 *
 * A run is never started twice: its lock belongs to one process. And never forgotten: it leaves the queue in the same
 * transaction that notes its process, and one whose process was started but not noted is found by its command line.
 *
 * @module
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { snakeCase } from "../src/train/options/names.ts";
import { HttpError } from "./http_error.ts";
import { type Method, OWN_OPTIONS } from "./methods.ts";
import { findKeel, killProcess, startKeel } from "./processes.ts";
import { holderOf, readServeFile, runIds, type RunView, type Sources, writeServeFiles } from "./runs.ts";
import type { Start } from "./state.ts";

/** A run that is to be made. */
export interface NewRun {
  id?: string;
  method: Method;
  options: Record<string, unknown>;
  /** Wait where there is no room; refused if false. */
  queue: boolean;
}

/** The one who starts and ends processes. */
export interface Supervisor {
  /** Makes a run and starts it, or puts it into the queue; returns its name. */
  create(run: NewRun): string;
  /** Starts a process for a run that has none, or puts it into the queue. */
  start(run: RunView, checkpoint?: string): void;
  /** Takes a run out of the queue. */
  dequeue(id: string): void;
  /** Ends a run's process at once. */
  kill(run: RunView): void;
  /** Removes a run that does not go, with everything in its directory. */
  remove(run: RunView): Promise<void>;
  /** Stops looking after the queue; the runs go on. */
  close(): void;
}

/** Milliseconds between two looks at whether there is room for the next run. */
const LOOK = 500;

/** Opens the supervisor and puts right what a server that was killed left half-done. */
export function openSupervisor(sources: Sources, maxConcurrentRuns: number): Supervisor {
  const { runsDir, state, readers } = sources;
  let open = true;

  const going = () => runIds(runsDir).filter((id) => holderOf(sources, id) !== undefined);

  function launch({ run, checkpoint }: Start): void {
    const dir = join(runsDir, run), file = readServeFile(dir);
    if (!file) throw new Error(`Cannot start ${run}: its serve.json is gone. Make the run again.`);
    const argv = [file.method, "--config", join(dir, "options.json"), "--output_dir", dir, "--resume"];
    if (checkpoint !== undefined) argv.push("--resume_from_checkpoint", checkpoint);
    const pid = startKeel(argv, {
      cwd: file.cwd,
      log: join(dir, "log.txt"),
      ended(code, signal) {
        if (!open) return;
        state.ended(run, pid, code, signal);
        look();
      },
    });
    state.started(run, pid);
  }

  /** Starts what waits, as far as there is room. */
  function look(): void {
    const waiting = open ? state.queue() : [];
    if (!waiting.length) return;
    let room = maxConcurrentRuns - going().length;
    for (const start of waiting) {
      if (room <= 0) return;
      // Someone may have started it by hand.
      if (holderOf(sources, start.run)) {
        state.dequeue(start.run, "it goes already");
        continue;
      }
      try {
        launch(start);
        room--;
      } catch (error) {
        state.dequeue(start.run, (error as Error).message);
      }
    }
  }

  function recover(): void {
    for (const { name, isDirectory } of Deno.readDirSync(runsDir)) {
      // Half-made and half-removed runs.
      if (isDirectory && /^\.(new|deleted)-/.test(name)) {
        Deno.removeSync(join(runsDir, name), { recursive: true });
      }
    }
    for (const { run } of state.queue()) {
      const pid = findKeel(join(runsDir, run)) ?? holderOf(sources, run)?.pid;
      if (pid === undefined) continue;
      state.started(run, pid);
      state.note(run, "found", {
        pid,
        why: "it was started, and the server was killed before it noted that",
      });
    }
    for (const id of runIds(runsDir)) {
      const row = state.process(id);
      if (!row || row.ended !== null || holderOf(sources, id)) continue;
      state.ended(id, row.pid, null, null);
      state.note(id, "found", { pid: row.pid, why: "its process ended while no server was there to see" });
    }
  }

  recover();
  look();
  const timer = setInterval(look, LOOK);

  return {
    create({ method, id = newRunId(method), options, queue }) {
      const dir = join(runsDir, id), made = join(runsDir, `.new-${id}`);
      if (exists(dir)) {
        throw new HttpError(
          409,
          "exists",
          `There is a run or a folder named ${id} already. Choose another id.`,
        );
      }
      const busy = going();
      if (!queue && busy.length >= maxConcurrentRuns) {
        throw new HttpError(
          409,
          "busy",
          `${busy.join(", ")} ${
            busy.length === 1 ? "is" : "are"
          } going, and at most ${maxConcurrentRuns} may. ` +
            'Wait, or have it wait in the queue with "queue": true.',
        );
      }
      Deno.mkdirSync(made, { recursive: true });
      writeServeFiles(made, { method, cwd: Deno.cwd(), created: Date.now() / 1000 }, options);
      Deno.renameSync(made, dir);
      state.note(id, "created", { method });
      state.enqueue({ run: id });
      look();
      return id;
    },
    start(run, checkpoint) {
      // One that was started by hand gets the settings that it had.
      if (!readServeFile(run.dir)) {
        const entries = Object.entries(run.config!.options)
          .filter(([name]) => !OWN_OPTIONS.includes(name))
          .map(([name, value]) => [snakeCase(name), value]);
        writeServeFiles(
          run.dir,
          { method: run.method, cwd: Deno.cwd(), created: run.created ?? Date.now() / 1000 },
          Object.fromEntries(entries),
        );
      }
      state.enqueue({ run: run.id, checkpoint });
      look();
    },
    dequeue: (id) => void state.dequeue(id, "it was asked to stop"),
    kill(run) {
      state.note(run.id, "killed", { pid: run.holder!.pid });
      killProcess(run.holder!.pid);
    },
    async remove({ id, dir }) {
      readers.drop(dir);
      const aside = join(runsDir, `.deleted-${id}-${Date.now()}`);
      Deno.renameSync(dir, aside);
      state.forget(id);
      await Deno.remove(aside, { recursive: true });
    },
    close() {
      open = false;
      clearInterval(timer);
    },
  };
}

/** A name for a run that was given none, e.g. `ppo-2026-03-14-9f2c`. */
function newRunId(method: Method): string {
  return `${method}-${new Date().toISOString().slice(0, 10)}-${randomBytes(3).toString("hex")}`;
}

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}
