/**
 * Other libraries as worker processes: each answers commands on stdin, one JSON line per answer, so that only one of them
 * works at a time and a crash is an answer like any other. They are fetched or found when the benchmark runs and are no
 * dependency of keel.
 */
import { fileURLToPath } from "node:url";

/** What a worker answers. `step` gives loss, `gradients` norms, `decode` tokens; each with the milliseconds it took. */
export interface Answer {
  ready?: boolean;
  milliseconds?: number;
  loss?: number;
  norms?: Record<string, number>;
  tokens?: number[];
  error?: string;
}

/** A running worker. */
export interface Worker {
  ask(command: "step" | "gradients" | "decode"): Promise<Answer>;
  close(): void;
}

/** A library that can be started for a configuration. */
export interface Peer {
  name: string;
  start(config: string): Promise<Worker>;
}

const PYTHON = Deno.env.get("KEEL_PYTHON") ?? "python3";
const script = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const deno = (name: string): Peer["start"] => (config) =>
  start(Deno.execPath(), ["run", "--allow-all", "--no-lock", script(name), config]);

/** The libraries of the step benchmark. */
export const PEERS: Record<"torch" | "jax" | "tfjs", Peer> = {
  // One thread, and passive waiting: PyTorch's spinning threads collapse beside any other work.
  torch: { name: "PyTorch, 1 thread", start: (config) => start(PYTHON, [script("torch_step.py"), config]) },
  jax: { name: "jax-js", start: deno("jax_step.ts") },
  tfjs: { name: "tfjs", start: deno("tfjs_step.ts") },
};

/** @throws {Error} when the program is missing or ends before it is ready, with the end of what it said. */
async function start(program: string, args: string[]): Promise<Worker> {
  const child = new Deno.Command(program, {
    args,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
    env: { OMP_NUM_THREADS: "1", OMP_WAIT_POLICY: "passive" },
  }).spawn();
  const lines = answers(child.stdout);
  const complaints = new Response(child.stderr).text();
  const stdin = child.stdin.getWriter();
  const next = async (): Promise<Answer> => {
    const { value, done } = await lines.next();
    if (!done) return value;
    return { error: (await complaints).trim().split("\n").slice(-3).join(" ").slice(-300) || "it ended" };
  };
  const first = await next();
  if (first.error) throw new Error(first.error);
  return {
    async ask(command) {
      try {
        await stdin.write(new TextEncoder().encode(`${command}\n`));
      } catch {
        // The answer below says how it ended.
      }
      return await next();
    },
    close() {
      stdin.close().catch(() => {});
      child.kill();
    },
  };
}

/** The lines that begin with `@@`. */
async function* answers(stream: ReadableStream<Uint8Array>): AsyncGenerator<Answer> {
  let rest = "";
  for await (
    const text of stream.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)
  ) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) if (line.startsWith("@@")) yield JSON.parse(line.slice(2));
  }
}

/** What a worker written in TypeScript can do. */
export interface Work {
  /** Forward, backward and AdamW; the loss before the update. */
  step(): Promise<number>;
  /** Norm of every gradient. */
  gradients(): Promise<Record<string, number>>;
  decode?(): Promise<ArrayLike<number>>;
}

/** Answers commands until stdin ends. */
export async function serve(work: Work): Promise<void> {
  const say = (answer: Answer) => console.log("@@" + JSON.stringify(answer));
  say({ ready: true });
  let rest = "";
  const text = Deno.stdin.readable.pipeThrough(
    new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>,
  );
  for await (const part of text) {
    const commands = (rest + part).split("\n");
    rest = commands.pop()!;
    for (const command of commands) {
      const started = performance.now();
      try {
        const answer: Answer = command === "step"
          ? { loss: await work.step() }
          : command === "decode"
          ? { tokens: Array.from(await work.decode!()) }
          : { norms: await work.gradients() };
        say({ ...answer, milliseconds: performance.now() - started });
      } catch (error) {
        say({ error: String(error).slice(0, 300) });
      }
    }
  }
}
