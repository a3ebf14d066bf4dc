/**
 * DPO, GRPO and PPO on stories260K beside TRL: `deno run -A bench/methods.ts [filter] [--json file] [--rounds n]`.
 *
 * Whole programs, one after the other. Tokens per second are of the steps after the second: those of all sides read for DPO,
 * generated ones for GRPO and PPO. The second row of each is the time of the whole job of {@linkcode STEPS} steps, start-up
 * included. KEEL_PYTHON names a Python that has trl, TRL_PPO_SRC an unpacked trl 1.12, the last with PPO.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openGpu } from "../src/gpu/device.ts";
import { loadHeaded } from "../src/model/headed.ts";
import { saveModel } from "../src/model/load.ts";
import { openStore } from "../src/run/store.ts";
import { benchArguments, median, report } from "./timing.ts";

const { filter, json, rounds } = benchArguments(Deno.args);
const { add, save } = report();
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const MODEL = join(Deno.env.get("KEEL_TEST_ASSETS") ?? join(ROOT, "../shared"), "goldens/models/stories260K");
const PYTHON = Deno.env.get("KEEL_PYTHON") ?? "python3";
const STEPS = 16, ROUNDS = Math.min(rounds, 3);

// The same rows as in trl_methods.py.
const PROMPTS = [
  "Once upon a time, there was a little girl named Lily.",
  "One day, Tom went to the park with a red ball.",
  "Ben found a big box in the garden.",
  "The dog was very happy today.",
];
const STORY =
  " She played with the ball all day and was very happy. They all smiled and went home to mom and dad."
    .repeat(4);
const VOWELS = `export const vowels = ({ completions }) =>
  completions.map((text) => [...text].filter((c) => "aeiou".includes(c)).length / Math.max(1, text.length));
`;

interface Method {
  name: "dpo" | "grpo" | "ppo";
  shape: string;
  unit: string;
  /** Tokens of a step. */
  tokens: number;
  /** A metric of every step. */
  metric: string;
  rows: Record<string, string>[];
  flags: Record<string, unknown>;
}

const directory = await Deno.makeTempDir({ prefix: "keel-bench-" });
const rewardFile = join(directory, "vowels.ts"), rewardModel = join(directory, "reward_model");
await Deno.writeTextFile(rewardFile, VOWELS);
const gpu = await openGpu();
await saveModel(gpu, loadHeaded(gpu, MODEL, 1), rewardModel, { tokenizerFrom: MODEL });
gpu.close();

const rowsOf = (row: (prompt: string) => Record<string, string>) =>
  Array.from({ length: 400 }, (_, i) => row(PROMPTS[i % PROMPTS.length]));
const METHODS: Method[] = [
  {
    name: "dpo",
    shape: "4 pairs x96",
    unit: "tokens/s",
    tokens: 4 * 2 * 96,
    metric: "loss",
    rows: rowsOf((prompt) => ({ prompt, chosen: STORY, rejected: [...STORY].reverse().join("") })),
    flags: { max_length: 96, per_device_train_batch_size: 4 },
  },
  {
    name: "grpo",
    shape: "8x4x32",
    unit: "generated tokens/s",
    tokens: 32 * 32,
    metric: "loss",
    rows: rowsOf((prompt) => ({ prompt })),
    flags: {
      num_generations: 4,
      max_completion_length: 32,
      per_device_train_batch_size: 32,
      reward_funcs: rewardFile,
    },
  },
  {
    name: "ppo",
    shape: "32x32, 4 epochs",
    unit: "generated tokens/s",
    tokens: 32 * 32,
    metric: "loss/policy_avg",
    rows: rowsOf((prompt) => ({ prompt })),
    flags: { response_length: 32, per_device_train_batch_size: 32, reward_model: rewardModel },
  },
];

interface Timing {
  tokensPerSecond: number;
  whole: number;
}

async function keel({ name, rows, flags, tokens, metric }: Method): Promise<Timing> {
  const dataset = join(directory, `${name}.jsonl`), out = join(directory, name);
  await Deno.writeTextFile(dataset, rows.map((row) => JSON.stringify(row) + "\n").join(""));
  const all = {
    model: MODEL,
    dataset,
    output_dir: out,
    overwrite_output_dir: true,
    max_steps: STEPS,
    learning_rate: 1e-5,
    ...flags,
  };
  const started = performance.now();
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--allow-all",
      "--no-check",
      join(ROOT, "src/cli/main.ts"),
      name,
      ...Object.entries(all).flatMap(([flag, value]) => [`--${flag}`, String(value)]),
    ],
    stdout: "null",
    stderr: "piped",
  }).output();
  if (code !== 0) throw new Error(new TextDecoder().decode(stderr));
  const whole = (performance.now() - started) / 1e3;
  const store = openStore(join(out, "run.db"));
  const times = store.metrics(name, metric).map((row) => row.time);
  store.close();
  return { tokensPerSecond: (STEPS - 2) * tokens / (times.at(-1)! - times[1]), whole };
}

async function trl({ name }: Method): Promise<Timing | undefined> {
  try {
    const { code, stdout } = await new Deno.Command(PYTHON, {
      args: [fileURLToPath(new URL("trl_methods.py", import.meta.url)), name, MODEL, String(STEPS)],
      stdout: "piped",
      stderr: "null",
    }).output();
    if (code !== 0) return undefined;
    const line = JSON.parse(new TextDecoder().decode(stdout).trim().split("\n").at(-1)!);
    return { tokensPerSecond: line.tokens_per_s, whole: line.whole_s };
  } catch {
    return undefined;
  }
}

for (const method of METHODS.filter(({ name }) => filter.test(`methods ${name} stories260K`))) {
  await keel(method); // Pipelines are compiled once on a machine.
  const ours: Timing[] = [], theirs: Timing[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    ours.push(await keel(method));
    const peer = await trl(method);
    if (peer) theirs.push(peer);
  }
  const of = (rows: Timing[], key: keyof Timing) => rows.length ? median(rows.map((row) => row[key])) : NaN;
  const peer = theirs.length ? "TRL, 2 threads" : `no trl in ${PYTHON}`;
  const name = `${method.name} stories260K ${method.shape}`;
  const speed = of(ours, "tokensPerSecond"), peerSpeed = of(theirs, "tokensPerSecond");
  add({ name, unit: method.unit, keel: speed, peer, peer_value: peerSpeed, ratio: speed / peerSpeed });
  const whole = of(ours, "whole"), peerWhole = of(theirs, "whole");
  add({
    name: `${name}, job`,
    unit: "s",
    keel: whole,
    peer,
    peer_value: peerWhole,
    ratio: peerWhole / whole,
  });
}
await Deno.remove(directory, { recursive: true });
save(json);
