/** TRL's recorded preference losses, their tolerances, and derivatives by differences. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { readSafetensors } from "../../src/model/safetensors.ts";
import type { TokenLoss } from "../../src/rl/token_loss.ts";
import { golden } from "../assets.ts";
import { random } from "../kernels/helpers.ts";

/** One recorded call of a trainer's loss. */
export interface LossCase<Config> {
  id: string;
  config: Config;
  loss: number;
  metrics: Record<string, number>;
}

/** Recorded calls of one family, and their tensors. */
export function recordedLosses<Config>(name: string) {
  const { cases } = JSON.parse(readFileSync(golden(`trl/${name}.json`), "utf8"));
  const tensors = readSafetensors(golden(`trl/${name}.safetensors`));
  return { cases: cases as LossCase<Config>[], tensors };
}

/** Largest shares of the tolerances of `tests/goldens/trl/README.md` that were used. */
export const used = { loss: 0, gradient: 0, metric: 0 };

function within(kind: keyof typeof used, what: string, got: number, want: number, allowed: number): void {
  const share = Math.abs(got - want) / allowed;
  assert.ok(share <= 1, `${what} is ${got}, expected ${want} ± ${allowed}`);
  used[kind] = Math.max(used[kind], share);
}

export function checkLoss(id: string, got: number, want: number): void {
  within("loss", `${id}: loss`, got, want, 2e-6 + 1e-5 * Math.abs(want));
}

/** Compares a gradient with another, relative to its largest number. */
export function checkGradient(id: string, got: ArrayLike<number>, want: ArrayLike<number>): void {
  assert.equal(got.length, want.length);
  const largest = Array.from(want).reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  assert.ok(largest > 0, `${id} has a gradient`);
  for (let i = 0; i < want.length; i++) {
    within("gradient", `${id}: d[${i}]`, got[i], want[i], 3e-5 * largest);
  }
}

/** Compares those of TRL's metrics that the loss itself reports. */
export function checkMetrics(
  id: string,
  got: Record<string, number>,
  want: Record<string, number>,
  others: string[],
): void {
  const names = Object.keys(want).filter((name) => !others.includes(name));
  assert.deepEqual(Object.keys(got).sort(), names.sort(), id);
  for (const name of names) {
    within("metric", `${id}: ${name}`, got[name], want[name], 1e-5 * Math.max(1, Math.abs(want[name])));
  }
}

/** Answers of different lengths with log-probabilities below 0, some of them a single token. */
export function randomAnswers(seed: number, count: number): Float64Array[] {
  const { float, below } = random(seed);
  return Array.from(
    { length: count },
    (_, i) =>
      Float64Array.from({ length: i % 3 === 0 ? 1 : 2 + below(6) }, () => -0.05 - Math.abs(float()) * 1.5),
  );
}

/** Compares derivatives with central differences of the loss, each of the numbers moved by itself. */
export function checkDifferences(
  what: string,
  answers: Float64Array[],
  lossOf: (answers: Float64Array[]) => TokenLoss,
): void {
  const { dLogprobs } = lossOf(answers);
  assert.deepEqual(dLogprobs.map(({ length }) => length), answers.map(({ length }) => length), what);
  const h = 1e-5;
  answers.forEach((answer, i) =>
    answer.forEach((value, t) => {
      const moved = (by: number) =>
        lossOf(answers.map((other, j) => j === i ? other.with(t, value + by) : other)).loss;
      const slope = (moved(h) - moved(-h)) / (2 * h), tolerance = 1e-7 * Math.max(1, Math.abs(slope));
      assert.ok(
        Math.abs(dLogprobs[i][t] - slope) <= tolerance,
        `${what}: answer ${i} token ${t} has ${dLogprobs[i][t]}, by differences ${slope}`,
      );
    })
  );
}
