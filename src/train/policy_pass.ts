/**
 * Learning from a loss on token sequences that the host computes between the forward and the backward pass.
 *
 * @module
 */
import { packBatch } from "../data/batches.ts";
import { batchInputs, decoder, headOf, type Model } from "../model/decoder.ts";
import type { PerToken, TokenLoss } from "../rl/token_loss.ts";
import { exactKl, logProb } from "../tape/ops/log_prob.ts";
import type { Outputs, Workspace } from "../tape/plan.ts";
import { planCache } from "../tape/plans.ts";
import type { Tape } from "../tape/tape.ts";
import type { Pass } from "./guard.ts";
import { packedInputs } from "./rollout.ts";

/** Token ids of a prompt, at least one, and of its completion; what is scored and learnt is the completion. */
export interface Sequence {
  prompt: number[];
  completion: number[];
}

/** What a model says of sequences. */
export interface TokenScores {
  /** ln π(token). */
  logprobs: PerToken;
  /** Entropy in nats of the distribution that the token was drawn from. */
  entropies: PerToken;
  /** KL(π‖π_ref) of that distribution over the whole vocabulary, where there is a reference to compare with. */
  kl?: PerToken;
  /** Where they are asked for. */
  statistics?: TokenStatistics;
}

/** What else is known of the distributions that tokens were drawn from. */
export interface TokenStatistics {
  /** 1 where the token is the most likely one, else 0. */
  correct: PerToken;
  /** Mean of the logits. */
  meanLogit: PerToken;
  /** ln Σ π². */
  logSumSquares: PerToken;
}

/** Passes of a model that learns. */
export interface PolicyPasses {
  /**
   * Forward, `lossOf`, backward. Gradients accumulate in the learner until its step. The pass is for `Guard.examine`.
   */
  learn<L extends TokenLoss>(
    sequences: Sequence[],
    lossOf: (scores: TokenScores) => L,
    temperature?: number,
  ): Promise<{ result: L; pass: Pass }>;
  /** The forward pass alone, with the same bits. */
  score(sequences: Sequence[], temperature?: number): Promise<TokenScores>;
}

/** Records a pass over `tokens` tokens, and its gradient where the model is not `frozen`. */
export function recordPass(
  tape: Tape,
  model: Model,
  { tokens, temperature, checkpointing = false, frozen = false, reference, withStatistics }: {
    tokens: number;
    temperature: number;
    checkpointing?: boolean;
    frozen?: boolean;
    /** Gives `kl`. */
    reference?: Model;
    withStatistics?: boolean;
  },
): void {
  const batch = batchInputs(tape, tokens);
  const targets = tape.input("targets", [tokens], "u32");
  const side = (model: Model, frozen: boolean, withStatistics = false) => {
    const hidden = decoder(tape, model, batch, { frozen, checkpointing: checkpointing && !frozen });
    const head = headOf(tape, model, frozen);
    return { hidden, head, ...logProb(tape, hidden, head, targets, temperature, { withStatistics }) };
  };
  const policy = side(model, frozen, withStatistics);
  const { logprob, entropy } = policy;
  const seen = reference
    ? { logprob, entropy, kl: exactKl(tape, policy, side(reference, true), temperature) }
    : { logprob, entropy };
  const others = policy.statistics && { correct: policy.correct, ...policy.statistics };
  for (const [name, tensor] of Object.entries({ ...seen, ...others })) tape.output(name, tensor);
  if (frozen) return;
  tape.backwardFrom(
    Object.entries(seen).map(([name, tensor]) => [tensor, tape.input(`d ${name}`, [tokens])]),
  );
}

