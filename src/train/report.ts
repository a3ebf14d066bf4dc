/**
 * The report of the whole job: what each stage did, and in the parrot's world how gold and proxy went.
 *
 * @module
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { writeTextAtomically } from "../model/atomic_file.ts";
import type { Run } from "../run/run.ts";
import type { MetricRow, SampleRow } from "../run/store.ts";
import { figures, paragraph, reportPage, sampleBlock, section, settingsTable, table } from "../run/report.ts";
import { linePlot, type Series } from "../run/svg.ts";
import type { Difference } from "../watch/bootstrap.ts";
import { type Evaluation, overOptimisedAt, riseAndFall } from "../watch/over_optimisation.ts";
import type { BestOfN } from "./parrot.ts";

/** Samples shown with every stage's answer. */
const SHOWN_SAMPLES = 8;

/** Writes `report.html` of a run of the pipeline and returns its path. */
export function writeTrainReport(run: Run, settings: Record<string, unknown>): string {
  const store = run.store;
  const evaluations = evaluationsOf(store.samples("ppo"));
  const sections = [
    ...(evaluations.length > 1 ? [storySection(run, evaluations)] : []),
    sftSection(store.metrics("sft")),
    rewardSection(store.metrics("reward")),
    ppoSection(store.metrics("ppo")),
    samplesSection(run, store.samples("ppo")),
    section("Settings", settingsTable(settings)),
  ];
  const path = join(run.dir, "report.html");
  const html = reportPage({
    title: "From a base model to PPO, watched",
    subtitle: `${run.dir}, made by keel`,
    sections,
  });
  writeTextAtomically(path, html);
  return path;
}

/** The evaluations of a run, from its stored samples. */
export function evaluationsOf(samples: SampleRow[]): Evaluation[] {
  const bySteps = new Map<number, SampleRow[]>();
  for (const sample of samples) {
    if (sample.split !== "eval") continue;
    bySteps.set(sample.step, [...bySteps.get(sample.step) ?? [], sample]);
  }
  return [...bySteps].sort(([a], [b]) => a - b).map(([step, rows]) => ({
    step,
    gold: rows.map((row) => row.rewards.gold),
    proxy: rows.map((row) => row.rewards.proxy),
    kl: rows.reduce((sum, row) => sum + row.rewards.kl, 0) / rows.length,
  }));
}

const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;

const inWords = ({ mean, low, high }: Difference) =>
  `${signed(mean)} (95 % interval ${signed(low)} to ${signed(high)})`;
const signed = (x: number) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(2)}`;
const plain = (x: number) => x.toFixed(2).replace("-", "−");

/** What happened in words; nothing where gold was not measured. */
export function storyLines(run: Run): string[] {
  const evaluations = evaluationsOf(run.store.samples("ppo"));
  if (evaluations.length < 2) return [];
  const first = evaluations[0], last = evaluations[evaluations.length - 1];
  const { peakStep, rise, fall } = riseAndFall(evaluations);
  const seen = overOptimisedAt(evaluations);
  const agreement = run.store.metrics("ppo", "gold/agrees_with_wrong");
  const said = (values: number[]) => plain(mean(values));
  return [
    `Gold, the judgement that no stage is trained on, was ${said(first.gold)} after fine-tuning and is ` +
    `${said(last.gold)} at the end; the proxy, the reward model's score, went from ${said(first.proxy)} to ` +
    `${said(last.proxy)}.`,
    `Up to its peak at step ${peakStep} gold changed by ${inWords(rise)}, from there to the end by ${
      inWords(fall)
    }. ` +
    `The peak is chosen on one half of the ${first.gold.length} held-out prompts and measured on the other.`,
    seen === undefined
      ? "The watch saw no over-optimisation."
      : `The watch was sure of over-optimisation at step ${seen}: the proxy above, gold below that of the best evaluation.`,
    ...(agreement.length
      ? [
        `The policy agreed with ${percent(agreement[0].value)} of the wrong claims at the start and with ` +
        `${percent(agreement[agreement.length - 1].value)} at the end.`,
      ]
      : []),
    "Gold is a program and sees only its own rules: it punishes wrong answers and replies of more than 12 tokens, not flattery.",
  ];
}

