/**
 * What may be asked of a run while it goes: to turn a knob, to pause, to go on, to stop, to write a checkpoint, to go back to one.
 *
 * Whoever asks writes into the table `requests` of `run.db`, from any process; the process that trains answers between two
 * steps. Every answer and what it changed are written in one transaction, so that a run that is killed at any moment has
 * either answered or will be asked again.
 *
 * @module
 */
import { join } from "node:path";
import { checkpointSteps, readCheckpoint, type SavedCheckpoint, supersedeAfter } from "./checkpoint.ts";
import type { RequestRow, RunStore } from "./store.ts";

/** What a trainer does for those who ask. */
export interface Listening {
  /** What is wrong with settings that someone wants to change, if anything. */
  check(knobs: Record<string, unknown>): string | undefined;
  /** Writes a checkpoint of the last step. */
  checkpoint(): Promise<void>;
}

/** What a trainer was asked to do before its next step. */
export interface Asked {
  /** Leave; a checkpoint is written. */
  stop: boolean;
  /** Go on from this checkpoint as if nothing after it had been; then listen again. */
  rollBack?: SavedCheckpoint;
  /** Settings that were changed by hand and hold for the next step, by TRL's names. */
  knobs: Record<string, number>;
  /** Those of them that hold from the next step on, not earlier. */
  fresh: string[];
}

/** Listens for a stage. */
export interface Listener {
  /** See `StageRun.listen`. */
  listen(step: number, how: Listening): Promise<Asked>;
  /** Whether the trainer should stop: it was asked to, or interrupted. */
  stopped(): boolean;
}

/** What a {@linkcode Listener} works with. */
export interface ListenerSettings {
  /** The stage's name. */
  stage: string;
  /** Its folder of checkpoints. */
  checkpoints: string;
  /** The run's database. */
  store: RunStore;
  /** Polled while the run is paused. */
  interrupted: () => boolean;
  /** Called when later steps than this were dropped. */
  rolledBack: (step: number) => void;
}

const LEAVE: Asked = { stop: true, knobs: {}, fresh: [] };

/** Milliseconds between two looks at what was asked, while a run is paused. */
const PAUSE_POLL = 20;

/** Opens the ears of a stage. */
export function openListener(
  { stage, checkpoints, store, interrupted, rolledBack }: ListenerSettings,
): Listener {
  let paused = false, stopped = false;

  /** What was asked, as far as it does not concern the trainer. */
  async function answer(
    request: RequestRow,
    step: number,
    { check, checkpoint }: Listening,
  ): Promise<Asked | void> {
    const { id, who, kind, detail } = request;
    const done = () => store.answer(request, stage, step);
    const refused = (reason: string) => store.answer(request, stage, step, reason);
    switch (kind) {
      case "set": {
        const problem = check(detail);
        if (problem) refused(problem);
        else store.turnKnobs(stage, step + 1, detail as Record<string, number>, { who, id });
        return;
      }
      case "pause":
      case "resume":
        paused = kind === "pause";
        return done();
      case "checkpoint":
      case "stop":
        try {
          await checkpoint();
        } catch (error) {
          return refused((error as Error).message);
        }
        done();
        stopped = kind === "stop";
        return stopped ? LEAVE : undefined;
      case "roll_back": {
        const steps = checkpointSteps(checkpoints);
        if (!steps.includes(detail.step as number)) {
          return refused(
            `There is no checkpoint of step ${detail.step}${
              steps.length ? `; there are those of ${steps.reverse().join(", ")}` : " or any other yet"
            }.`,
          );
        }
        const path = join(checkpoints, `step-${detail.step}`);
        let saved: SavedCheckpoint;
        try {
          saved = readCheckpoint(path);
        } catch (error) {
          return refused((error as Error).message);
        }
        // First the folders: killed in between, the run goes on from this checkpoint and answers the request again.
        supersedeAfter(checkpoints, saved.step);
        store.rollBack(stage, saved.step, { who, id });
        rolledBack(saved.step);
        return { ...LEAVE, stop: false, rollBack: saved };
      }
    }
  }

  /** Settings that hold for `step`; the last change wins. */
  function knobsAt(step: number): Pick<Asked, "knobs" | "fresh"> {
    const rows = store.knobs(stage).filter((row) => row.step <= step);
    return {
      knobs: Object.fromEntries(rows.map(({ name, value }) => [name, value])),
      fresh: rows.filter((row) => row.step === step).map((row) => row.name),
    };
  }

  return {
    async listen(step, how) {
      for (;;) {
        for (const request of store.waiting(stage)) {
          const asked = await answer(request, step, how);
          if (asked) return asked;
        }
        if (!paused) return { stop: false, ...knobsAt(step + 1) };
        await new Promise((resolve) => setTimeout(resolve, PAUSE_POLL));
        if (interrupted()) {
          await how.checkpoint();
          return LEAVE;
        }
      }
    },
    stopped: () => stopped || interrupted(),
  };
}