/** Opens the passes of a model under training. `exactKlTo`: a frozen reference, for losses with the exact KL. */
export function openPasses(
  workspace: Workspace,
  model: Model,
  { checkpointing, exactKlTo, withStatistics }: {
    checkpointing: boolean;
    exactKlTo?: Model;
    withStatistics?: boolean;
  },
): PolicyPasses {
  const plans = planCache(
    workspace,
    (tape, tokens: number, temperature: number) =>
      recordPass(tape, model, { tokens, temperature, checkpointing, reference: exactKlTo, withStatistics }),
  );
  return {
    async learn(sequences, lossOf, temperature = 1) {
      const { tokens, inputs, firsts } = packSequences(sequences);
      const plan = plans(tokens, temperature);
      const result = lossOf(cut(await plan.forward(inputs), sequences, firsts));
      const derivative = (of?: PerToken) => spread(of, firsts, tokens);
      const derivatives = {
        "d logprob": derivative(result.dLogprobs),
        "d entropy": derivative(result.dEntropies),
        "d kl": derivative(result.dKl),
      };
      plan.backward(derivatives);
      return { result, pass: { plan, inputs: { ...inputs, ...derivatives } } };
    },
    async score(sequences, temperature = 1) {
      const { tokens, inputs, firsts } = packSequences(sequences);
      return cut(await plans(tokens, temperature).forward(inputs), sequences, firsts);
    },
  };
}

/** Scores sequences with a model that does not learn. */
export type SequenceScorer = (sequences: Sequence[], temperature?: number) => Promise<TokenScores>;

/** A scorer of `batchSize` sequences in a pass. */
export function sequenceScorer(
  workspace: Workspace,
  model: Model,
  { batchSize, reference, withStatistics }: {
    batchSize: number;
    reference?: Model;
    withStatistics?: boolean;
  },
): SequenceScorer {
  const plans = planCache(
    workspace,
    (tape, tokens: number, temperature: number) =>
      recordPass(tape, model, { tokens, temperature, frozen: true, reference, withStatistics }),
  );
  return async (sequences, temperature = 1) => {
    const all: TokenScores = {
      logprobs: [],
      entropies: [],
      ...(reference && { kl: [] }),
      ...(withStatistics && { statistics: { correct: [], meanLogit: [], logSumSquares: [] } }),
    };
    for (let at = 0; at < sequences.length; at += batchSize) {
      const part = sequences.slice(at, at + batchSize);
      const { tokens, inputs, firsts } = packSequences(part);
      const scores = cut(await plans(tokens, temperature).forward(inputs), part, firsts);
      all.logprobs.push(...scores.logprobs);
      all.entropies.push(...scores.entropies);
      all.kl?.push(...scores.kl!);
      for (const name of STATISTICS) all.statistics?.[name].push(...scores.statistics![name]);
    }
    return all;
  };
}

/** Sequences as one batch, and the token of it that stands before each completion, which has the first number of it. */
function packSequences(sequences: Sequence[]) {
  if (sequences.some(({ prompt }) => prompt.length === 0)) {
    throw new Error("A completion needs at least one token before it; got an empty prompt.");
  }
  const packed = packBatch(sequences.map(({ prompt, completion }) => [...prompt, ...completion]));
  const firsts = sequences.map(({ prompt }, i) => packed.first[i] + prompt.length - 1);
  return { tokens: packed.tokens, inputs: packedInputs(packed), firsts };
}

const STATISTICS = ["correct", "meanLogit", "logSumSquares"] as const;

function cut(
  { logprob, entropy, kl, correct, meanLogit, logSumSquares }: Outputs,
  sequences: Sequence[],
  firsts: number[],
): TokenScores {
  const part = (all: Float32Array) =>
    sequences.map(({ completion }, i) =>
      Float64Array.from(all.subarray(firsts[i], firsts[i] + completion.length))
    );
  return {
    logprobs: part(logprob),
    entropies: part(entropy),
    ...(kl && { kl: part(kl) }),
    ...(meanLogit && {
      statistics: {
        correct: part(correct),
        meanLogit: part(meanLogit),
        logSumSquares: part(logSumSquares),
      },
    }),
  };
}

/** Numbers of completions at the places of their tokens in a batch; zeros elsewhere, and where there are none. */
function spread(of: PerToken | undefined, firsts: number[], tokens: number): Float32Array {
  const all = new Float32Array(tokens);
  of?.forEach((numbers, i) => all.set(numbers, firsts[i]));
  return all;
}
