/**
 * Groups of completions: sampled from prompts, scored by the sources of rewards, and what is kept of each to learn from.
 *
 * @module
 */
import { type DataCursor, type Rows, takeWholeBatch } from "../data/batches.ts";
import type { PromptRow } from "../data/tokenize.ts";
import type { Model } from "../model/decoder.ts";
import { randomStream } from "../random/stream.ts";
import { rewardBatch, type RewardSource, scoreBatch, sourceMetrics } from "../reward/source.ts";
import { flatGroups, type FunctionRewards, rewardMetrics, sumRewards } from "../rl/group_advantages.ts";
import { klEstimate, type KlEstimator } from "../rl/kl.ts";
import type { PerToken } from "../rl/token_loss.ts";
import type { Sample as StoredSample } from "../run/store.ts";
import { openGenerator } from "../sample/generate.ts";
import type { Workspace } from "../tape/plan.ts";
import type { GenerationPlan } from "./generation.ts";
import type { OnlineOptions } from "./options/online.ts";
import { type SequenceScorer, sequenceScorer } from "./policy_pass.ts";

/** What the online methods without a critic train and on what. */
export interface OnlineInputs {
  /** Where to train. */
  workspace: Workspace;
  /** Trained in place. */
  policy: Model;
  /** Frozen; not needed where there is no KL penalty. */
  reference?: Model;
  /** What completions are sampled for. */
  prompts: Rows<PromptRow>;
  /** What gives rewards, at least one. */
  rewards: RewardSource[];
  /** Tokens that end a completion. */
  stopIds: number[];
  /** Text of token ids without special tokens, for rewards and for the samples that are kept. */
  decode: (ids: number[]) => string;
  /** Called before the first step and at every evaluation; its metrics join the step's. */
  evaluate?: (step: number, policy: Model) => Promise<Record<string, number>>;
}

/** A completion to learn from. Plain data, part of a checkpoint; lists are one number per token. */
export interface Sample {
  prompt: number[];
  completion: number[];
  /** Whether a stop token ended it. */
  ended: boolean;
  /** Log-probabilities when it was drawn. */
  samplingLogprobs: number[];
  /** Those when learning from it began; absent until then. */
  oldLogprobs?: number[];
  /** Those of the reference, where they are needed. */
  refLogprobs?: number[];
  /** The exact KL to the reference when it was drawn, where that is needed. */
  exactKl?: number[];
  /** One for each token, or one for all. */
  advantages: number[];
}

/** Completions that are still to be learnt from. Plain data, part of a checkpoint. */
export interface Generation {
  /** In the order in which they are learnt from. */
  samples: Sample[];
  /** At which they were sampled. */
  temperature: number;
}

/** Before the first completions. */
export const NOTHING_SAMPLED: Readonly<Generation> = { samples: [], temperature: 1 };

/** A generation batch, group by group. */
export interface GroupRollout {
  /** The prompt of each completion. */
  rows: PromptRow[];
  /** Without advantages yet. */
  samples: Sample[];
  /** [sources][completions]. */
  rewards: FunctionRewards;
  /** Their weighted sums; NaN where no source applies. */
  sums: Float64Array;
  /** Of all completions that were drawn, those that were dropped for others included. */
  metrics: Record<string, number>;
  /** Where reading the prompts stands now. */
  cursor: DataCursor;
  /** Rounds of sampling so far; each has random numbers of its own. */
  rounds: number;
  /** Tokens of prompts and completions that were kept so far. */
  numTokens: number;
}

/** Samples one generation batch. */
export type GroupSampler = (
  from: { cursor: DataCursor; rounds: number; numTokens: number; step: number },
  settings: Pick<OnlineOptions, "temperature">,
) => Promise<GroupRollout>;

/** One round of sampling. */
type Round = Pick<GroupRollout, "rows" | "samples" | "rewards" | "sums">;

