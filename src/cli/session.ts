/**
 * What all training commands share: the GPU, the run directory, Ctrl-C, progress and the closing words.
 *
 * @module
 */
import { join } from "node:path";
import { openGpu } from "../gpu/device.ts";
import { openRun, type Run } from "../run/run.ts";
import { INTERRUPTED, watchInterrupt } from "../run/interrupt.ts";
import type { TrackerName } from "../run/trackers/tracker.ts";
import type { Workspace } from "../tape/plan.ts";
import type { StepEvent } from "../train/events.ts";
import { snakeCase } from "../train/options/names.ts";
import type { Io } from "./io.ts";
import { openProgress } from "./progress.ts";

/** Options of every training command that the session looks at. */
export interface SessionOptions {
  outputDir: string;
  seed: number;
  resume: boolean;
  resumeFromCheckpoint?: string;
  overwriteOutputDir: boolean;
  saveTotalLimit?: number;
  loggingSteps: number;
  reportTo?: TrackerName[];
}

/** What a training command works with. */
export interface Session {
  workspace: Workspace;
  run: Run;
  /** Says something above the progress line. */
  say: (line: string) => void;
}

/** A training command. */
export interface TrainingCommand {
  name: string;
  stages: string[];
  /** The steps of all stages. */
  steps: (session: Session) => AsyncGenerator<StepEvent>;
  /** Called when all steps are done; returns where to look. */
  finish?: (session: Session) => Promise<string[]> | string[];
}

/** Runs a training command and returns its exit code. */
export async function trainingSession(
  command: TrainingCommand,
  options: SessionOptions,
  io: Io,
): Promise<number> {
  const gpu = await openGpu();
  const progress = openProgress(io, { loggingSteps: options.loggingSteps });
  const interrupt = watchInterrupt((message) => progress.note(message));
  let run: Run | undefined;
  try {
    run = openRun(options.outputDir, {
      config: {
        command: command.name,
        seed: options.seed,
        adapter: gpu.info.name,
        driver: gpu.info.vendor,
        options: { ...options },
      },
      stages: command.stages,
      resume: options.resume,
      resumeFromCheckpoint: options.resumeFromCheckpoint,
      overwriteOutputDir: options.overwriteOutputDir,
      saveTotalLimit: options.saveTotalLimit,
      report: { to: options.reportTo ?? [], settings: byTrlNames(options) },
      interrupted: interrupt.requested,
    });
    const session: Session = { workspace: { gpu }, run, say: progress.note };
    let told = 0;
    const tellNotes = () => {
      for (; told < run!.notes.length; told++) progress.note(run!.notes[told]);
    };
    tellNotes();
    progress.note(`${command.name} on ${gpu.info.name}, in ${run.dir}`);
    const last = new Map<string, StepEvent>();
    for await (const event of command.steps(session)) {
      tellNotes();
      progress.step(event);
      if (!last.has(event.stage)) {
        run.store.appendEvent(event.stage, event.step, "started", { total: event.total });
      }
      last.set(event.stage, event);
    }
    tellNotes();
    progress.done();
    if (interrupt.requested() || run.interrupted()) {
      io.note(
        `Stopped. Go on with: keel ${command.name} --output_dir ${options.outputDir} --resume and the other options as before.`,
      );
      return INTERRUPTED;
    }
    for (const [stage, { metrics }] of last) {
      io.note([`${stage}:`, ...progress.summary(stage)].join("\n"));
      if (metrics.skipped_steps > 0) {
        io.note(
          `  Steps skipped because a loss or a gradient was not finite: ${metrics.skipped_steps}. Their batches are in the folder non_finite.`,
        );
      }
    }
    const where = await command.finish?.(session) ?? [join(run.dir, "model")];
    if (io.json) {
      const metrics = Object.fromEntries([...last].map(([stage, event]) => [stage, event.metrics]));
      io.print(JSON.stringify({ run: run.dir, results: where, metrics }));
    } else for (const path of where) io.print(path);
    return 0;
  } catch (error) {
    progress.done();
    throw error;
  } finally {
    run?.close();
    interrupt.close();
    gpu.close();
  }
}

function byTrlNames(options: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(options).map(([name, value]) => [snakeCase(name), value]));
}
