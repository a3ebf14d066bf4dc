/** What the tests of losses on the host share: TRL's cases, ragged rows of padded tensors, differences. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { readSafetensors } from "../../src/model/safetensors.ts";
import type { PerToken } from "../../src/rl/token_loss.ts";
import { golden } from "../assets.ts";

/** One recorded case. */
export interface Case {
  id: string;
  config: Record<string, unknown>;
  loss: number;
  metrics: Record<string, number>;
  /** Names of the gradients' tensors. */
  grad: Record<string, string>;
  tensors: Record<string, string>;
}

/** Cases of a family and its tensors. */
export function trlCases(family: string) {
  const { cases } = JSON.parse(readFileSync(golden(`trl/${family}.json`), "utf8")) as { cases: Case[] };
  const tensors = readSafetensors(golden(`trl/${family}.safetensors`));
  return {
    cases,
    tensors,
    /** Rows of a [rows, time] tensor, cut to `lengths`. */
    rows(name: string, lengths: number[]): PerToken {
      const all = tensors.read(name), width = all.length / lengths.length;
      return lengths.map((length, i) => Float64Array.from(all.subarray(i * width, i * width + length)));
    },
    /** Sums of the rows of a mask. */
    lengths(name: string, rows: number): number[] {
      const all = tensors.readIntegers(name), width = all.length / rows;
      return Array.from(
        { length: rows },
        (_, i) => all.subarray(i * width, (i + 1) * width).reduce((a, b) => a + b, 0),
      );
    },
  };
}

/** Compares numbers within tolerances and keeps the largest share of one that was used. */
export function comparison() {
  return {
    worst: 0,
    close(what: string, got: number, want: number, tolerance: number) {
      const share = Math.abs(got - want) / tolerance;
      assert.ok(share <= 1, `${what} is ${got}, TRL has ${want} (tolerance ${tolerance}).`);
      this.worst = Math.max(this.worst, share);
    },
    /** A gradient, within 3e-5 of its largest element. */
    gradient(what: string, got: PerToken, want: PerToken) {
      const largest = want.flatMap((row) => [...row]).reduce((most, x) => Math.max(most, Math.abs(x)), 0);
      assert.ok(largest > 0, `${what} is zero everywhere in TRL`);
      want.forEach((row, i) =>
        row.forEach((x, t) => this.close(`${what}[${i}][${t}]`, got[i][t], x, 3e-5 * largest))
      );
    },
  };
}

/** Checks a gradient against differences of the loss in every number of `at`. */
export function checkSlopes(
  what: string,
  at: PerToken,
  gradient: PerToken,
  lossAt: (moved: PerToken) => number,
): void {
  const step = 1e-5;
  const scale = gradient.flatMap((row) => [...row]).reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  at.forEach((row, i) =>
    row.forEach((x, t) => {
      const moved = (by: number) => {
        const copy = at.map((one) => one.slice());
        copy[i][t] = x + by;
        return lossAt(copy);
      };
      const slope = (moved(step) - moved(-step)) / (2 * step);
      assert.ok(
        Math.abs(slope - gradient[i][t]) <= 1e-6 * scale + 1e-9,
        `${what}: d/d[${i}][${t}] is ${gradient[i][t]}, differences say ${slope}`,
      );
    })
  );
}
