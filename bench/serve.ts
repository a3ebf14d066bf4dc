/**
 * Whether a server bears a crowd and what that costs a run: `deno run -A bench/serve.ts [load] [idle] [soak]`.
 *
 * load: 200 event streams and 100 reads of metrics a second, in turn with nobody there. idle: 10,000 connections that say
 * nothing beside that. soak: the memory of server and run over 10,000 steps. Prints Markdown.
 */
import { join } from "node:path";
import { openReader } from "../src/run/reader.ts";
import { writeLines } from "../tests/cli/keel.ts";
import { client, sftRun, startServer, type TestServer } from "../tests/serve/server.ts";
import type { Crowd, Met } from "./serve_crowd.ts";
import { median } from "./timing.ts";

const STREAMS = 200,
  READS = 100,
  WINDOW = 20,
  ROUNDS = 3,
  IDLE = 10_000,
  SOAK = 10_000;

const chosen = (name: string) => Deno.args.length === 0 || Deno.args.includes(name);

async function crowd(what: Crowd): Promise<Met> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--allow-net", new URL("serve_crowd.ts", import.meta.url).pathname],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(JSON.stringify(what)));
  await writer.close();
  return JSON.parse(new TextDecoder().decode((await child.output()).stdout));
}

/** Seconds of processor time that a process has taken. */
function cpuOf(pid: number): number {
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).split(") ")[1].split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/** MiB that a process has in memory. */
function memoryOf(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(Deno.readTextFileSync(`/proc/${pid}/status`))![1]) / 1024;
}

/** Unix times at which steps of a run ended. */
function stepTimes(dir: string): number[] {
  const reader = openReader(join(dir, "run.db"));
  try {
    return reader.buckets("sft", "loss", { from: 1, to: Number.MAX_SAFE_INTEGER }, 1).map(({ time }) => time);
  } finally {
    reader.close();
  }
}

/** Steps in a second between two moments. */
function pace(times: number[], from: number, to: number): number {
  const within = times.filter((time) => time >= from && time <= to);
  return (within.length - 1) / (within.at(-1)! - within[0]);
}

const percentile = (values: number[], p: number) =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(p * values.length))];
const now = () => Date.now() / 1000;
const pause = (seconds: number) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

/** A going run of SFT on the parrot's model, of steps with so many rows, and its server. */
async function withRun(
  { steps, batch }: { steps: number; batch: number },
  fn: (server: TestServer, pid: number, dir: string) => Promise<void>,
): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "keel-bench-" });
  const server = await startServer(join(directory, "runs"));
  const api = client(server.url);
  try {
    const rows = Array.from({ length: 4 * batch }, (_, i) => ({
      prompt: `<user> ${i % 9} ${(i * 5) % 8} <bot>`,
      completion: ` ${i % 17}`,
    }));
    const run = sftRun(directory, {
      dataset_name: writeLines(directory, "rows.jsonl", rows),
      max_steps: steps,
      per_device_train_batch_size: batch,
      save_steps: 1000,
      save_total_limit: 2,
    });
    await api.expect(201, "POST", "/runs", { id: "mine", ...run });
    const { pid } = await api.until("mine", ({ step }) => step >= 5);
    await fn(server, pid, join(directory, "runs", "mine"));
  } finally {
    // It would outlive the server.
    await api.call("POST", "/runs/mine/kill");
    await server.stop();
    await Deno.remove(directory, { recursive: true });
  }
}

/** Rows of a step of some 100 ms, so that a crowd of a minute meets some hundred of them. */
const LARGE = 256;

async function load(idle: number): Promise<void> {
  await withRun({ steps: 1_000_000, batch: LARGE }, async (server, _pid, dir) => {
    const windows: { from: number; to: number; there: boolean }[] = [], met: Met[] = [];
    let serverCpu = 0, crowdCpu = 0, memory = 0;
    await pause(3);
    for (let round = 0; round < ROUNDS; round++) {
      for (const there of [false, true]) {
        const from = now(), before = cpuOf(server.pid);
        if (there) {
          met.push(
            await crowd({
              url: server.url,
              run: "mine",
              seconds: WINDOW,
              streams: STREAMS,
              reads: READS,
              idle,
            }),
          );
          serverCpu += cpuOf(server.pid) - before;
          crowdCpu += met.at(-1)!.cpu;
          memory = Math.max(memory, memoryOf(server.pid));
        } else await pause(WINDOW);
        windows.push({ from, to: now(), there });
      }
    }
    const times = stepTimes(dir);
    const paces = (there: boolean) =>
      windows.filter((one) => one.there === there).map(({ from, to }) => pace(times, from, to));
    const alone = median(paces(false)), crowded = median(paces(true));
    const latencies = met.flatMap((one) => one.latencies), streams = met.flatMap((one) => one.streams);
    const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
    const seconds = sum(windows.filter(({ there }) => there).map(({ from, to }) => to - from));
    console.log(`| what | ${idle ? `with ${idle} idle connections` : "load"} |
| --- | --- |
| steps in a second, alone; in the crowd | ${alone.toFixed(2)}; ${crowded.toFixed(2)} (${
      paces(false).map((x) => x.toFixed(2))
    }; ${paces(true).map((x) => x.toFixed(2))}) |
| slower by | ${(100 * (1 - crowded / alone)).toFixed(1)} % |
| processor time of the server; of the crowd itself, of two cores | ${
      (100 * serverCpu / seconds / 2).toFixed(1)
    } %; ${(100 * crowdCpu / seconds / 2).toFixed(1)} % |
| reads; failed | ${latencies.length}; ${sum(met.map(({ failures }) => failures))} |
| read, median; 99th percentile; longest | ${percentile(latencies, 0.5).toFixed(1)}; ${
      percentile(latencies, 0.99).toFixed(1)
    }; ${Math.max(...latencies).toFixed(1)} ms |
| streams; entries each; missing; twice | ${streams.length}; ${
      median(streams.map(({ entries }) => entries))
    }; ${sum(streams.map(({ missing }) => missing))}; ${sum(streams.map(({ twice }) => twice))} |
| idle connections still open at the end | ${met.map((one) => one.idle)} |
| server's memory at most | ${memory.toFixed(0)} MiB |
`);
  });
}

async function soak(): Promise<void> {
  await withRun({ steps: SOAK, batch: 4 }, async (server, pid) => {
    const api = client(server.url), rows: string[] = [];
    const watching = crowd({
      url: server.url,
      run: "mine",
      seconds: 60,
      streams: 10,
      reads: 5,
      idle: 0,
    });
    for (let due = 0; due <= 10; due++) {
      await api.until("mine", ({ step, state }) => step >= due * SOAK / 10 || state === "finished");
      const { step, state } = await api.expect(200, "GET", "/runs/mine");
      const own = state === "finished" ? "ended" : memoryOf(pid).toFixed(0);
      rows.push(`| ${step} | ${own} | ${memoryOf(server.pid).toFixed(0)} |`);
    }
    await watching;
    console.log(`| step | run, MiB | server, MiB |\n| --- | --- | --- |\n${rows.join("\n")}\n`);
  });
}

if (chosen("load")) await load(0);
if (chosen("idle")) await load(IDLE);
if (chosen("soak")) await soak();