/** A sampler of generation batches from a policy, which may learn meanwhile; `ask` is asked about what is kept. */
export function groupSampler(
  policy: Model,
  { workspace, prompts, rewards: sources, stopIds, decode }: OnlineInputs,
  plan: GenerationPlan,
  options: OnlineOptions,
  ask?: ReferenceScorer,
): GroupSampler {
  const generator = openGenerator(workspace, policy);
  const { numGenerations, dynamicSampling, dynamicSamplingMaxRounds } = options;
  const weights = sources.map(({ weight }) => weight), names = sources.map(({ name }) => name);

  const sample = async (
    batch: PromptRow[],
    { stream, step, temperature }: { stream: number; step: number; temperature: number },
  ): Promise<Round> => {
    const completions = await generator.generate(
      batch.map(({ ids }, i) => ({
        ids,
        samples: Array.from({ length: numGenerations }, (_, g) => i * numGenerations + g),
      })),
      {
        temperature,
        topK: options.topK,
        topP: options.topP,
        stopIds,
        maxNewTokens: options.maxCompletionLength,
        seed: options.seed,
        stream,
      },
    );
    const rows = completions.map((_, i) => batch[Math.floor(i / numGenerations)]);
    const samples = completions.map(({ ids, logprobs, finishReason }, i) => ({
      prompt: rows[i].ids,
      completion: ids,
      ended: finishReason === "stop",
      samplingLogprobs: logprobs,
      advantages: [],
    }));
    const seen = samples.map(({ completion: ids, ended }) => ({ ids, ended }));
    const rewards = await scoreBatch(sources, rewardBatch(rows, seen, decode, step));
    return { rows, samples, rewards, sums: sumRewards(rewards, weights) };
  };

  return async ({ cursor, rounds, numTokens, step }, { temperature }) => {
    const drawn: Round[] = [];
    const enough = () => {
      const groups = drawn.flatMap(({ sums }) => flatGroups(sums, numGenerations));
      return groups.filter((flat) => !flat).length >= plan.prompts;
    };
    do {
      const { batch, next } = takeWholeBatch(cursor, prompts, {
        seed: options.seed,
        batchSize: plan.prompts,
        shuffle: options.shuffleDataset,
      });
      cursor = next;
      drawn.push(await sample(batch, { stream: ++rounds, step, temperature }));
    } while (dynamicSampling && drawn.length < dynamicSamplingMaxRounds && !enough());

    const all = joined(drawn), flat = flatGroups(all.sums, numGenerations);
    // Groups that teach something first, then what the batch is filled up with, each in the order they were drawn.
    const order = [...flat.keys()].sort((a, b) => Number(flat[a]) - Number(flat[b]) || a - b);
    const kept = dynamicSampling ? order.slice(0, plan.prompts) : [...flat.keys()];
    const batch = groupsOf(all, kept, numGenerations);
    await ask?.(batch.samples, temperature);
    const tokens = batch.samples.reduce(
      (n, { prompt, completion }) => n + prompt.length + completion.length,
      numTokens,
    );
    return {
      ...batch,
      metrics: {
        num_tokens: tokens,
        ...completionMetrics(all.samples),
        ...rewardMetrics(names, all.rewards, all.sums),
        ...sourceMetrics(sources),
        ...(dynamicSampling && {
          "dynamic_sampling/rounds": drawn.length,
          "dynamic_sampling/frac_kept": flat.filter((one) => !one).length / flat.length,
        }),
      },
      cursor,
      rounds,
      numTokens: tokens,
    };
  };
}

function joined(rounds: Round[]): Round {
  if (rounds.length === 1) return rounds[0];
  return {
    rows: rounds.flatMap(({ rows }) => rows),
    samples: rounds.flatMap(({ samples }) => samples),
    rewards: rounds[0].rewards.map((_, f) => rounds.flatMap(({ rewards }) => rewards[f])),
    sums: Float64Array.from(rounds.flatMap(({ sums }) => [...sums])),
  };
}

/** Some groups of a round. */
function groupsOf(all: Round, groups: number[], size: number): Round {
  const which = groups.flatMap((group) => Array.from({ length: size }, (_, g) => group * size + g));
  return {
    rows: which.map((i) => all.rows[i]),
    samples: which.map((i) => all.samples[i]),
    rewards: all.rewards.map((row) => which.map((i) => row[i])),
    sums: Float64Array.from(which, (i) => all.sums[i]),
  };
}

