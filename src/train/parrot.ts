/**
 * What the parrot's world adds to the three stages: comparisons labelled by annotators, and evaluation by gold.
 *
 * @module
 */
import { randomStream } from "../random/stream.ts";
import type { PairExample } from "../data/tokenize.ts";
import type { Model } from "../model/decoder.ts";
import { type Annotator, choose } from "../parrot/annotators.ts";
import { MOST_REPLY_TOKENS, trainingPrompts } from "../parrot/datasets.ts";
import { gold, readReply } from "../parrot/gold.ts";
import type { Prompt } from "../parrot/prompts.ts";
import { decodeWords, EOS_ID, promptIds } from "../parrot/vocabulary.ts";
import { type GenerateOptions, openGenerator } from "../sample/generate.ts";
import { bestOfNKl, bestOfNWeights } from "../rl/best_of_n.ts";
import type { Workspace } from "../tape/plan.ts";
import { rolloutScorer, type Standardisation } from "./rollout.ts";

/** How replies are drawn: from the full distribution. */
export const PARROT_SAMPLING: Omit<GenerateOptions, "seed" | "stream"> = {
  temperature: 1,
  topK: 0,
  topP: 1,
  stopIds: [EOS_ID],
  maxNewTokens: MOST_REPLY_TOKENS,
};

/** Random streams of generation; PPO uses its step numbers. */
const STREAMS = { comparisons: 0x40000000, evaluation: 0x50000000, bestOfN: 0x60000000 };

/** Rounds of redrawing pairs whose two replies are equal. */
const MOST_ROUNDS = 20;

/**
 * `count` comparisons: two replies of the SFT model to each training prompt, labelled by the annotators. Pairs of equal
 * replies are drawn again, with new prompts.
 */
export async function comparisons(
  workspace: Workspace,
  sft: Model,
  { count, annotator, seed }: { count: number; annotator: Annotator; seed: number },
): Promise<PairExample[]> {
  const generator = openGenerator(workspace, sft);
  const rng = randomStream(seed, "labels");
  const pairs: PairExample[] = [];
  for (let round = 0; pairs.length < count; round++) {
    if (round === MOST_ROUNDS) {
      throw new Error(
        `Only ${pairs.length} of ${count} comparisons have two different replies: the model always says the same.`,
      );
    }
    const prompts = trainingPrompts(seed, `comparisons ${round}`, count - pairs.length);
    const replies = await generator.generate(
      prompts.map((prompt, i) => ({ ids: promptIds(prompt), samples: [2 * i, 2 * i + 1] })),
      { ...PARROT_SAMPLING, seed, stream: STREAMS.comparisons + round },
    );
    prompts.forEach((prompt, i) => {
      const [first, second] = [replies[2 * i].ids, replies[2 * i + 1].ids];
      if (first.join() === second.join()) return;
      const [a, b] = [decodeWords(first), decodeWords(second)];
      const { chosen } = choose(rng, annotator, prompt, a, b);
      const start = promptIds(prompt);
      const sides = chosen === a ? [first, second] : [second, first];
      pairs.push({ chosen: [...start, ...sides[0]], rejected: [...start, ...sides[1]] });
    });
  }
  return pairs;
}

/** One evaluated reply. */
export interface EvaluatedReply {
  prompt: Prompt;
  words: string[];
  gold: number;
  proxy: number;
  /** Exact KL(π‖π_SFT) summed over the reply, in nats. */
  kl: number;
}

/** An evaluation of a policy on the same prompts with the same random numbers every time. */
export type ParrotEvaluator = (policy: Model) => Promise<EvaluatedReply[]>;

/** Evaluates policies on `prompts` against the SFT model and the reward model. */
export function parrotEvaluator(
  workspace: Workspace,
  { reference, reward, scoreScale = { mean: 0, std: 1 }, prompts }: {
    reference: Model;
    /** Gives the proxy, which is 0 without. */
    reward?: Model;
    scoreScale?: Standardisation;
    prompts: Prompt[];
  },
): ParrotEvaluator {
  const opened = new Map<Model, ReturnType<typeof openFor>>();
  const openFor = (policy: Model) => ({
    generator: openGenerator(workspace, policy),
    scorer: rolloutScorer(workspace, { policy, reference, reward }, {
      batchSize: 128,
      scoreScale,
      valueScale: { mean: 0, std: 1 },
    }),
  });
  return async (policy) => {
    if (!opened.has(policy)) opened.set(policy, openFor(policy));
    const { generator, scorer } = opened.get(policy)!;
    const ids = prompts.map(promptIds);
    const replies = await generator.generate(
      ids.map((prompt, i) => ({ ids: prompt, samples: [i] })),
      { ...PARROT_SAMPLING, seed: 99, stream: STREAMS.evaluation },
    );
    const scored = await scorer(
      replies.map((reply, i) => ({
        prompt: ids[i],
        completion: reply.ids,
        ended: reply.finishReason === "stop",
      })),
      PARROT_SAMPLING.temperature,
    );
    return scored.map((rollout, i) => {
      const words = decodeWords(rollout.completion);
      return {
        prompt: prompts[i],
        words,
        gold: gold(prompts[i], words),
        proxy: rollout.score,
        kl: rollout.exactKl.reduce((a, b) => a + b, 0),
      };
    });
  };
}

