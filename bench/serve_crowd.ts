/**
 * A crowd for `serve.ts`, in a process of its own: `deno run --allow-net bench/serve_crowd.ts` with a line of JSON on standard
 * input. Prints what it met as a line of JSON.
 */
import process from "node:process";

/** What the crowd does. */
export interface Crowd {
  url: string;
  run: string;
  seconds: number;
  /** Event streams that are followed all the time. */
  streams: number;
  /** Reads of metrics in a second. */
  reads: number;
  /** Connections that say nothing. */
  idle: number;
}

/** What it met. */
export interface Met {
  /** Milliseconds of each read. */
  latencies: number[];
  /** Reads that failed. */
  failures: number;
  /** Entries that each stream got, how many are missing between its first and its last, how many came twice. */
  streams: { entries: number; missing: number; twice: number; last: number }[];
  /** Idle connections that were open at the end. */
  idle: number;
  /** Seconds of processor time that the crowd took itself. */
  cpu: number;
}

interface Reader {
  get(path: string): Promise<{ status: number }>;
}

/** A connection that asks again and again: fetch would cost more than the server's answer. */
async function openReader(hostname: string, port: number): Promise<Reader> {
  const connection = await Deno.connect({ hostname, port });
  const encoder = new TextEncoder(), decoder = new TextDecoder("latin1"), buffer = new Uint8Array(1 << 16);
  return {
    async get(path) {
      await connection.write(encoder.encode(`GET ${path} HTTP/1.1\r\nhost: ${hostname}:${port}\r\n\r\n`));
      let head = "", left: number | undefined;
      while (left === undefined || left > 0) {
        const count = await connection.read(buffer);
        if (count === null) throw new Error("The server hung up.");
        if (left !== undefined) {
          left -= count;
          continue;
        }
        head += decoder.decode(buffer.subarray(0, count));
        const end = head.indexOf("\r\n\r\n");
        const length = /^content-length: (\d+)/im.exec(head);
        if (end >= 0) left = Number(length![1]) - (head.length - end - 4);
      }
      return { status: Number(head.split(" ")[1]) };
    },
  };
}

async function meet({ url, run, seconds, streams, reads, idle }: Crowd): Promise<Met> {
  const began = process.cpuUsage();
  const { hostname, port } = new URL(url);
  const silent: Deno.Conn[] = [];
  for (let i = 0; i < idle; i++) silent.push(await Deno.connect({ hostname, port: Number(port) }));
  const { stream_end } = await (await fetch(`${url}/runs/${run}`)).json();
  const readers: ReadableStreamDefaultReader<Uint8Array>[] = [];
  const followed = Array.from({ length: streams }, async () => {
    const seen = new Set<number>(), decoder = new TextDecoder();
    let twice = 0, rest = "";
    const response = await fetch(`${url}/runs/${run}/stream?after=${stream_end}`);
    const reader = response.body!.getReader();
    readers.push(reader);
    for (let { value, done } = await reader.read(); !done; { value, done } = await reader.read()) {
      const whole = rest + decoder.decode(value, { stream: true }), end = whole.lastIndexOf("\n") + 1;
      rest = whole.slice(end);
      for (const [, id] of whole.slice(0, end).matchAll(/^id: (\d+)$/gm)) {
        if (seen.has(Number(id))) twice++;
        seen.add(Number(id));
      }
    }
    const last = Math.max(stream_end, ...seen);
    return { entries: seen.size, missing: last - stream_end - seen.size, twice, last };
  });

  const latencies: number[] = [], pending: Promise<void>[] = [];
  let failures = 0;
  const free: Reader[] = [];
  async function read() {
    const started = performance.now();
    try {
      const reader = free.pop() ?? await openReader(hostname, Number(port));
      const { status } = await reader.get(`/runs/${run}/metrics?name=loss&max_points=200`);
      free.push(reader);
      if (status !== 200) failures++;
    } catch {
      failures++;
    }
    latencies.push(performance.now() - started);
  }
  const started = performance.now(), until = started + 1000 * seconds;
  for (let due = started; due < until; due += 1000 / reads) {
    const wait = due - performance.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    pending.push(read());
  }
  await Promise.all(pending);
  // What was told up to now must arrive.
  await new Promise((resolve) => setTimeout(resolve, 1000));
  for (const reader of readers) reader.cancel();
  const met = await Promise.all(followed);
  let open = 0;
  for (const connection of silent) {
    try {
      connection.close();
      open++;
    } catch {
      // The server closed it.
    }
  }
  const { user, system } = process.cpuUsage(began);
  return { latencies, failures, streams: met, idle: open, cpu: (user + system) / 1e6 };
}

if (import.meta.main) {
  const crowd: Crowd = JSON.parse(await new Response(Deno.stdin.readable).text());
  console.log(JSON.stringify(await meet(crowd)));
  Deno.exit(0);
}
