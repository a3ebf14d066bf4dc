/**
 * Best-of-n: samples of a policy, the best of each prompt by a proxy, and what a gold reward says of ever larger n.
 *
 * @module
 */
import { join } from "node:path";
import type { Content } from "../data/messages.ts";
import { writeFileAtomically } from "../model/atomic_file.ts";
import { type RewardSource, sourceMetrics } from "../reward/source.ts";
import { bestOfNKl, expectedBest, type ScoredSample } from "../rl/best_of_n.ts";
import type { FinishedRows } from "../run/finished_rows.ts";
import type { StageRun } from "../run/run.ts";
import { breathe, type StepEvent } from "./events.ts";
import type { BonOptions } from "./options/bon.ts";
import {
  type SampledInputs,
  type SampledPrompt,
  sampledPrompts,
  scoresOf,
  type SourceScores,
  sumsOf,
  templateColumns,
  wantedPrompts,
} from "./sampled_prompts.ts";

/** A prompt with its completions and their scores. */
export interface ScoredPrompt {
  /** Number of the prompt in the dataset. */
  row: number;
  /** As in the dataset. */
  prompt: Content;
  /** Further columns that the chat template reads. */
  template?: Record<string, unknown>;
  completions: Content[];
  /** Numbers of the completions' tokens. */
  tokens: number[];
  /** By which the best is chosen; null where no source applies. */
  proxy: (number | null)[];
  /** Absent without a gold source. */
  gold?: (number | null)[];
}

/** What best-of-n works with. */
export interface BonInputs extends SampledInputs {
  /** Choose. */
  proxy: RewardSource[];
  /** Judge the choice. */
  gold: RewardSource[];
  finished: FinishedRows<ScoredPrompt>;
}

/** Means over the prompts for one n, with their standard errors. */
export interface BonPoint {
  n: number;
  /** KL of the best of n from the policy, in nats. */
  kl: number;
  proxy: number;
  proxy_se: number;
  gold?: number;
  gold_se?: number;
}

/** The report. */
export interface BonReport {
  prompts: number;
  completions: number;
  /** Prompts left out of the means because some of their completions have no score. */
  unscored: number;
  points: BonPoint[];
}

/** Mean and its standard error. */
function meanOf(values: number[]): [mean: number, error: number] {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return [mean, values.length > 1 ? Math.sqrt(squares / (values.length - 1) / values.length) : 0];
}

/** The samples of a prompt where all of them have scores. */
function samplesOf({ proxy, gold }: ScoredPrompt): ScoredSample[] | undefined {
  const samples = proxy.flatMap((score, i): ScoredSample[] => {
    if (score === null || gold?.[i] === null) return [];
    return [gold ? { proxy: score, gold: gold[i]! } : { proxy: score }];
  });
  return samples.length === proxy.length ? samples : undefined;
}

/** Proxy and gold for n = 1, 2, 4 … up to the completions that there are of each prompt. */
export function bonReport(prompts: Iterable<ScoredPrompt>): BonReport {
  const report: BonReport = { prompts: 0, completions: 0, unscored: 0, points: [] };
  const best = new Map<number, ScoredSample[]>();
  for (const prompt of prompts) {
    report.prompts++;
    report.completions += prompt.completions.length;
    const samples = samplesOf(prompt);
    if (!samples) {
      report.unscored++;
      continue;
    }
    for (const n of sizesUpTo(samples.length)) {
      const known = best.get(n) ?? [];
      known.push(expectedBest(samples, n));
      best.set(n, known);
    }
  }
  for (const [n, samples] of best) {
    const [proxy, proxyError] = meanOf(samples.map((sample) => sample.proxy));
    const golds = samples.flatMap(({ gold }) => gold === undefined ? [] : [gold]);
    const [gold, goldError] = golds.length === samples.length ? meanOf(golds) : [];
    report.points.push({
      n,
      kl: bestOfNKl(n),
      proxy,
      proxy_se: proxyError,
      ...gold !== undefined && { gold, gold_se: goldError },
    });
  }
  return report;
}

/** 1, 2, 4 … and `most` itself. */
function sizesUpTo(most: number): number[] {
  const sizes: number[] = [];
  for (let n = 1; n < most; n *= 2) sizes.push(n);
  return [...sizes, most];
}

