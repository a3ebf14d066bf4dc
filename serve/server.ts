/**
 * The control server: starts, steers and shows runs over HTTP.
 *
 * A run is a process of its own and belongs to nobody: the server asks it for things through its database, and neither's
 * end is the other's. What a run is doing is read from its directory, so that a server that was started just now knows it.
 *
 * @module
 */
import { join, resolve } from "node:path";
import { lockRun, type RunLock } from "../src/run/lock.ts";
import { makeApp } from "./app.ts";
import { isLoopback, namesOf, readToken } from "./auth.ts";
import type { Context } from "./context.ts";
import { openInference } from "./inference/process.ts";
import { openReaders } from "./readers.ts";
import { holderOf, runIds } from "./runs.ts";
import { openState } from "./state.ts";
import { openSupervisor } from "./supervisor.ts";
import { openTails } from "./tail.ts";

/** Milliseconds that requests have to come to their end when the server is closed. */
const PATIENCE = 2000;

/** Options of {@linkcode createServer}. */
export interface ServerOptions {
  /** Address or name to listen at, `127.0.0.1` if not given; beyond this machine the token is asked for. */
  host?: string;
  /** Port, 8686 if not given; 0 for any that is free. */
  port?: number;
  /** The directory whose folders are the runs, `runs` if not given. */
  runsDir?: string;
  /** Ask for the token on this machine, too. */
  token?: boolean;
  /** Runs that may go at the same time, 1 if not given; others wait in a queue. */
  maxConcurrentRuns?: number;
  /** Further names under which the server may be addressed. */
  allowHost?: string[];
  /** Let requests name files of reward functions, servers of rewards and judges, which lets them run code; not if not given. */
  allowRewardSources?: boolean;
  /** Requests that one address may make in a second and at once; 400 and 2000 if not given. */
  rate?: { perSecond: number; burst: number };
  /** Gets what a person should know, e.g. a token that was made just now; standard error if not given. */
  say?: (line: string) => void;
}

/** A server. */
export interface KeelServer {
  /** Answers a request, without a network. */
  fetch(request: Request): Promise<Response>;
  /** Listens until the server is closed; returns the address. */
  listen(): { hostname: string; port: number; url: string };
  /** Names of the runs whose process is alive. */
  going(): string[];
  /** Ends the streams, the listening and the queue; runs go on. */
  close(): Promise<void>;
}

/**
 * Makes a server. The runs are found in `runsDir`, and the first of the queue is started if there is room.
 *
 * ```ts ignore
 * import { createServer } from "@keel/keel/serve";
 *
 * const server = createServer({ runsDir: "runs", port: 0 });
 * console.log(server.listen().url);
 * const made = await server.fetch(
 *   new Request("http://localhost/runs", {
 *     method: "POST",
 *     headers: { "content-type": "application/json" },
 *     body: JSON.stringify({ id: "first", method: "train", options: { ppo_steps: 10 } }),
 *   }),
 * );
 * console.log(made.status, await made.json());
 * await server.close(); // the run goes on
 * ```
 *
 * @throws {Error} when another server uses `runsDir`.
 */
export function createServer(options: ServerOptions = {}): KeelServer {
  const { host = "127.0.0.1", port = 8686, maxConcurrentRuns = 1, allowHost = [] } = options;
  const say = options.say ?? ((line) => console.error(line));
  Deno.mkdirSync(options.runsDir ?? "runs", { recursive: true });
  const runsDir = Deno.realPathSync(resolve(options.runsDir ?? "runs"));
  const lock = lockServer(runsDir);
  const token = options.token || !isLoopback(host) ? readToken(runsDir) : undefined;
  if (token?.fresh) say(`The token, which is shown only now and kept in ${token.path}: ${token.value}`);
  else if (token) say(`The token is the one in ${token.path}.`);

  const state = openState(join(runsDir, "serve.db"));
  const sources = { runsDir, state, readers: openReaders() };
  const abort = new AbortController();
  let closed = false, listener: Deno.HttpServer<Deno.NetAddr> | undefined;
  const context: Context = {
    ...sources,
    supervisor: openSupervisor(sources, maxConcurrentRuns),
    tails: openTails(),
    inference: openInference(),
    started: Date.now() / 1000,
    maxConcurrentRuns,
    rewardSources: options.allowRewardSources ?? false,
    closed: () => closed,
  };
  const answer = makeApp(context, {
    names: () => namesOf(host, allowHost),
    token: token?.value,
    rate: options.rate ?? { perSecond: 400, burst: 2000 },
  });

  return {
    fetch: (request) => answer(request, "local"),
    listen() {
      try {
        listener = Deno.serve(
          { hostname: host, port, signal: abort.signal, onListen: () => {} },
          (request, { remoteAddr }) => answer(request, remoteAddr.hostname),
        );
      } catch (error) {
        throw new Error(
          `Cannot listen at ${host}:${port}: ${(error as Error).message}. Choose another --port or --host.`,
          { cause: error },
        );
      }
      const { hostname, port: bound } = listener.addr;
      return {
        hostname,
        port: bound,
        url: `http://${hostname.includes(":") ? `[${hostname}]` : hostname}:${bound}`,
      };
    },
    going: () => runIds(runsDir).filter((id) => holderOf(sources, id) !== undefined),
    async close() {
      if (closed) return;
      closed = true;
      context.supervisor.close();
      context.tails.close();
      const late = setTimeout(() => abort.abort(), PATIENCE);
      await listener?.shutdown();
      clearTimeout(late);
      await context.inference.close();
      sources.readers.close();
      state.close();
      lock.release();
    },
  };
}

function lockServer(runsDir: string): RunLock {
  try {
    return lockRun(runsDir);
  } catch (error) {
    const who = / by |: (process .*?) is using it/.exec((error as Error).message)?.[1] ?? "another process";
    throw new Error(
      `Cannot serve ${runsDir}: ${who} serves it already. Stop that, or choose another --runs_dir.`,
    );
  }
}