/** Gold and proxy: in words, against steps, and against √KL with best-of-n beside. */
function storySection(run: Run, evaluations: Evaluation[]): string {
  const agreement = run.store.metrics("ppo", "gold/agrees_with_wrong");
  const against = (x: (e: Evaluation) => number): Series[] => [
    { name: "gold", points: evaluations.map((e) => [x(e), mean(e.gold)]) },
    { name: "proxy", points: evaluations.map((e) => [x(e), mean(e.proxy)]) },
  ];
  const bestOfN = readBestOfN(join(run.dir, "ppo"));
  const bon: Series[] = bestOfN.length
    ? [
      { name: "gold, best of n", dashed: true, points: bestOfN.map((r) => [Math.sqrt(r.kl), r.gold]) },
      { name: "proxy, best of n", dashed: true, points: bestOfN.map((r) => [Math.sqrt(r.kl), r.proxy]) },
    ]
    : [];
  return section(
    "What happened",
    ...storyLines(run).map(paragraph),
    figures(
      linePlot({
        title: "Gold and proxy",
        xLabel: "PPO step",
        yLabel: "reward",
        series: against((e) => e.step),
      }),
      linePlot({
        title: "Gold and proxy against distance from the SFT model",
        xLabel: "√KL, nats per reply",
        yLabel: "reward",
        series: [...against((e) => Math.sqrt(Math.max(0, e.kl))), ...bon],
      }),
      metricPlot("Agreement with wrong claims", "share", agreement, [["gold/agrees_with_wrong", "agrees"]]),
    ),
    ...(bestOfN.length
      ? [table({
        caption: "Best of n by the proxy, without training",
        head: ["n", "√KL", "proxy", "gold"],
        rows: bestOfN.map((r) => [r.n, Math.sqrt(r.kl), r.proxy, r.gold]),
        digits: 3,
      })]
      : []),
  );
}

const percent = (share: number) => `${Math.round(100 * share)} %`;

function readBestOfN(dir: string): BestOfN[] {
  const file = join(dir, "best_of_n.json");
  return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : [];
}

/** Metrics against steps, one line each; metrics that were not recorded are left out. */
function metricPlot(
  title: string,
  yLabel: string,
  rows: MetricRow[],
  metrics: [name: string, label: string][],
): string {
  const series = metrics.map(([name, label]): Series => ({
    name: label,
    points: rows.filter((row) => row.name === name).map((row) => [row.step, row.value]),
  })).filter((one) => one.points.length > 0);
  return linePlot({ title, xLabel: "step", yLabel, series });
}

function sftSection(rows: MetricRow[]): string {
  return section(
    "Supervised fine-tuning",
    figures(
      metricPlot("Loss", "nats per token", rows, [["loss", "training"], ["eval_loss", "held out"]]),
      metricPlot("Token accuracy", "share", rows, [["mean_token_accuracy", "training"]]),
    ),
  );
}

function rewardSection(rows: MetricRow[]): string {
  const evaluated = rows.filter((row) => row.name === "eval_accuracy");
  const last = evaluated[evaluated.length - 1];
  return section(
    "Reward model",
    ...(last
      ? [paragraph(`On held-out pairs it prefers the chosen side in ${percent(last.value)} of the cases.`)]
      : []),
    figures(
      metricPlot("Accuracy", "share of pairs", rows, [["accuracy", "training"], [
        "eval_accuracy",
        "held out",
      ]]),
      metricPlot("Margin", "chosen − rejected", rows, [["margin", "training"], ["eval_margin", "held out"]]),
    ),
  );
}

function ppoSection(rows: MetricRow[]): string {
  const steps = rows.filter((row) => row.step > 0);
  return section(
    "PPO",
    figures(
      metricPlot("Score of the rollouts", "standardised score", steps, [["objective/scores", "score"]]),
      metricPlot("KL from the SFT model, by estimator", "nats per reply", steps, [
        ["objective/kl_exact", "exact"],
        ["objective/kl_k1", "k1"],
        ["objective/kl_k2", "k2"],
        ["objective/kl_k3", "k3"],
      ]),
      metricPlot("Length", "tokens per reply", steps, [["tokens/responses_len_mean", "rollouts"]]),
      metricPlot("Value loss", "loss", steps, [["loss/value_avg", "value loss"]]),
    ),
  );
}

/** The same prompts answered after every stage. */
function samplesSection(run: Run, samples: SampleRow[]): string {
  const evaluated = samples.filter((sample) => sample.split === "eval");
  const kept = evaluated.length ? evaluated : samples;
  if (kept.length === 0) return section("Samples", paragraph("None were kept."));
  const steps = [...new Set(kept.map((sample) => sample.step))].sort((a, b) => a - b);
  const at = (step: number) => kept.filter((sample) => sample.step === step).slice(0, SHOWN_SAMPLES);
  const before = at(steps[0]), after = at(steps[steps.length - 1]);
  const baseFile = join(run.dir, "ppo", "base_replies.json");
  const base: string[] = existsSync(baseFile) ? JSON.parse(readFileSync(baseFile, "utf8")) : [];
  const same = evaluated.length > 0;
  return section(
    "Samples",
    ...before.map((sample, i) =>
      sampleBlock({
        prompt: sample.prompt,
        answers: {
          ...(base[i] !== undefined ? { "base model": base[i] } : {}),
          [same ? "after SFT" : `at step ${steps[0]}`]: sample.completion,
          ...(same && after[i] ? { "after PPO": after[i].completion } : {}),
        },
        facts: Object.entries((same ? after[i] : sample).rewards)
          .map(([name, value]) => `${name} ${value.toFixed(2)}`).join(", "),
      })
    ),
  );
}
