/**
 * What labelling came to: how many pairs, how often labellers agree, how often a judge's verdict follows the place.
 *
 * @module
 */
import { completionText } from "../reward/source.ts";
import { type Share, wilson } from "../sample/preferences.ts";
import {
  candidates,
  choosePairs,
  type LabelledPrompt,
  type PairChoice,
  preferenceOf,
} from "./label_pairs.ts";

/** How often two labellers that both decide prefer the same. */
export interface Agreement extends Share {
  labellers: [string, string];
  /** Candidate pairs on which both decide. */
  pairs: number;
}

/** What one labeller said of the candidate pairs. */
export interface LabellerCounts {
  decided: number;
  ties: number;
  unanswered: number;
}

/** The report. */
export interface LabelReport {
  prompts: number;
  completions: number;
  /** Candidate pairs; the three below add up to them. */
  candidates: number;
  pairs: number;
  ties: number;
  unanswered: number;
  /** Candidate pairs whose two texts are the same, which are among the ties. */
  same_text: number;
  tie_rate: number;
  /** The labeller that decides. */
  label_by: string;
  labellers: Record<string, LabellerCounts>;
  agreement: Agreement[];
  /** Share of a pairwise judge's comparisons whose two orders contradict each other. */
  position_bias?: number;
  comparisons: number;
  /** Share of pairs whose chosen side has more tokens than the other, of those that differ. */
  chosen_longer: number | null;
  /** Mean tokens of chosen and rejected sides. */
  tokens_chosen: number | null;
  tokens_rejected: number | null;
}

const ratio = (part: number, whole: number) => whole ? part / whole : 0;

/** Makes the report of labelled prompts, one after the other. */
export function labelReport(prompts: Iterable<LabelledPrompt>, choice: PairChoice): LabelReport {
  const report: LabelReport = {
    prompts: 0,
    completions: 0,
    candidates: 0,
    pairs: 0,
    ties: 0,
    unanswered: 0,
    same_text: 0,
    tie_rate: 0,
    label_by: choice.by,
    labellers: {},
    agreement: [],
    comparisons: 0,
    chosen_longer: null,
    tokens_chosen: null,
    tokens_rejected: null,
  };
  const both = new Map<string, { labellers: [string, string]; same: number; pairs: number }>();
  const tokens = { chosen: 0, rejected: 0, longer: 0, differing: 0 };
  let flipped = 0;
  for (const labelled of prompts) {
    const names = Object.keys(labelled.scores), { completions } = labelled;
    report.prompts++;
    report.completions += completions.length;
    for (const { better, flipped: turned } of labelled.comparisons ?? []) {
      if (better === null) continue;
      report.comparisons++;
      if (turned) flipped++;
    }
    for (const pair of candidates(labelled, choice)) {
      report.candidates++;
      if (completionText(completions[pair[0]]) === completionText(completions[pair[1]])) report.same_text++;
      const said = names.map((name) => preferenceOf(labelled, name, pair, choice));
      names.forEach((name, a) => {
        const counts = report.labellers[name] ??= { decided: 0, ties: 0, unanswered: 0 };
        counts[said[a] === null ? "unanswered" : said[a] === 0 ? "ties" : "decided"]++;
        for (let b = a + 1; b < names.length; b++) {
          if (!said[a] || !said[b]) continue;
          const key = JSON.stringify([name, names[b]]);
          const known = both.get(key) ?? { labellers: [name, names[b]], same: 0, pairs: 0 };
          known.pairs++;
          if (said[a] === said[b]) known.same++;
          both.set(key, known);
        }
      });
    }
    const { chosen, ties, unanswered } = choosePairs(labelled, choice);
    report.pairs += chosen.length;
    report.ties += ties;
    report.unanswered += unanswered;
    for (const { chosen: better, rejected } of chosen) {
      const [a, b] = [labelled.tokens[better], labelled.tokens[rejected]];
      tokens.chosen += a;
      tokens.rejected += b;
      if (a !== b) tokens.differing++;
      if (a > b) tokens.longer++;
    }
  }
  report.tie_rate = ratio(report.ties, report.candidates);
  report.agreement = Array.from(both.values(), ({ labellers, same, pairs }) => ({
    labellers,
    pairs,
    ...wilson(same, pairs),
  }));
  if (report.comparisons) report.position_bias = flipped / report.comparisons;
  if (report.pairs) {
    report.tokens_chosen = tokens.chosen / report.pairs;
    report.tokens_rejected = tokens.rejected / report.pairs;
  }
  if (tokens.differing) report.chosen_longer = tokens.longer / tokens.differing;
  return report;
}

const percent = (share: number) => `${(100 * share).toFixed(1)} %`;

/** The report for people. */
export function reportLines(report: LabelReport): string[] {
  const { prompts, completions, pairs, ties, unanswered, same_text, labellers, agreement } = report;
  const lines = [
    `${pairs} pairs from ${prompts} prompts with ${completions} completions, labelled by ${report.label_by}`,
    `dropped: ${ties} ties (${
      percent(report.tie_rate)
    } of ${report.candidates}; ${same_text} of them equal texts)${
      unanswered ? `, ${unanswered} without an answer` : ""
    }`,
  ];
  if (report.position_bias !== undefined) {
    lines.push(
      `position bias: ${
        percent(report.position_bias)
      } of ${report.comparisons} comparisons turned with the order`,
    );
  }
  if (Object.keys(labellers).length > 1) {
    for (const [name, counts] of Object.entries(labellers)) {
      lines.push(
        `${name}: decided ${counts.decided}, ties ${counts.ties}${
          counts.unanswered ? `, no answer ${counts.unanswered}` : ""
        }`,
      );
    }
  }
  for (const { labellers: [a, b], share, low, high, pairs } of agreement) {
    lines.push(
      `${a} and ${b} agree on ${percent(share)} (${percent(low)} to ${
        percent(high)
      }) of ${pairs} pairs that both decide`,
    );
  }
  if (report.chosen_longer !== null) {
    lines.push(
      `the chosen answer is the longer one in ${percent(report.chosen_longer)}; ${
        report.tokens_chosen!.toFixed(1)
      } tokens against ${report.tokens_rejected!.toFixed(1)}`,
    );
  }
  return lines;
}

/** A line on what a judge was asked, from its metrics. */
export function judgeLine(metrics: Record<string, number>): string {
  const of = (name: string) => (metrics[`judge/${name}`] ?? 0).toLocaleString("en-US");
  const cost = metrics["judge/cost"] > 0 ? `, cost ${metrics["judge/cost"].toFixed(2)}` : "";
  return `judge: ${of("requests")} requests, ${of("prompt_tokens")} tokens read and ${
    of("completion_tokens")
  } written${cost}; ${of("malformed")} answers could not be read`;
}
