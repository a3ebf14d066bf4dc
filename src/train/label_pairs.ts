/**
 * From what labellers say about the completions of a prompt to preference pairs.
 *
 * @module
 */
import type { Content } from "../data/messages.ts";
import { completionText } from "../reward/source.ts";

/** A pairwise judge's word on two completions, by their numbers. */
export interface Compared {
  /** Number of the one that is shown first. */
  first: number;
  /** Number of the other. */
  second: number;
  /** Null where no verdict could be read. */
  better: "first" | "second" | "tie" | null;
  /** Whether the two orders contradict each other. */
  flipped: boolean;
}

/** A prompt with its completions and all that was said about them. */
export interface LabelledPrompt {
  /** Number of the prompt in the dataset. */
  row: number;
  /** As in the dataset. */
  prompt: Content;
  /** Further columns that the chat template reads: tools, chat_template_kwargs. */
  template?: Record<string, unknown>;
  /** As text or as an assistant's message. */
  completions: Content[];
  /** Numbers of the completions' tokens. */
  tokens: number[];
  /** Scores by labeller. */
  scores: Record<string, (number | null)[]>;
  /** Of a pairwise judge, which is the labeller `judge`. */
  comparisons?: Compared[];
}

/** Which of two is better: 1 the first, −1 the second, 0 neither; null: not known. */
export type Preference = 1 | 0 | -1 | null;

/** A pair of completions, by their numbers. */
export interface Pair {
  /** The better one. */
  chosen: number;
  /** The worse one. */
  rejected: number;
}

/** How pairs are chosen. */
export interface PairChoice {
  /** The labeller that decides. */
  by: string;
  /** The best with the worst, or all that differ. */
  pairs: "best_worst" | "all";
  /** Differences up to this are ties. */
  minMargin: number;
}

/** The labeller whose words are comparisons. */
export const JUDGE = "judge";

/** Share of comparisons that each completion wins, ties as halves; null for one that was in none. */
export function winRates(comparisons: Compared[], completions: number): (number | null)[] {
  const wins = new Array<number>(completions).fill(0), games = new Array<number>(completions).fill(0);
  for (const { first, second, better } of comparisons) {
    if (better === null) continue;
    games[first]++;
    games[second]++;
    wins[first] += better === "first" ? 1 : better === "tie" ? 0.5 : 0;
    wins[second] += better === "second" ? 1 : better === "tie" ? 0.5 : 0;
  }
  return wins.map((won, i) => games[i] ? won / games[i] : null);
}

/**
 * What a labeller prefers of two completions. Equal texts are a tie. A pairwise judge's word is that on the two themselves where all
 * pairs are wanted; the best and the worst are told apart by the comparisons that they win.
 */
export function preferenceOf(
  { completions, scores, comparisons }: LabelledPrompt,
  labeller: string,
  [i, j]: readonly [number, number],
  { pairs, minMargin }: Pick<PairChoice, "pairs" | "minMargin">,
): Preference {
  if (completionText(completions[i]) === completionText(completions[j])) return 0;
  const isJudge = labeller === JUDGE && comparisons !== undefined;
  if (isJudge && pairs === "all") {
    const found = comparisons.find(({ first, second }) =>
      first === i && second === j || first === j && second === i
    );
    if (!found || found.better === null) return null;
    if (found.better === "tie") return 0;
    return (found.better === "first") === (found.first === i) ? 1 : -1;
  }
  const [a, b] = [scores[labeller]?.[i] ?? null, scores[labeller]?.[j] ?? null];
  if (a === null || b === null) return null;
  if (Math.abs(a - b) <= (isJudge ? 0 : minMargin)) return 0;
  return a > b ? 1 : -1;
}

/** The two completions that are compared first: the best with the worst. Undefined where fewer than two have a score. */
function extremes(scores: (number | null)[]): [best: number, worst: number] | undefined {
  const known = scores.flatMap((score, i) => score === null ? [] : [{ score, i }]);
  if (known.length < 2) return undefined;
  known.sort((a, b) => b.score - a.score || a.i - b.i);
  return [known[0].i, known[known.length - 1].i];
}

/** Pairs of completions that are candidates for preference pairs. */
export function candidates(labelled: LabelledPrompt, { by, pairs }: PairChoice): [number, number][] {
  const count = labelled.completions.length;
  if (pairs === "all") {
    return Array.from({ length: count }, (_, i) => i).flatMap((i) =>
      Array.from({ length: count - i - 1 }, (_, k): [number, number] => [i, i + 1 + k])
    );
  }
  const best = extremes(labelled.scores[by] ?? []);
  // Of two that nobody could score the pair is still one, which was not labelled.
  return best ? [best] : [[0, 1]];
}

/** What became of the candidates of a prompt. */
export interface ChosenPairs {
  /** Pairs with a better and a worse side. */
  chosen: Pair[];
  /** Candidates of which neither is better. */
  ties: number;
  /** Candidates whose labeller did not say. */
  unanswered: number;
}

/**
 * The preference pairs of a prompt.
 *
 * @example
 * ```ts
 * import { choosePairs } from "./label_pairs.ts";
 * const labelled = { row: 0, prompt: "1 + 1?", completions: ["3", "2", "2."], tokens: [1, 1, 2], scores: { right: [0, 1, 1] } };
 * const { chosen, ties } = choosePairs(labelled, { by: "right", pairs: "all", minMargin: 0 });
 * console.log(chosen, ties); // [ { chosen: 1, rejected: 0 }, { chosen: 2, rejected: 0 } ] 1
 * ```
 */
export function choosePairs(labelled: LabelledPrompt, choice: PairChoice): ChosenPairs {
  const out: ChosenPairs = { chosen: [], ties: 0, unanswered: 0 };
  for (const [i, j] of candidates(labelled, choice)) {
    const preference = preferenceOf(labelled, choice.by, [i, j], choice);
    if (preference === null) out.unanswered++;
    else if (preference === 0) out.ties++;
    else out.chosen.push(preference > 0 ? { chosen: i, rejected: j } : { chosen: j, rejected: i });
  }
  return out;
}

/** A pair as a row of a preference dataset, with the scores of all labellers; a pairwise judge's are shares of comparisons won. */
export function preferenceRow(
  { prompt, template, completions, scores }: LabelledPrompt,
  { chosen, rejected }: Pair,
  by: string,
): Record<string, unknown> {
  return {
    prompt,
    chosen: completions[chosen],
    rejected: completions[rejected],
    ...template,
    score_chosen: scores[by][chosen],
    score_rejected: scores[by][rejected],
    scores: Object.fromEntries(
      Object.entries(scores).map(([name, all]) => [name, [all[chosen], all[rejected]]]),
    ),
  };
}
