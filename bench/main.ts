/**
 * All benchmarks: `deno task bench [filter] [--json file]`. Each is a program of its own, so that one's memory and caches do
 * not weigh on the next; the filter is a pattern over the names of kernels, steps and programs.
 */
import { join } from "node:path";
import { benchArguments, type Row } from "./timing.ts";

/** What the benchmarks need: files, other programs, and what the peers' packages ask for. */
const PERMISSIONS = ["read", "write", "env", "run", "sys", "ffi", "net"].map((name) => `--allow-${name}`);

const { json, rounds } = benchArguments(Deno.args);
const filter = Deno.args.find((arg, i) => !arg.startsWith("--") && !Deno.args[i - 1]?.startsWith("--")) ??
  ".";
const directory = await Deno.makeTempDir({ prefix: "keel-bench-" });
const rows: Row[] = [];
let failed = false;
for (const name of ["kernels", "steps", "sft", "methods", "models"]) {
  if (name === "sft" && !new RegExp(filter).test("sft stories260K")) continue;
  if (name === "methods" && !new RegExp(filter).test("methods dpo grpo ppo stories260K")) continue;
  if (name === "models" && !new RegExp(filter).test("models SmolLM2")) continue;
  const file = join(directory, `${name}.json`);
  const { code } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-check",
      ...PERMISSIONS,
      new URL(`${name}.ts`, import.meta.url).pathname,
      filter,
      "--json",
      file,
      "--rounds",
      String(rounds),
    ],
    stdout: "inherit",
    stderr: "inherit",
  }).output();
  if (code === 0) rows.push(...JSON.parse(await Deno.readTextFile(file)));
  else failed = true;
}
await Deno.remove(directory, { recursive: true });
if (json) await Deno.writeTextFile(json, JSON.stringify(rows, null, 2) + "\n");
Deno.exit(failed ? 1 : 0);
