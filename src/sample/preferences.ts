/**
 * How well scores agree with preferences, and how far their differences can be taken as probabilities: a Bradley–Terry model says
 * that the chosen side wins with probability σ(margin), margin = score(chosen) − score(rejected).
 *
 * @module
 */

/** A share of `count` with its 95 % interval. */
export interface Share {
  share: number;
  low: number;
  high: number;
}

/** Wilson's score interval of a share (1927): it is never empty, and never leaves [0, 1]. */
export function wilson(hits: number, count: number): Share {
  const z = 1.959963984540054, share = hits / count;
  const middle = (share + z * z / (2 * count)) / (1 + z * z / count);
  const half = z / (1 + z * z / count) * Math.sqrt(share * (1 - share) / count + z * z / (4 * count * count));
  return { share, low: Math.max(0, middle - half), high: Math.min(1, middle + half) };
}

/** ln(1 + e^x). */
const softplus = (x: number) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

const sigmoid = (x: number) => x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));

const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** Mean of −ln σ(margin / temperature). */
export function logLoss(margins: number[], temperature = 1): number {
  return mean(margins.map((margin) => softplus(-margin / temperature)));
}

/** Pairs whose probability for the side that scores higher lies between `from` and `to`. */
export interface CalibrationBin {
  from: number;
  to: number;
  pairs: number;
  /** Mean probability. */
  predicted: number;
  /** Share of the pairs in which that side is the chosen one; of pairs with equal scores, half. */
  observed: number;
}

const BINS = 10;

/**
 * Predicted against observed in ten bins. The order of a pair's sides means nothing, so each is looked at from the side that
 * scores higher: the prediction is σ(|margin|), from 0.5 to 1. Bins without pairs are left out.
 */
export function calibrationBins(margins: number[], temperature = 1): CalibrationBin[] {
  const bins = Array.from({ length: BINS }, () => ({ pairs: 0, predicted: 0, hits: 0 }));
  for (const margin of margins) {
    const predicted = sigmoid(Math.abs(margin) / temperature);
    const bin = bins[Math.min(BINS - 1, Math.floor((predicted - 0.5) * 2 * BINS))];
    bin.pairs++;
    bin.predicted += predicted;
    bin.hits += margin > 0 ? 1 : margin === 0 ? 0.5 : 0;
  }
  const edge = (i: number) => (BINS + i) / (2 * BINS);
  return bins.flatMap(({ pairs, predicted, hits }, i) =>
    pairs
      ? [{ from: edge(i), to: edge(i + 1), pairs, predicted: predicted / pairs, observed: hits / pairs }]
      : []
  );
}

/** Expected calibration error (arXiv 1706.04599): mean distance of predicted and observed, by the pairs in each bin. */
export function calibrationError(bins: CalibrationBin[]): number {
  const all = bins.reduce((sum, { pairs }) => sum + pairs, 0);
  return bins.reduce((sum, bin) => sum + bin.pairs / all * Math.abs(bin.predicted - bin.observed), 0);
}

/**
 * The temperature that minimises the log-loss, which is convex in 1 / T. There is none, `null`, where it falls for ever: all
 * pairs are right (T → 0), or the margins are of no use (T → ∞).
 */
export function bestTemperature(margins: number[]): number | null {
  // The slope of the loss in x = 1 / T; it grows with x.
  const slope = (x: number) => -mean(margins.map((margin) => margin * sigmoid(-margin * x)));
  const largest = margins.reduce((most, margin) => Math.max(most, Math.abs(margin)), 0);
  if (margins.every((margin) => margin >= 0) || !(slope(0) < 0)) return null;
  let low = 0, high = 1 / largest;
  while (slope(high) < 0) high *= 2;
  for (let i = 0; i < 100; i++) {
    const middle = (low + high) / 2;
    if (slope(middle) < 0) low = middle;
    else high = middle;
  }
  return 2 / (low + high);
}

/** What scores are worth on preference pairs. */
export interface PreferenceReport {
  pairs: number;
  /** Share of pairs in which the chosen side scores higher. */
  accuracy: Share;
  /** Pairs with equal scores, which count as wrong. */
  ties: number;
  mean_margin: number;
}

/** Accuracy and mean margin. */
export function preferenceReport(margins: number[]): PreferenceReport {
  return {
    pairs: margins.length,
    accuracy: wilson(margins.filter((margin) => margin > 0).length, margins.length),
    ties: margins.filter((margin) => margin === 0).length,
    mean_margin: mean(margins),
  };
}

/** What the scores' differences are worth as probabilities. */
export interface CalibrationReport {
  /** Mean of −ln σ(margin), in nats; ln 2 is no better than a coin. */
  log_loss: number;
  /** Mean of (1 − σ(margin))²; 0.25 is no better than a coin. */
  brier: number;
  /** Expected calibration error. */
  ece: number;
  bins: CalibrationBin[];
  /** Dividing margins by this gives the least log-loss; null where none does. */
  temperature: number | null;
  /** With margins divided by it. */
  log_loss_at_temperature: number | null;
  ece_at_temperature: number | null;
}

/** Log-loss, Brier score and calibration. */
export function calibrationReport(margins: number[]): CalibrationReport {
  const bins = calibrationBins(margins), temperature = bestTemperature(margins);
  return {
    log_loss: logLoss(margins),
    brier: mean(margins.map((margin) => sigmoid(-margin) ** 2)),
    ece: calibrationError(bins),
    bins,
    temperature,
    log_loss_at_temperature: temperature && logLoss(margins, temperature),
    ece_at_temperature: temperature && calibrationError(calibrationBins(margins, temperature)),
  };
}
