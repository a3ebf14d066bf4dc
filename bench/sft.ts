/**
 * `keel sft` on stories260K, 8 × 96 tokens a step, beside TRL: `deno run -A bench/sft.ts [--json file]`.
 *
 * Whole programs, one after the other, three times each; tokens per second are of the steps after the second, start-up is from
 * the command to the end of the first step. KEEL_PYTHON names a Python that has trl; the model is looked for in
 * KEEL_TEST_ASSETS. Also: the peak memory of the program, and the time that all its kernels take to compile without a cache.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openStore } from "../src/run/store.ts";
import { benchArguments, median, report } from "./timing.ts";

const { json } = benchArguments(Deno.args);
const { add, save } = report();
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const MODEL = join(Deno.env.get("KEEL_TEST_ASSETS") ?? join(ROOT, "../shared"), "goldens/models/stories260K");
const PYTHON = Deno.env.get("KEEL_PYTHON") ?? "python3";
const STEPS = 50, ROUNDS = 3;
const TEXT =
  "One day, a little girl named Lily went to the park with her mom. She saw a big red ball and wanted to play with it. "
    .repeat(4);

interface Timing {
  tokensPerSecond: number;
  firstStep: number;
}

async function keel(directory: string, environment: Record<string, string> = {}): Promise<Timing> {
  const data = join(directory, "texts.jsonl"), out = join(directory, "run");
  await Deno.writeTextFile(data, `${JSON.stringify({ text: TEXT })}\n`.repeat(400));
  const started = Date.now() / 1000;
  const flags = {
    model: MODEL,
    dataset: data,
    output_dir: out,
    overwrite_output_dir: true,
    max_length: 96,
    max_steps: STEPS,
    learning_rate: 1e-4,
    shuffle_dataset: false,
  };
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--allow-all",
      "--no-check",
      join(ROOT, "src/cli/main.ts"),
      "sft",
      ...Object.entries(flags).flatMap(([name, value]) => [`--${name}`, String(value)]),
    ],
    env: environment,
    stdout: "null",
    stderr: "piped",
  }).output();
  if (code !== 0) throw new Error(new TextDecoder().decode(stderr));
  const store = openStore(join(out, "run.db"));
  const times = store.metrics("sft", "loss").map((row) => row.time);
  store.close();
  return { tokensPerSecond: (STEPS - 2) * 768 / (times.at(-1)! - times[1]), firstStep: times[0] - started };
}

async function trl(): Promise<Timing | undefined> {
  const script = fileURLToPath(new URL("trl_sft.py", import.meta.url));
  try {
    const { code, stdout } = await new Deno.Command(PYTHON, {
      args: [script, MODEL],
      stdout: "piped",
      stderr: "null",
    })
      .output();
    if (code !== 0) return undefined;
    const line = JSON.parse(new TextDecoder().decode(stdout).trim().split("\n").at(-1)!);
    return { tokensPerSecond: line.tokens_per_s, firstStep: line.first_step_s };
  } catch {
    return undefined;
  }
}

const directory = await Deno.makeTempDir({ prefix: "keel-bench-" });
const cold = await keel(directory, {
  MESA_SHADER_CACHE_DIR: join(directory, "shaders"),
  MESA_SHADER_CACHE_DISABLE: "true",
});
const ours: Timing[] = [], theirs: Timing[] = [];
for (let round = 0; round < ROUNDS; round++) {
  ours.push(await keel(directory));
  const peer = await trl();
  if (peer) theirs.push(peer);
}
await Deno.remove(directory, { recursive: true });

const of = (rows: Timing[], key: keyof Timing) => rows.length ? median(rows.map((row) => row[key])) : NaN;
const peer = theirs.length ? "TRL, 2 threads" : `no trl in ${PYTHON}`;
const speed = of(ours, "tokensPerSecond"), peerSpeed = of(theirs, "tokensPerSecond");
add({
  name: "sft stories260K 8x96",
  unit: "tokens/s",
  keel: speed,
  peer,
  peer_value: peerSpeed,
  ratio: speed / peerSpeed,
});
const first = of(ours, "firstStep"), peerFirst = of(theirs, "firstStep");
add({
  name: "sft first step, warm",
  unit: "s",
  keel: first,
  peer,
  peer_value: peerFirst,
  ratio: peerFirst / first,
});
add({
  name: "sft first step, no shader cache",
  unit: "s",
  keel: cold.firstStep,
  peer: "warm",
  peer_value: first,
  ratio: first / cold.firstStep,
});
save(json);
