/**
 * What a person sees while something is fetched: one live line on a terminal, a plain line now and then elsewhere.
 *
 * @module
 */
import type { FetchListener, FetchProgress } from "../hub/snapshot.ts";
import type { Io } from "./io.ts";
import { duration } from "./progress.ts";

/** Milliseconds between two plain lines. */
const PLAIN_AFTER = 10_000;

/** A listener to fetches that ends its line when they are done. */
export interface FetchDisplay extends Required<FetchListener> {
  /** Ends the live line, if there is one. */
  done(): void;
}

/** Starts to show fetches on standard error; `now` is in milliseconds. */
export function openFetchProgress(io: Io, now: () => number = () => performance.now()): FetchDisplay {
  let live = false, toldAt = now();
  const display: FetchDisplay = {
    say(line) {
      if (live) io.draw("\r\x1b[K");
      live = false;
      io.note(line);
    },
    progress(progress) {
      const whole = progress.received === progress.total;
      if (io.terminal) {
        io.draw(`\r${progressLine(progress).slice(0, io.columns() - 1)}\x1b[K`);
        live = true;
        if (whole) display.done();
      } else if (whole || now() - toldAt >= PLAIN_AFTER) {
        toldAt = now();
        io.note(progressLine(progress));
      }
    },
    done() {
      if (live) io.draw("\n");
      live = false;
    },
  };
  return display;
}

/** `Fetching org/name: 45%, 1.20 of 2.60 GB, 35.0 MB/s, 0:40 left (model-00001-of-00002.safetensors)`. */
export function progressLine({ name, file, received, total, rate }: FetchProgress): string {
  if (received === total) return `Fetched ${name}: ${bytes(total)}${rate > 0 ? `, ${bytes(rate)}/s` : ""}`;
  const facts = [
    `${Math.floor(100 * received / total)}%`,
    `${bytes(received)} of ${bytes(total)}`,
    ...rate > 0 ? [`${bytes(rate)}/s`, `${duration((total - received) / rate)} left`] : [],
  ];
  return `Fetching ${name}: ${facts.join(", ")} (${file})`;
}

/** `1.23 GB`, `45.6 MB`, `789 kB`, `12 B`. */
function bytes(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(2)} GB`;
  if (count >= 1e6) return `${(count / 1e6).toFixed(1)} MB`;
  return count >= 1e3 ? `${Math.round(count / 1e3)} kB` : `${Math.round(count)} B`;
}
