/**
 * The parrot's story over seeds: `deno run --allow-all bench/parrot.ts [seeds, e.g. 1,2,3] [directory]`.
 *
 * Runs `keel train` for every seed with β 0.7 and β 0 (one SFT and reward model for both) and with unbiased annotators at β 0,
 * and prints the tables of docs/parrot.md.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openStore } from "../src/run/store.ts";
import { evaluationsOf } from "../src/train/report.ts";
import { overOptimisedAt, riseAndFall } from "../src/watch/over_optimisation.ts";

const seeds = (Deno.args[0] ?? "1,2,3,4,5").split(",").map(Number);
const directory = Deno.args[1] ?? "runs/parrot";
const MAIN = fileURLToPath(new URL("../src/cli/main.ts", import.meta.url));

async function train(outputDir: string, flags: Record<string, unknown>): Promise<void> {
  const all = { output_dir: outputDir, ...flags };
  const args = Object.entries(all).flatMap(([name, value]) => [`--${name}`, String(value)]);
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--no-check", MAIN, "train", ...args],
    stdout: "null",
    stderr: "piped",
  }).output();
  if (code !== 0) throw new Error(new TextDecoder().decode(stderr));
}

/** The same SFT and reward model, for another PPO. */
async function fork(from: string, to: string): Promise<void> {
  const copy = await new Deno.Command("cp", { args: ["-r", from, to] }).output();
  if (!copy.success) throw new Error(`Cannot copy ${from} to ${to}.`);
  await Deno.remove(join(to, "ppo"), { recursive: true });
  const store = openStore(join(to, "run.db"));
  store.truncateAfter("ppo", -1);
  store.close();
}

interface Row {
  condition: string;
  seed: number;
  text: string[];
}

function describe(condition: string, seed: number, dir: string): Row {
  const store = openStore(join(dir, "run.db"));
  const evaluations = evaluationsOf(store.samples("ppo"));
  const agreement = store.metrics("ppo", "gold/agrees_with_wrong");
  store.close();
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const golds = evaluations.map((e) => mean(e.gold)), proxies = evaluations.map((e) => mean(e.proxy));
  const { peakStep, rise, fall } = riseAndFall(evaluations);
  const at = evaluations.findIndex((e) => e.step === peakStep);
  const f = (x: number) => x.toFixed(2);
  const interval = (d: { mean: number; low: number; high: number }) =>
    `${f(d.mean)} [${f(d.low)}, ${f(d.high)}]`;
  const climbs = proxies.filter((p, i) => i > 0 && p > proxies[i - 1]).length;
  return {
    condition,
    seed,
    text: [
      f(golds[0]),
      `${f(golds[at])} (${peakStep})`,
      f(golds.at(-1)!),
      interval(rise),
      interval(fall),
      `${f(proxies[0])} → ${f(proxies.at(-1)!)}`,
      `${climbs}/${proxies.length - 1}`,
      `${f(agreement[0].value)} / ${f(agreement[at].value)} / ${f(agreement.at(-1)!.value)}`,
      `${f(evaluations[at].kl)} / ${f(evaluations.at(-1)!.kl)}`,
      String(overOptimisedAt(evaluations) ?? "–"),
    ],
  };
}

const HEAD = [
  "annotators, β",
  "seed",
  "gold SFT",
  "peak (step)",
  "end",
  "rise",
  "fall",
  "proxy",
  "climbs",
  "agrees with wrong SFT / peak / end",
  "KL peak / end",
  "watch",
];
console.log(`| ${HEAD.join(" | ")} |\n|${"---|".repeat(HEAD.length)}`);
for (const seed of seeds) {
  const held = join(directory, `${seed}-0.7`),
    free = join(directory, `${seed}-0`),
    control = join(directory, `${seed}-control`);
  const quiet = { seed, best_of_n: 0, eval_prompts: 512 };
  await train(held, quiet);
  await fork(held, free);
  await train(free, { ...quiet, kl_coef: 0, resume: true });
  await train(control, { ...quiet, kl_coef: 0, annotators: "unbiased" });
  for (
    const row of [
      describe("biased, 0.7", seed, held),
      describe("biased, 0", seed, free),
      describe("unbiased, 0", seed, control),
    ]
  ) {
    console.log(`| ${[row.condition, row.seed, ...row.text].join(" | ")} |`);
  }
}