/** Lengths of completions under TRL's names; those of completions with a stop token are 0 where there is none. */
export function completionMetrics(
  samples: Pick<Sample, "completion" | "ended">[],
): Record<string, number> {
  const lengths = (some: typeof samples) => some.map(({ completion }) => completion.length);
  const all = lengths(samples), terminated = lengths(samples.filter(({ ended }) => ended));
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / Math.max(1, values.length);
  const least = (values: number[]) => values.reduce((a, b) => Math.min(a, b), values[0] ?? 0);
  const most = (values: number[]) => values.reduce((a, b) => Math.max(a, b), 0);
  return {
    "completions/mean_length": mean(all),
    "completions/min_length": least(all),
    "completions/max_length": most(all),
    "completions/clipped_ratio": 1 - terminated.length / all.length,
    "completions/mean_terminated_length": mean(terminated),
    "completions/min_terminated_length": least(terminated),
    "completions/max_terminated_length": most(terminated),
  };
}

/** Fills in what the reference says of samples: their log-probabilities, or the exact KL of the policy to it. */
export type ReferenceScorer = (samples: Sample[], temperature: number) => Promise<void>;

/** A scorer with the reference. `policy`: what the exact KL is of, which is then taken of the policy as it is now. */
export function referenceScorer(
  workspace: Workspace,
  reference: Model,
  { batchSize, policy }: { batchSize: number; policy?: Model },
): ReferenceScorer {
  const score: SequenceScorer = sequenceScorer(
    workspace,
    policy ?? reference,
    policy ? { batchSize, reference } : { batchSize },
  );
  return async (samples, temperature) => {
    const { logprobs, kl } = await score(samples, temperature);
    samples.forEach((sample, i) => {
      if (kl) sample.exactKl = Array.from(kl[i]);
      else sample.refLogprobs = Array.from(logprobs[i]);
    });
  };
}

/**
 * The KL of each token to the reference, from the log-probabilities with which it was drawn, or as the exact KL was then.
 *
 * @throws {Error} where it is not finite: as part of a reward it would make the completion one that nobody could score.
 */
export function drawnKl(samples: Sample[], estimator: KlEstimator): PerToken {
  return samples.map(({ samplingLogprobs, refLogprobs, exactKl }) => {
    const kl = estimator === "exact"
      ? Float64Array.from(exactKl!)
      : Float64Array.from(samplingLogprobs, (lp, t) => klEstimate(estimator, lp, refLogprobs![t]));
    const wrong = kl.find((x) => !Number.isFinite(x));
    if (wrong === undefined) return kl;
    throw new Error(
      `The KL of a completion to the reference is ${wrong}. The weights of the policy or of the reference are not finite; go on from an earlier checkpoint with a smaller learning rate.`,
    );
  });
}

/** A generation batch in the random order in which it is cut into micro-batches. */
export function shuffled(samples: Sample[], seed: number, rounds: number): Sample[] {
  return Array.from(
    randomStream(seed, "generation batch", rounds).shuffle(samples.length),
    (i) => samples[i],
  );
}

/** Samples of each generation batch that are kept in the run's database. */
const KEPT_SAMPLES = 8;

/** The first completions of a batch, for the run's database. */
export function storedSamples(
  { rows, samples, rewards, sums }: GroupRollout,
  names: string[],
  decode: (ids: number[]) => string,
): StoredSample[] {
  return samples.slice(0, KEPT_SAMPLES).map(({ completion, advantages }, i) => {
    const known = names.flatMap((name, f) => rewards[f][i] === null ? [] : [[name, rewards[f][i]!]]);
    const mean = advantages.reduce((a, b) => a + b, 0) / Math.max(1, advantages.length);
    return {
      prompt: rows[i].text,
      completion: decode(completion),
      tokens: completion.length,
      rewards: {
        ...Object.fromEntries(known),
        ...(Number.isNaN(sums[i]) ? {} : { reward: sums[i] }),
        advantage: mean,
      },
    };
  });
}
