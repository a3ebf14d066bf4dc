/** TRL's recorded trajectories and the tolerances of `tests/goldens/trl/README.md`. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { openStore } from "../../src/run/store.ts";
import { readSafetensors } from "../../src/model/safetensors.ts";
import { DESCRIPTIONS } from "../../src/cli/catalogue.ts";
import type { CommandName } from "../../src/cli/commands.ts";
import { runProgram } from "../../src/cli/program.ts";
import { golden } from "../assets.ts";

/** Runs a command of the program in this process, without a word unless it fails. */
export async function runKeel(name: CommandName, flags: Record<string, unknown>): Promise<void> {
  const argv = [name, ...Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, `${value}`])];
  const load = async () => (await import(`../../src/cli/commands/${name}.ts`)).run;
  const said: string[] = [];
  const openIo = () => ({
    print() {},
    write() {},
    note: (text: string) => void said.push(text),
    draw() {},
    json: false,
    terminal: false,
    columns: () => 80,
  });
  const code = await runProgram(argv, [{ ...DESCRIPTIONS[name], load }], { openIo });
  assert.equal(code, 0, said.join("\n"));
}

/** Sums of a weight tensor. */
interface Checksum {
  l2: number;
  first8: number[];
  top8_moved: [number, number][];
}

/** A recorded run of one of TRL's trainers. */
export interface Trajectory {
  config: Record<string, number | string | boolean | null>;
  steps: { step: number; micro: { loss: number }[]; logs: Record<string, number> }[];
  eval: Record<string, number>;
  final_weights: Record<string, Checksum>;
}

export function trajectory(name: string, path: string = golden(`trl/${name}.json`)): Trajectory {
  return JSON.parse(readFileSync(path, "utf8"));
}

/** Metrics of a finished run by step. */
export function metricsOf(runDir: string, stage: string): Map<number, Record<string, number>> {
  const store = openStore(join(runDir, "run.db"));
  const steps = new Map<number, Record<string, number>>();
  for (const { step, name, value } of store.metrics(stage)) {
    steps.set(step, { ...steps.get(step), [name]: value });
  }
  store.close();
  return steps;
}

/** Compares logged metrics with TRL's, each within its tolerance, and returns the largest share of it that was used. */
export function compareSteps(
  name: string,
  want: Trajectory,
  got: Map<number, Record<string, number>>,
): number {
  let worst = 0;
  const check = (what: string, x: number, y: number, tolerance: number) => {
    const share = Math.abs(x - y) / tolerance;
    assert.ok(share <= 1, `${name}: ${what} is ${x}, TRL has ${y} (tolerance ${tolerance}).`);
    worst = Math.max(worst, share);
  };
  assert.equal(got.size, want.steps.length, `${name} has ${got.size} steps`);
  for (const { step, logs } of want.steps) {
    const metrics = got.get(step)!;
    for (const [key, value] of Object.entries(logs)) {
      if (key === "epoch" || key === "num_tokens") {
        assert.ok(Math.abs(metrics[key] - value) < 1e-9 * Math.max(1, value), `${name}: step ${step} ${key}`);
      } else if (key === "learning_rate") {
        check(`step ${step} ${key}`, metrics[key], value, 1e-12 + 1e-6 * value);
      } else if (key === "grad_norm") {
        check(`step ${step} ${key}`, metrics[key], value, (step === 1 ? 1e-4 : 5e-3) * value);
      } else if (key === "mean_token_accuracy" || key === "accuracy") {
        check(`step ${step} ${key}`, metrics[key], value, 0.01);
      } else {
        const tolerance = step === 1 ? 2e-5 * Math.abs(value) + 1e-6 : 2e-3 * Math.abs(value) + 2e-4;
        check(`step ${step} ${key}`, metrics[key], value, tolerance);
      }
    }
  }
  return worst;
}

/** Compares the weights of `directory` with TRL's final checksums. */
export function compareWeights(name: string, want: Record<string, Checksum>, directory: string): number {
  const weights = readSafetensors(join(directory, "model.safetensors"));
  return compareTensors(name, want, (tensor) => weights.read(tensor));
}

/** Compares weights with TRL's final checksums. */
export function compareTensors(
  name: string,
  want: Record<string, Checksum>,
  read: (tensor: string) => Float32Array,
): number {
  let worst = 0;
  for (const [tensor, sums] of Object.entries(want)) {
    const data = read(tensor);
    const l2 = Math.sqrt(data.reduce((sum, x) => sum + x * x, 0));
    const check = (what: string, share: number) => {
      assert.ok(share <= 1, `${name}: ${what} of ${tensor} uses ${share} of its tolerance.`);
      worst = Math.max(worst, share);
    };
    check("l2", Math.abs(l2 - sums.l2) / (1e-4 * sums.l2));
    if (tensor === "model.embed_tokens.weight") continue;
    for (const [i, value] of sums.top8_moved) check(`element ${i}`, Math.abs(data[i] - value) / 5e-5);
    sums.first8.forEach((value, i) => check(`element ${i}`, Math.abs(data[i] - value) / 5e-5));
  }
  return worst;
}
