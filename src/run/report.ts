/**
 * `report.html`: one file with text, tables, samples and plots, without scripts and without anything to load.
 *
 * The functions return HTML; text given to them is escaped.
 *
 * @module
 */
import { escapeHtml } from "./html.ts";

/** A page. */
export interface ReportPage {
  /** Title of the page. */
  title: string;
  /** One line under the title. */
  subtitle: string;
  /** HTML of the sections, see {@linkcode section}. */
  sections: string[];
}

const STYLE = `
:root {
  color-scheme: light dark;
  --paper: #fff; --ink: #1c2024; --soft: #60646c; --rule: #d9d9e0; --tint: #f4f5f7;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b0479a; --c4: #8a6d00; --c5: #3aa0d8; --c6: #7a5195; --c7: #6b7280;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15171a; --ink: #e6e8eb; --soft: #9ba1a8; --rule: #33373d; --tint: #1d2024;
    --c0: #56b4e9; --c1: #f08a3c; --c2: #3cc99a; --c3: #e08bc8; --c4: #e0c34a; --c5: #9bd3f5; --c6: #b897d6; --c7: #a3a9b3;
  }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.2rem 4rem; max-width: 76rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0; font-size: 1.7rem; } h2 { margin: 2.4rem 0 0.6rem; font-size: 1.25rem; }
.subtitle, figcaption, caption, .label, footer { color: var(--soft); }
p { max-width: 46rem; }
.grid-of-figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1.4rem; }
figure { margin: 0; } figcaption { font-weight: 600; color: var(--ink); }
.legend { display: flex; flex-wrap: wrap; gap: 0.1rem 1.1rem; margin: 0.2rem 0; padding: 0; list-style: none;
  font-size: 0.85rem; }
.legend svg { margin-right: 0.4rem; vertical-align: middle; }
.plot { width: 100%; height: auto; } .plot text { fill: var(--soft); font-size: 12px; }
.grid { stroke: var(--rule); stroke-width: 0.7; } .axis { fill: none; stroke: var(--soft); }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; } .dashed { stroke-dasharray: 5 4; }
.band { opacity: 0.18; stroke: none; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; } caption { padding: 0.3rem 0; text-align: left; }
th, td { padding: 0.25rem 0.8rem 0.25rem 0; border-bottom: 1px solid var(--rule); text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.sample { margin: 0.8rem 0; padding: 0.7rem 0.9rem; border-radius: 6px; background: var(--tint); }
.sample p { margin: 0.15rem 0; max-width: none; white-space: pre-wrap; overflow-wrap: anywhere; }
.label { display: inline-block; min-width: 6rem; font-size: 0.85rem; }
footer { margin-top: 3rem; font-size: 0.85rem; }
${
  Array.from(
    { length: 8 },
    (_, i) =>
      `.line.c${i} { stroke: var(--c${i}); } circle.c${i} { fill: var(--c${i}); } .band.c${i} { fill: var(--c${i}); }`,
  ).join("\n")
}
`;

/** The whole page. */
export function reportPage({ title, subtitle, sections }: ReportPage): string {
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escapeHtml(title)}</title>
<style>${STYLE}</style>
</head>
<body>
<header><h1>${escapeHtml(title)}</h1><p class="subtitle">${escapeHtml(subtitle)}</p></header>
${sections.join("\n")}
</body>
</html>
`;
}

/** A part of the page under a heading; `parts` are HTML. */
export function section(heading: string, ...parts: string[]): string {
  return `<section><h2>${escapeHtml(heading)}</h2>\n${parts.join("\n")}\n</section>`;
}

/** A paragraph of plain text. */
export function paragraph(text: string): string {
  return `<p>${escapeHtml(text)}</p>`;
}

/** Plots beside each other where there is room. */
export function figures(...plots: string[]): string {
  return `<div class="grid-of-figures">${plots.join("\n")}</div>`;
}

/** A table; columns of numbers are set to the right. */
export interface Table {
  /** Stands above the table. */
  caption?: string;
  /** Names of the columns. */
  head: string[];
  /** The lines. */
  rows: (string | number)[][];
  /** Significant digits, 4 if not given. */
  digits?: number;
}

/** A table of texts and numbers. */
export function table({ caption, head, rows, digits = 4 }: Table): string {
  const isNumber = (column: number) =>
    rows.length > 0 && rows.every((row) => typeof row[column] === "number");
  const cell = (tag: string, value: string | number, column: number) => {
    const text = typeof value === "number" ? String(Number(value.toPrecision(digits))) : value;
    return `<${tag}${isNumber(column) ? ' class="number"' : ""}>${escapeHtml(text)}</${tag}>`;
  };
  const line = (tag: string, row: (string | number)[]) =>
    `<tr>${row.map((value, column) => cell(tag, value, column)).join("")}</tr>`;
  return `<div class="table"><table>${caption ? `<caption>${escapeHtml(caption)}</caption>` : ""}` +
    `<thead>${line("th", head)}</thead>\n<tbody>${
      rows.map((row) => line("td", row)).join("\n")
    }</tbody></table></div>`;
}

/** Settings by name, as they were used. */
export function settingsTable(settings: Record<string, unknown>): string {
  const show = (value: unknown) =>
    value === undefined || value === null
      ? "none"
      : typeof value === "string"
      ? value
      : JSON.stringify(value);
  return table({
    head: ["setting", "value"],
    rows: Object.entries(settings).map(([name, value]) => [name, show(value)]),
  });
}

/** A prompt with what was answered; `facts` are shown under it. */
export interface SampleBlock {
  /** What was asked. */
  prompt: string;
  /** Answers by who gave them, e.g. `{ "before PPO": "…", "after PPO": "…" }`. */
  answers: Record<string, string>;
  /** A line under the answers. */
  facts?: string;
}

/** A sample as a block of its own. */
export function sampleBlock({ prompt, answers, facts }: SampleBlock): string {
  const row = (name: string, text: string) =>
    `<p><span class="label">${escapeHtml(name)}</span>${escapeHtml(text)}</p>`;
  return `<div class="sample">${row("prompt", prompt)}${
    Object.entries(answers).map(([name, text]) => row(name, text)).join("")
  }${facts === undefined ? "" : row("", facts)}</div>`;
}
