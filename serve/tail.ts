/**
 * What is told of a run, as it is told: one look at the database for all who follow, and no client waits for another.
 *
 * @module
 */
import { fromJson } from "../src/run/json.ts";
import type { RawStreamRow, RunReader } from "../src/run/reader.ts";
import { plainJson } from "./json.ts";

/** Entries that are read at a time. */
const PAGE = 200;

/** Milliseconds between two looks while someone follows: at least so many, and more where many follow. */
const LOOK = 250, LOOK_PER_FOLLOWER = 5;

/** Milliseconds of silence after which a comment is sent, so that proxies keep the connection. */
const HEARTBEAT = 15_000;

/** Follows the streams of runs. */
export interface Tails {
  /**
   * Server-sent events after entry `after` of a run's stream, for as long as the client reads. Nothing is read from the
   * database before the client has taken what was read last.
   *
   * @param reader the run's database; undefined while it has none
   * @param there whether the run still exists; when it does not, the stream ends
   */
  follow(
    id: string,
    after: number,
    reader: () => RunReader | undefined,
    there: () => boolean,
  ): ReadableStream<Uint8Array>;
  /** Streams that are being followed. */
  count(): number;
  /** Ends all streams. */
  close(): void;
}

interface Tail {
  waiting: Set<() => void>;
  /** The run was removed. */
  gone: boolean;
  timer?: ReturnType<typeof setTimeout>;
  followers: number;
  /** The last page that was encoded: those who are at the end share it. */
  page?: { after: number; bytes: Uint8Array; last: number };
  lastSeq: number;
}

const encoder = new TextEncoder();

/** One entry as a server-sent event: its number is the id, its kind the event. */
export function eventText({ seq, time, kind, stage, step, data }: RawStreamRow): string {
  const json = data.includes('"$number"') ? plainJson(fromJson(data)) : data;
  return `id: ${seq}\nevent: ${kind}\ndata: {"seq":${seq},"time":${time},"stage":${JSON.stringify(stage)},` +
    `"step":${step},"data":${json}}\n\n`;
}

/** Opens a set of tails. */
export function openTails(): Tails {
  const tails = new Map<string, Tail>(), ends = new Set<() => void>();

  function join(id: string, reader: () => RunReader | undefined, there: () => boolean): Tail {
    const known = tails.get(id);
    if (known) {
      known.followers++;
      return known;
    }
    const tail: Tail = { waiting: new Set(), gone: false, followers: 1, lastSeq: 0 };
    const wait = () => {
      tail.timer = setTimeout(look, Math.max(LOOK, tail.followers * LOOK_PER_FOLLOWER));
    };
    const look = () => {
      wait();
      let seq = 0;
      try {
        tail.gone = !there();
        seq = reader()?.lastSeq() ?? -1;
      } catch {
        // It is being written to or removed; the next look will tell.
        return;
      }
      if (seq === tail.lastSeq && !tail.gone) return;
      tail.lastSeq = seq;
      for (const wake of [...tail.waiting]) wake();
    };
    wait();
    tails.set(id, tail);
    return tail;
  }

  function leave(id: string, tail: Tail): void {
    if (--tail.followers > 0) return;
    clearTimeout(tail.timer);
    tails.delete(id);
  }

  /** The next page after `after`; empty where there is none yet. */
  function pageAfter(
    tail: Tail,
    after: number,
    reader: () => RunReader | undefined,
  ): NonNullable<Tail["page"]> {
    if (tail.page?.after === after) return tail.page;
    const rows = reader()?.stream(after, PAGE) ?? [];
    const page = {
      after,
      bytes: encoder.encode(rows.map(eventText).join("")),
      last: rows.at(-1)?.seq ?? after,
    };
    if (rows.length) tail.page = page;
    return page;
  }

  return {
    follow(id, after, reader, there) {
      const tail = join(id, reader, there);
      let done = false, wake = () => {}, position = after;
      const end = () => {
        if (done) return;
        done = true;
        ends.delete(end);
        leave(id, tail);
        wake();
      };
      ends.add(end);
      return new ReadableStream<Uint8Array>({
        start(controller) {
          // So that a client sees at once that it is connected.
          controller.enqueue(encoder.encode("retry: 1000\n\n"));
        },
        async pull(controller) {
          while (!done && !tail.gone) {
            const page = pageAfter(tail, position, reader);
            if (page.last > position) {
              position = page.last;
              controller.enqueue(page.bytes);
              return;
            }
            const woken = await new Promise<boolean>((resolve) => {
              const timer = setTimeout(() => resolve(false), HEARTBEAT);
              wake = () => {
                clearTimeout(timer);
                tail.waiting.delete(wake);
                resolve(true);
              };
              tail.waiting.add(wake);
            });
            tail.waiting.delete(wake);
            if (!woken && !done) {
              controller.enqueue(encoder.encode(": still here\n\n"));
              return;
            }
          }
          end();
          try {
            controller.close();
          } catch {
            // The client has gone, which closed it.
          }
        },
        cancel: end,
      }, { highWaterMark: 0 });
    },
    count: () => ends.size,
    close() {
      for (const end of [...ends]) end();
    },
  };
}
