/**
 * Preference pairs from a policy's own completions: sampled, compared by a judge, reward models or functions, kept prompt by prompt.
 *
 * @module
 */
import { join } from "node:path";
import { writeFileAtomically } from "../model/atomic_file.ts";
import type { Judge } from "../reward/judge.ts";
import { allEnded } from "../reward/settle.ts";
import { type RewardSource, sourceMetrics } from "../reward/source.ts";
import type { FinishedRows } from "../run/finished_rows.ts";
import type { StageRun } from "../run/run.ts";
import { breathe, type StepEvent } from "./events.ts";
import {
  choosePairs,
  type Compared,
  JUDGE,
  type LabelledPrompt,
  type PairChoice,
  preferenceRow,
  winRates,
} from "./label_pairs.ts";
import type { LabelOptions } from "./options/label.ts";
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

/** The weighted sum of all rewards, where there are several. */
const REWARDS = "rewards";

/** Pairs of each group of prompts that are kept in the run's database as samples. */
const KEPT_SAMPLES = 4;

/** What labelling works with. */
export interface LabelInputs extends SampledInputs {
  /** Compares pairs. */
  judge?: Judge;
  /** Score completions. */
  sources: RewardSource[];
  /** Prompts that are labelled. */
  finished: FinishedRows<LabelledPrompt>;
}

/** How pairs are chosen, with the labeller that decides; throws where there is none, or none of that name. */
export function pairChoice(
  options: Pick<LabelOptions, "labelBy" | "pairs" | "minMargin">,
  { judge, sources }: Pick<LabelInputs, "judge" | "sources">,
): PairChoice {
  const names = [
    ...judge ? [JUDGE] : [],
    ...sources.map(({ name }) => name),
    ...sources.length > 1 ? [REWARDS] : [],
  ];
  if (names.length === 0) {
    throw new Error(
      "Nobody labels. Give judge_url and judge_model, reward_model, reward_funcs or reward_url.",
    );
  }
  const by = options.labelBy ?? (judge || sources.length === 1 ? names[0] : REWARDS);
  if (!names.includes(by)) {
    throw new Error(`label_by is ${JSON.stringify(by)}. Expected one of the labellers ${names.join(", ")}.`);
  }
  return { by, pairs: options.pairs, minMargin: options.minMargin };
}

/** Scores by labeller, [completions]. */
function byLabeller(
  sources: RewardSource[],
  scores: SourceScores,
): [name: string, scores: (number | null)[]][] {
  const named = sources.map((source): [string, (number | null)[]] => [source.name, scores.get(source)!]);
  if (sources.length > 1) named.push([REWARDS, sumsOf(sources, scores)]);
  return named;
}

/** Labels a group of prompts, of which the GPU's scores are there. */
async function labelGroup(
  group: SampledPrompt[],
  fromGpu: SourceScores,
  { judge, sources }: Pick<LabelInputs, "judge" | "sources">,
): Promise<LabelledPrompt[]> {
  const [others, compared] = await allEnded([
    scoresOf(group, sources, false),
    allEnded(group.map(async (one) => judge && await comparisonsOf(one, judge))),
  ]);
  const values = byLabeller(sources, new Map([...fromGpu, ...others]));
  let at = 0;
  return group.map(({ row, prompt, completions, ids }, i) => {
    const from = at, to = at += completions.length, comparisons = compared[i];
    const scores: LabelledPrompt["scores"] = {}, template = templateColumns(prompt);
    if (comparisons) scores[JUDGE] = winRates(comparisons, completions.length);
    for (const [name, all] of values) scores[name] = all.slice(from, to);
    return {
      row,
      prompt: prompt.prompt,
      ...template && { template },
      completions,
      tokens: ids.map(({ length }) => length),
      scores,
      ...comparisons && { comparisons },
    };
  });
}

/** A judge's word on all pairs of a prompt's completions. */
function comparisonsOf({ prompt, completions }: SampledPrompt, judge: Judge): Promise<Compared[]> {
  const pairs = completions.flatMap((_, first) =>
    completions.slice(first + 1).map((_, k) => ({ first, second: first + 1 + k }))
  );
  return allEnded(pairs.map(async ({ first, second }) => ({
    first,
    second,
    ...await judge.compare(prompt.prompt, completions[first], completions[second]),
  })));
}

/** Labels the prompts that are not labelled yet; a step is a prompt. */
export async function* label(
  run: StageRun,
  data: LabelInputs,
  options: LabelOptions,
): AsyncGenerator<StepEvent> {
  const { finished, judge, sources, prompts } = data;
  const total = wantedPrompts(prompts, options), choice = pairChoice(options, data);
  const counts = { pairs: 0, ties: 0, unanswered: 0 };
  const count = (labelled: LabelledPrompt) => {
    const { chosen, ties, unanswered } = choosePairs(labelled, choice);
    counts.pairs += chosen.length;
    counts.ties += ties;
    counts.unanswered += unanswered;
    return chosen;
  };
  let step = 0;
  for (const labelled of finished.all()) {
    if (labelled.row >= total) continue;
    count(labelled);
    step++;
  }
  const event = (): StepEvent => {
    const metrics: Record<string, number> = {
      "label/pairs": counts.pairs,
      "label/ties": counts.ties,
      "label/unanswered": counts.unanswered,
      ...judge?.metrics(),
      ...sourceMetrics(sources),
    };
    run.log(step, metrics);
    return { stage: run.name, step, total, metrics };
  };
  // A run that is finished, too, has its last step.
  yield event();
  let fresh: LabelledPrompt[] = [];
  const groups = sampledPrompts(data, options, {
    done: (row) => finished.has(row),
    stopped: run.interrupted,
    score: (group) => scoresOf(group, sources, true),
    async finish(group, scores) {
      fresh = await labelGroup(group, scores, data);
      finished.add(fresh.map((value) => ({ row: value.row, value })));
    },
  });
  for await (const done of groups) {
    step += done;
    const samples = fresh.flatMap((labelled) => count(labelled).map(({ chosen }) => ({ labelled, chosen })));
    run.samples(
      step,
      samples.slice(0, KEPT_SAMPLES).map(({ labelled, chosen }) => sampleOf(labelled, chosen, choice.by)),
    );
    yield event();
    await breathe();
  }
}

/** The chosen side of a pair, for the run's database. */
function sampleOf({ prompt, completions, tokens, scores }: LabelledPrompt, chosen: number, by: string) {
  const text = (content: unknown) => typeof content === "string" ? content : JSON.stringify(content);
  return {
    prompt: text(prompt),
    completion: text(completions[chosen]),
    tokens: tokens[chosen],
    rewards: { score: scores[by][chosen] ?? NaN },
  };
}

/** Name of the file of pairs. */
export const PAIRS = "pairs.jsonl";

/** Writes the pairs of labelled prompts as JSON lines; returns the file's path. */
export function writePairs(directory: string, prompts: Iterable<LabelledPrompt>, choice: PairChoice): string {
  const path = join(directory, PAIRS), encoder = new TextEncoder();
  const lines = function* (): Generator<Uint8Array> {
    for (const labelled of prompts) {
      for (const pair of choosePairs(labelled, choice).chosen) {
        yield encoder.encode(JSON.stringify(preferenceRow(labelled, pair, choice.by)) + "\n");
      }
    }
  };
  writeFileAtomically(path, lines());
  return path;
}
