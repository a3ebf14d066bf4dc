/**
 * The server's side of the process that computes: requests wait their turn, and the process is started when there is one.
 *
 * The server never opens the GPU itself: a driver that hangs or crashes would take it along, and its memory is wanted by the
 * runs. So the process is ended when nothing was asked of it for a while, and it is killed with the server.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { HttpError } from "../http_error.ts";
import {
  type FromProcess,
  type InferenceAnswer,
  type InferenceRequest,
  readLines,
  type ToProcess,
} from "./protocol.ts";

/** Generates and scores, in a process of its own. */
export interface Inference {
  /**
   * What the process has to tell, as it comes. Who does not read on cancels the request.
   *
   * @throws {HttpError} 429 at once where too many wait; the stream ends with 404 or 422 where the request is refused and with
   * 503 where the process ends.
   */
  ask(request: InferenceRequest): ReadableStream<InferenceAnswer>;
  /** The process, if there is one, and how many requests it has not answered. */
  state(): { pid: number | null; requests: number };
  /** Ends the process. */
  close(): Promise<void>;
}

/** Requests that wait while one is answered. */
const MOST_WAITING = 32;

/** Milliseconds without a request after which the process is ended. */
const IDLE = 5 * 60_000;

/** Lines of its standard error that are kept. */
const LAST_LINES = 20;

const MAIN = import.meta.resolve("./main.ts"), ROOT = import.meta.resolve("../../");

/** It writes nothing but which kernels are fastest here, and that only where keel lies on a disk. */
const FLAGS = [
  "--allow-read",
  "--allow-env=DENO_WEBGPU_BACKEND",
  ...ROOT.startsWith("file:")
    ? [
      `--config=${fileURLToPath(new URL("deno.json", ROOT))}`,
      `--allow-write=${fileURLToPath(new URL(".cache", ROOT))}`,
    ]
    : [],
];

interface Job {
  id: number;
  request: InferenceRequest;
  controller: ReadableStreamDefaultController<InferenceAnswer>;
  /** Nobody reads what it gets any more. */
  done: boolean;
}

interface Process {
  child: Deno.ChildProcess;
  send(message: ToProcess): void;
}

/** Opens it; no process is started yet. */
export function openInference({ idle = IDLE }: { idle?: number } = {}): Inference {
  const waiting: Job[] = [];
  let current: Job | undefined, process: Process | undefined, made = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;

  function start(): Process {
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-prompt", ...FLAGS, MAIN],
      env: { NO_COLOR: "1" },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const writer = child.stdin.getWriter(), encoder = new TextEncoder(), said: string[] = [];
    const started: Process = {
      child,
      // Where it has ended already, that is told below.
      send: (message) => void writer.write(encoder.encode(JSON.stringify(message) + "\n")).catch(() => {}),
    };
    const listening = (async () => {
      for await (const line of readLines(child.stdout)) hear(JSON.parse(line));
    })();
    const errors = (async () => {
      for await (const line of readLines(child.stderr)) {
        if (line.trim() === "") continue;
        said.push(line);
        if (said.length > LAST_LINES) said.shift();
      }
    })();
    // Its last line may be cut off.
    Promise.allSettled([listening, errors]).then(async () => {
      const status = await child.status;
      writer.close().catch(() => {});
      if (process === started) ended(status, said);
    });
    return started;
  }

  function hear(line: FromProcess): void {
    const job = current;
    if (!job) return;
    if (line.kind === "end") {
      if (!job.done) job.controller.close();
      job.done = true;
      current = undefined;
      next();
    } else if (job.done) return;
    else if (line.kind === "refused") {
      const { status, code, message, fields } = line;
      refuse(job, new HttpError(status, code, message, { fields }));
    } else job.controller.enqueue(line);
  }

  function refuse(job: Job, error: HttpError): void {
    if (job.done) return;
    job.done = true;
    job.controller.error(error);
  }

  function ended({ code, signal }: Deno.CommandStatus, said: string[]): void {
    const how = signal ? `was ended by ${signal}` : `ended with exit code ${code}`;
    const last = said.length ? `: ${said.join(" ")}` : ".";
    failAll(`The process that computes ${how}${last} The next request starts another.`);
  }

  function failAll(message: string): void {
    const jobs = [...current ? [current] : [], ...waiting.splice(0)];
    process = current = undefined;
    for (const job of jobs) refuse(job, new HttpError(503, "inference_failed", message));
  }

  function next(): void {
    clearTimeout(timer);
    current = waiting.shift();
    if (current) {
      process ??= start();
      process.send({ id: current.id, request: current.request });
    } else if (process) {
      timer = setTimeout(() => {
        process?.child.kill("SIGKILL");
        process = undefined;
      }, idle);
      Deno.unrefTimer(timer);
    }
  }

  function cancel(job: Job): void {
    job.done = true;
    const place = waiting.indexOf(job);
    if (place >= 0) waiting.splice(place, 1);
    else if (job === current) process?.send({ cancel: job.id });
  }

  return {
    ask(request) {
      if (waiting.length >= MOST_WAITING) {
        throw new HttpError(
          429,
          "too_many_requests",
          `${waiting.length} requests wait already. Try again in some seconds.`,
          { headers: { "retry-after": "5" } },
        );
      }
      let job: Job;
      const answers = new ReadableStream<InferenceAnswer>({
        start(controller) {
          job = { id: ++made, request, controller, done: false };
          waiting.push(job);
        },
        cancel: () => cancel(job),
      });
      if (!current) next();
      return answers;
    },
    state: () => ({
      pid: process?.child.pid ?? null,
      requests: waiting.length + (current ? 1 : 0),
    }),
    async close() {
      clearTimeout(timer);
      const child = process?.child;
      failAll("The server is being closed.");
      child?.kill("SIGKILL");
      await child?.status;
    },
  };
}
