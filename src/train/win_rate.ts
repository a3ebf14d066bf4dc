/**
 * How often the answers of one policy are preferred to those of another, on the same prompts.
 *
 * @module
 */
import type { PromptRow } from "../data/tokenize.ts";
import type { Model } from "../model/decoder.ts";
import { type GenerateOptions, openGenerator } from "../sample/generate.ts";
import { type Share, wilson } from "../sample/preferences.ts";
import type { Workspace } from "../tape/plan.ts";
import type { CompletionPair, PairJudge } from "./pair_judges.ts";

/** What a comparison of two policies came to. */
export interface WinRate {
  prompts: number;
  wins: number;
  losses: number;
  /** Prompts on which neither answer is better, or nobody can tell. */
  ties: number;
  /** Wins among what was decided, with its 95 % interval; null where nothing was. */
  win_rate: Share | null;
}

/** Samples one answer of each policy to each prompt and has the two compared. */
export async function winRate(
  workspace: Workspace,
  { before, after, prompts, judge, sampling }: {
    before: Model;
    after: Model;
    prompts: PromptRow[];
    judge: PairJudge;
    sampling: GenerateOptions;
  },
): Promise<WinRate> {
  const answersOf = async (policy: Model) => {
    const generator = openGenerator(workspace, policy);
    const answers = await generator.generate(prompts.map(({ ids }, i) => ({ ids, samples: [i] })), sampling);
    generator.close();
    return answers.map(({ ids, finishReason }) => ({ ids, ended: finishReason === "stop" }));
  };
  const old = await answersOf(before), fresh = await answersOf(after);
  const { better } = await judge(
    prompts.map((row, i): CompletionPair => ({ row, completions: [old[i], fresh[i]] })),
    0,
  );
  const count = (which: 0 | 1) => better.filter((one) => one === which).length;
  const losses = count(0), wins = count(1), decided = losses + wins;
  return {
    prompts: prompts.length,
    wins,
    losses,
    ties: prompts.length - decided,
    win_rate: decided ? wilson(wins, decided) : null,
  };
}

/** A comparison for people. */
export function winRateLine({ prompts, wins, losses, ties, win_rate: rate }: WinRate): string {
  const percent = (share: number) => `${(100 * share).toFixed(0)} %`;
  return `on ${prompts} held-out prompts the answer after training is preferred ${wins} times, that before ${losses} times, neither ${ties} times` +
    (rate
      ? `: ${percent(rate.share)} (${percent(rate.low)} to ${percent(rate.high)}) of what is decided`
      : "");
}
