/** Accuracy and calibration of scores whose probabilities are known. */
import assert from "node:assert/strict";
import {
  bestTemperature,
  calibrationBins,
  calibrationReport,
  logLoss,
  preferenceReport,
  wilson,
} from "../../src/sample/preferences.ts";
import { randomStream } from "../../src/random/stream.ts";

const near = (got: number, want: number, within: number, what = "") =>
  assert.ok(Math.abs(got - want) <= within, `${what} ${got}, not ${want}`);

/** Margins that are `scale` times what the chances of their signs say. */
function margins(count: number, scale: number): number[] {
  const rng = randomStream(3, "margins");
  return Array.from({ length: count }, () => {
    const size = Math.abs(2 * rng.normal());
    return rng.uniform() < 1 / (1 + Math.exp(-size)) ? scale * size : -scale * size;
  });
}

Deno.test("margins that are log-odds are found to be calibrated, and others to be off by their factor", () => {
  const honest = calibrationReport(margins(40_000, 1));
  assert.ok(honest.ece < 0.01, `${honest.ece}`);
  near(honest.temperature!, 1, 0.02);
  for (const { predicted, observed, pairs } of honest.bins) {
    near(observed, predicted, 4 * Math.sqrt(0.25 / pairs), "observed");
  }
  for (const scale of [4, 0.25]) {
    const { ece, temperature, log_loss, log_loss_at_temperature, ece_at_temperature } = calibrationReport(
      margins(40_000, scale),
    );
    near(temperature!, scale * honest.temperature!, 1e-6 * scale);
    near(log_loss_at_temperature!, honest.log_loss_at_temperature!, 1e-9);
    assert.ok(ece > 0.05 && ece_at_temperature! < 0.01, `${ece} ${ece_at_temperature}`);
    assert.ok(log_loss > log_loss_at_temperature!);
  }
});

Deno.test("the temperature is where no other has a smaller loss", () => {
  const some = margins(301, 3), best = bestTemperature(some)!;
  for (const factor of [0.5, 0.9, 0.999, 1.001, 1.1, 2]) {
    assert.ok(logLoss(some, best * factor) > logLoss(some, best));
  }
  // Two right and one wrong of one size: the best probability is two in three.
  near(bestTemperature([5, 5, -5])!, 5 / Math.LN2, 1e-9);
});

Deno.test("there is no temperature where the loss has no minimum", () => {
  assert.equal(bestTemperature([1, 2, 0.1]), null);
  assert.equal(bestTemperature([1, -1]), null);
  assert.equal(bestTemperature([1, -3]), null);
  assert.equal(bestTemperature([0, 0]), null);
  const report = calibrationReport([1, 2]);
  assert.deepEqual([report.log_loss_at_temperature, report.ece_at_temperature], [null, null]);
});

Deno.test("margins count in the bin of the side that scores higher", () => {
  const logit = (p: number) => Math.log(p / (1 - p));
  const bins = calibrationBins([logit(0.61), -logit(0.63), logit(0.64), 0, 1000, -1000]);
  assert.deepEqual(bins.map(({ from, to, pairs }) => [from, to, pairs]), [
    [0.5, 0.55, 1],
    [0.6, 0.65, 3],
    [0.95, 1, 2],
  ]);
  assert.deepEqual(bins.map(({ observed }) => observed), [0.5, 2 / 3, 0.5]);
  near(bins[1].predicted, (0.61 + 0.63 + 0.64) / 3, 1e-12);
  assert.equal(bins[2].predicted, 1);
});

Deno.test("equal scores are ties and count as wrong; large margins lose no accuracy", () => {
  const { accuracy, ties, mean_margin, pairs } = preferenceReport([1, 0, -2, 3]);
  assert.deepEqual([accuracy.share, ties, mean_margin, pairs], [0.5, 1, 0.5, 4]);
  const { log_loss, brier } = calibrationReport([-800, 800]);
  assert.deepEqual([log_loss, brier], [400, 0.5]);
  const coin = calibrationReport([0, 0]);
  assert.deepEqual([coin.log_loss, coin.brier, coin.ece], [Math.LN2, 0.25, 0]);
});

Deno.test("the interval of a share is Wilson's", () => {
  // Of Brown, Cai and DasGupta (2001): bounds are where the normal test of that share just rejects.
  for (const [hits, count] of [[0, 10], [7, 10], [10, 10], [481, 1000]]) {
    const { share, low, high } = wilson(hits, count);
    assert.equal(share, hits / count);
    for (const p of [low, high]) {
      if (p < 1e-12 || p > 1 - 1e-12) continue;
      near(
        Math.abs(share - p) / Math.sqrt(p * (1 - p) / count),
        1.959963984540054,
        1e-9,
        `${hits} of ${count}`,
      );
    }
  }
  near(wilson(0, 10).high, 0.2775, 1e-4);
});
