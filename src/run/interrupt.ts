/**
 * Ctrl-C and SIGTERM: the first lets the running step finish, the second stops at once.
 *
 * @module
 */

/** Exit code of a run that was interrupted. */
export const INTERRUPTED = 130;

/** Watches for signals until it is closed. */
export interface Interrupt {
  /** Whether the run was asked to stop. Trainers look between two steps. */
  requested(): boolean;
  /** Stops watching. */
  close(): void;
}

/** Starts to watch; `say` gets the message of the first signal. */
export function watchInterrupt(say: (message: string) => void): Interrupt {
  // Windows has no SIGTERM.
  const signals: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT", "SIGBREAK"] : ["SIGINT", "SIGTERM"];
  let requested = false;
  const listener = () => {
    if (requested) Deno.exit(INTERRUPTED);
    requested = true;
    say(
      "Stopping after this step and its checkpoint. Once more stops at once and loses the steps since the last one.",
    );
  };
  for (const signal of signals) Deno.addSignalListener(signal, listener);
  return {
    requested: () => requested,
    close() {
      for (const signal of signals) Deno.removeSignalListener(signal, listener);
    },
  };
}