/** Means of an evaluation, as metrics. */
export function evaluationMetrics(replies: EvaluatedReply[]): Record<string, number> {
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / Math.max(1, values.length);
  const read = replies.map((r) => ({ ...r, reading: readReply(r.prompt, r.words) }));
  const wrong = read.filter((r) => !r.prompt.right), right = read.filter((r) => r.prompt.right);
  const kl = mean(replies.map((r) => r.kl));
  const isRight = (r: typeof read[number]) => Number(r.reading.answer === r.prompt.fact.answer);
  return {
    "gold/reward": mean(replies.map((r) => r.gold)),
    "eval/proxy": mean(replies.map((r) => r.proxy)),
    "eval/kl": kl,
    "overopt/d_sqrt_kl": Math.sqrt(Math.max(0, kl)),
    "eval/length": mean(replies.map((r) => r.words.length)),
    "gold/agrees_with_wrong": mean(wrong.map((r) => Number(r.reading.agrees))),
    "gold/right_on_wrong": mean(wrong.map(isRight)),
    "gold/right_on_right": mean(right.map(isRight)),
    "gold/no_answer": mean(read.map((r) => Number(r.reading.answer === null))),
    "gold/flatters": mean(read.map((r) => Number(r.reading.flatters))),
    "eval/no_eos": mean(replies.map((r) => Number(r.words[r.words.length - 1] !== "<eos>"))),
  };
}

/** Proxy and gold of the best of n by proxy, with KL = ln n − (n − 1)/n (exact where replies are distinct). */
export interface BestOfN {
  n: number;
  kl: number;
  proxy: number;
  gold: number;
}

/**
 * Best-of-n for n = 1, 2, 4 … `most` from `most` samples per prompt, without a sampling error in the choice: each sorted
 * sample is weighted by its chance of being the best of n drawn without replacement.
 */
export async function bestOfN(
  workspace: Workspace,
  { sft, reward, scoreScale, prompts, most }: {
    sft: Model;
    reward: Model;
    scoreScale: Standardisation;
    prompts: Prompt[];
    most: number;
  },
): Promise<BestOfN[]> {
  const generator = openGenerator(workspace, sft);
  const scorer = rolloutScorer(workspace, { policy: sft, reference: sft, reward }, {
    batchSize: 256,
    scoreScale,
    valueScale: { mean: 0, std: 1 },
  });
  const sorted: { proxy: number; gold: number }[][] = [];
  for (const [i, prompt] of prompts.entries()) {
    const ids = promptIds(prompt);
    const samples = Array.from({ length: most }, (_, k) => i * most + k);
    const replies = await generator.generate([{ ids, samples }], {
      ...PARROT_SAMPLING,
      seed: 5,
      stream: STREAMS.bestOfN,
    });
    const scored = await scorer(
      replies.map((reply) => ({ prompt: ids, completion: reply.ids, ended: true })),
      PARROT_SAMPLING.temperature,
    );
    sorted.push(
      scored.map((r) => ({ proxy: r.score, gold: gold(prompt, decodeWords(r.completion)) }))
        .sort((a, b) => a.proxy - b.proxy),
    );
  }
  const rows: BestOfN[] = [];
  for (let n = 1; n <= most; n *= 2) {
    const weights = bestOfNWeights(most, n);
    const mean = (name: "proxy" | "gold") =>
      sorted.reduce((sum, row) => sum + row.reduce((s, r, i) => s + weights[i] * r[name], 0), 0) /
      sorted.length;
    rows.push({ n, kl: bestOfNKl(n), proxy: mean("proxy"), gold: mean("gold") });
  }
  return rows;
}
