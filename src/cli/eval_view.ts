/**
 * The results of `keel eval` as text.
 *
 * @module
 */
import type { TextReport } from "../sample/evaluate.ts";
import type { CalibrationBin, CalibrationReport, PreferenceReport } from "../sample/preferences.ts";
import { shortNumber } from "./plot.ts";

/** Longest bar in characters. */
const BAR = 40;

const count = (value: number) => value.toLocaleString("en-US");

/** Lines on texts. */
export function textLines(
  { tokens, bytes, nll, perplexity, bits_per_byte, token_accuracy }: TextReport,
): string[] {
  return [
    `perplexity      ${shortNumber(perplexity)} per token`,
    `loss            ${shortNumber(nll)} nats per token`,
    `bits per byte   ${
      bits_per_byte === null ? "none: the tokens have no text" : shortNumber(bits_per_byte)
    }`,
    `token accuracy  ${shortNumber(token_accuracy)}`,
    `${count(tokens)} tokens of ${count(bytes)} bytes`,
  ];
}

/** A line on which side scores higher. */
export function preferenceLine({ pairs, accuracy, ties, mean_margin }: PreferenceReport): string {
  const { share, low, high } = accuracy;
  const equal = ties ? `, ${count(ties)} with equal scores` : "";
  return `${shortNumber(share)} (95 % between ${shortNumber(low)} and ${shortNumber(high)}) of ${
    count(pairs)
  } pairs${equal}; mean margin ${shortNumber(mean_margin)}`;
}

/** Lines on what margins are worth as probabilities, with a plot. */
export function calibrationLines(report: CalibrationReport): string[] {
  const { log_loss, brier, ece, bins, temperature } = report;
  return [
    `log-loss     ${shortNumber(log_loss)} nats (a coin has 0.693)`,
    `Brier score  ${shortNumber(brier)} (a coin has 0.25)`,
    `ECE          ${shortNumber(ece)}`,
    temperature === null
      ? "temperature  none: the log-loss has no minimum on these pairs"
      : `temperature  ${shortNumber(temperature)}: margins divided by it have log-loss ${
        shortNumber(report.log_loss_at_temperature!)
      } and ECE ${shortNumber(report.ece_at_temperature!)}; ${
        temperature > 1 ? "the model is too sure" : "the model is not sure enough"
      }`,
    "",
    "Calibration: how often the side that scores higher is the chosen one (█), and how often it should be (│)",
    ...bins.map(binLine),
  ];
}

function binLine({ from, to, pairs, predicted, observed }: CalibrationBin): string {
  const filled = Math.round(observed * BAR), mark = Math.min(BAR - 1, Math.round(predicted * BAR));
  const bar = Array.from({ length: BAR }, (_, i) => i === mark ? "│" : i < filled ? "█" : "·").join("");
  return `  ${from.toFixed(2)}–${to.toFixed(2)}  ${bar}  ${shortNumber(observed)} of ${
    count(pairs)
  }, predicted ${shortNumber(predicted)}`;
}
