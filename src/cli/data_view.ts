/**
 * A dataset's survey as text: a summary, a histogram of lengths, and rows with the tokens that count in the loss.
 *
 * @module
 */
import { basename } from "node:path";
import type { RenderedPart, Survey } from "../data/survey.ts";
import { describeReport } from "../train/load_data.ts";

/** Longest bar of the histogram in characters. */
const BAR = 40;

const number = (value: number) => value.toLocaleString("en-US", { maximumFractionDigits: 1 });

/** Scored tokens in bold green, the others dim; without colours between ⟦ and ⟧. */
function renderPart({ segments }: RenderedPart, colours: boolean): string {
  return segments.map(({ text, scored }) => {
    if (!colours) return scored ? `⟦${text}⟧` : text;
    // Each line has its own escapes, so that a pager shows them right.
    return text.split("\n").map((line) =>
      line === "" ? line : scored ? `\x1b[1;32m${line}\x1b[0m` : `\x1b[2m${line}\x1b[0m`
    ).join("\n");
  }).join("");
}

function histogram({ lengths }: Survey): string[] {
  const most = Math.max(...lengths.histogram.map(({ rows }) => rows));
  const labels = lengths.histogram.map(({ from, to }) => to - from === 1 ? `${from}` : `${from}–${to - 1}`);
  const width = Math.max(...labels.map((label) => label.length));
  return lengths.histogram.map(({ rows }, i) =>
    `  ${labels[i].padStart(width)}  ${"█".repeat(Math.ceil(rows / most * BAR))} ${number(rows)}`
  );
}

/** The lines of a survey. */
export function surveyLines(name: string, survey: Survey, colours: boolean): string[] {
  const { type, format, columns, commands, files, lengths, report, labels, examples } = survey;
  const lines = [
    `${name}: ${type}, ${format}`,
    `  columns: ${columns.join(", ")}`,
    `  for: ${commands.map((command) => `keel ${command}`).join(", ")}`,
    ...files.map(({ split, file, rows, taken }) =>
      `  ${split}: ${basename(file)}, ${number(rows)} rows${
        taken === undefined ? "" : `, of which the mixture takes ${number(taken)}`
      }`
    ),
    ...(labels ? [`  labels: ${number(labels.true)} true, ${number(labels.false)} false`] : []),
    `${lengths.unit} per row: ${
      (["min", "p50", "mean", "p90", "p99", "max"] as const).map((key) => `${key} ${number(lengths[key])}`)
        .join(
          ", ",
        )
    }`,
    ...histogram(survey),
    ...(report ? [describeReport("kept", report)] : []),
  ];
  for (const { where, dropped, parts } of examples) {
    lines.push("", `${where}${dropped === undefined ? "" : `: dropped, ${dropped}`}`);
    for (const part of parts) {
      const text = renderPart(part, colours);
      lines.push(...`${part.name}: ${text}`.split("\n").map((line) => `  ${line}`));
    }
  }
  const legend = colours ? "bold green" : "between ⟦ and ⟧";
  if (report && examples.length) {
    lines.push(
      "",
      type.startsWith("preference")
        ? `The score is read at the token ${colours ? "in" : ""} ${legend}.`.replace("  ", " ")
        : `Scored tokens are ${legend}.`,
    );
  }
  return lines;
}
