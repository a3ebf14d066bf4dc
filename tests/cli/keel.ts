/** The program as a person runs it: in this process, or as one of its own. */
import { join } from "node:path";
import { DESCRIPTIONS } from "../../src/cli/catalogue.ts";
import { runProgram } from "../../src/cli/program.ts";

const MAIN = new URL("../../src/cli/main.ts", import.meta.url).pathname;

/** The whole job, small: a dozen steps of each stage and a checkpoint after every third. */
export const SMALL_TRAIN = {
  demonstrations: 96,
  sft_batch_size: 16,
  pairs: 96,
  reward_batch_size: 8,
  ppo_steps: 12,
  ppo_batch_size: 8,
  eval_steps: 6,
  eval_prompts: 8,
  best_of_n: 0,
  save_steps: 3,
};

/** What a command line came to. */
export interface Outcome {
  code: number;
  out: string;
  err: string;
}

/** Runs a command line in this process. */
export async function keel(...argv: unknown[]): Promise<Outcome> {
  const seen = { out: "", err: "" };
  const openIo = (json: boolean) => ({
    print: (text: string) => void (seen.out += text + "\n"),
    write: (text: string) => void (seen.out += text),
    note: (text: string) => void (seen.err += text + "\n"),
    draw: (text: string) => void (seen.err += text),
    json,
    terminal: false,
    columns: () => 100,
  });
  const definitions = Object.values(DESCRIPTIONS).map((description) => ({
    ...description,
    load: async () =>
      (await import(`../../src/cli/commands/${description.name.replaceAll("-", "_")}.ts`)).run,
  }));
  return { code: await runProgram(argv.map(String), definitions, { openIo }), ...seen };
}

/** Flags of a command line. */
export function flags(options: Record<string, unknown>): string[] {
  return Object.entries(options).flatMap(([name, value]) => [`--${name}`, `${value}`]);
}

/** Starts a command line in a process of its own. */
export function startKeel(argv: string[], env: Record<string, string> = {}): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--no-check", MAIN, ...argv],
    env,
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Runs a command line in a process of its own. */
export async function spawnKeel(argv: string[], env: Record<string, string> = {}): Promise<Outcome> {
  const { code, stdout, stderr } = await startKeel(argv, env).output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, out: text(stdout), err: text(stderr) };
}

/** Writes rows as JSON lines into a directory and returns the file's path. */
export function writeLines(directory: string, name: string, rows: unknown[]): string {
  const path = join(directory, name);
  Deno.writeTextFileSync(path, rows.map((row) => JSON.stringify(row) + "\n").join(""));
  return path;
}

/** The rows of a file of JSON lines. */
export function readLines<T>(path: string): T[] {
  return Deno.readTextFileSync(path).trimEnd().split("\n").map((line) => JSON.parse(line));
}