/** The report for people. */
export function bonLines({ prompts, completions, unscored, points }: BonReport): string[] {
  const number = (value: number) => value.toFixed(4).padStart(10), hasGold = points[0]?.gold !== undefined;
  const lines = [
    `best of n from ${completions} completions of ${prompts} prompts${
      unscored ? `; ${unscored} prompts left out, of which a completion has no score` : ""
    }`,
  ];
  if (points.length === 0) return lines;
  lines.push(`     n   KL (nats)     proxy        ±${hasGold ? "        gold        ±" : ""}`);
  for (const { n, kl, proxy, proxy_se, gold, gold_se } of points) {
    const golden = gold === undefined ? "" : ` ${number(gold)}${number(gold_se!)}`;
    lines.push(`${String(n).padStart(6)}${number(kl)} ${number(proxy)}${number(proxy_se)}${golden}`);
  }
  const peak = hasGold ? points.reduce((a, b) => b.gold! > a.gold! ? b : a) : undefined;
  if (peak && peak !== points.at(-1)) {
    lines.push(
      `gold is highest at n = ${peak.n} and lower beyond, while the proxy rises: it is over-optimised`,
    );
  }
  return lines;
}

/** The completion that the proxy scores highest, the first of equal ones; undefined where none has a score. */
export function bestOf({ proxy }: ScoredPrompt): number | undefined {
  let best: number | undefined;
  proxy.forEach((score, i) => {
    if (score !== null && (best === undefined || score > proxy[best]!)) best = i;
  });
  return best;
}

/** Writes the best completion of each prompt as a row of SFT; returns the file's path. */
export function writeBest(directory: string, prompts: Iterable<ScoredPrompt>): string {
  const path = join(directory, "best.jsonl"), encoder = new TextEncoder();
  const lines = function* (): Generator<Uint8Array> {
    for (const one of prompts) {
      const best = bestOf(one);
      if (best === undefined) continue;
      const { prompt, template, completions, proxy, gold } = one;
      const row = {
        prompt,
        completion: completions[best],
        ...template,
        score: proxy[best],
        ...gold && { gold: gold[best] },
      };
      yield encoder.encode(JSON.stringify(row) + "\n");
    }
  };
  writeFileAtomically(path, lines());
  return path;
}

/** Samples and scores the prompts that are not finished yet; a step is a prompt. */
export async function* bon(run: StageRun, data: BonInputs, options: BonOptions): AsyncGenerator<StepEvent> {
  const { finished, prompts, proxy, gold } = data, sources = [...proxy, ...gold];
  const total = wantedPrompts(prompts, options);
  const sums = { prompts: 0, mean: 0, best: 0 };
  const count = (one: ScoredPrompt) => {
    const best = bestOf(one), known = one.proxy.filter((score) => score !== null);
    if (best === undefined) return;
    sums.prompts++;
    sums.mean += known.reduce((a, b) => a + b, 0) / known.length;
    sums.best += one.proxy[best]!;
  };
  let step = 0;
  for (const one of finished.all()) {
    if (one.row >= total) continue;
    count(one);
    step++;
  }
  const event = (): StepEvent => {
    const metrics: Record<string, number> = {
      ...sums.prompts > 0 && {
        "bon/proxy": sums.mean / sums.prompts,
        "bon/best_proxy": sums.best / sums.prompts,
      },
      ...sourceMetrics(sources),
    };
    run.log(step, metrics);
    return { stage: run.name, step, total, metrics };
  };
  // A run that is finished, too, has its last step.
  yield event();
  let fresh: ScoredPrompt[] = [];
  const groups = sampledPrompts(data, options, {
    done: (row) => finished.has(row),
    stopped: run.interrupted,
    score: (group) => scoresOf(group, sources, true),
    async finish(group, fromGpu) {
      const others = await scoresOf(group, sources, false);
      fresh = scoredPrompts(group, new Map([...fromGpu, ...others]), data);
      finished.add(fresh.map((value) => ({ row: value.row, value })));
    },
  });
  for await (const done of groups) {
    step += done;
    fresh.forEach(count);
    yield event();
    await breathe();
  }
}

function scoredPrompts(
  group: SampledPrompt[],
  scores: SourceScores,
  { proxy, gold }: Pick<BonInputs, "proxy" | "gold">,
): ScoredPrompt[] {
  const proxies = sumsOf(proxy, scores), golds = gold.length ? sumsOf(gold, scores) : undefined;
  let at = 0;
  return group.map(({ row, prompt, completions, ids }) => {
    const from = at, to = at += completions.length, template = templateColumns(prompt);
    return {
      row,
      prompt: prompt.prompt,
      ...template && { template },
      completions,
      tokens: ids.map(({ length }) => length),
      proxy: proxies.slice(from, to),
      ...golds && { gold: golds.slice(from, to) },
    };
  });
}
