/**
 * Scoring given texts with a model: log-probability and entropy of every token, or a reward model's score.
 *
 * @module
 */
import { packBatch } from "../data/batches.ts";
import { batchInputs, decoder, headOf, type Model } from "../model/decoder.ts";
import { weightOf } from "../model/block.ts";
import { logProb } from "../tape/ops/log_prob.ts";
import { scalarHead } from "../tape/ops/linear.ts";
import { gather } from "../tape/ops/reduce.ts";
import { planCache } from "../tape/plans.ts";
import type { Workspace } from "../tape/plan.ts";

/** Numbers of one document, one per token after the first. */
export interface TokenScores {
  /** ln p(token | tokens before). */
  logprobs: Float32Array;
  /** Entropy in nats of the distribution that the token was scored under. */
  entropy: Float32Array;
  /** 1 where the token is the most likely one, else 0. */
  correct: Float32Array;
}

/** Options of {@linkcode score}. */
export interface ScoringOptions {
  /** Log-probabilities are of logits divided by this; 1 by default. */
  temperature?: number;
  /** Documents in one pass; 16 by default. */
  batchSize?: number;
}

/** Log-probabilities of every token after the first of each document. */
export async function score(
  workspace: Workspace,
  model: Model,
  documents: number[][],
  { temperature = 1, batchSize = 16 }: ScoringOptions = {},
): Promise<TokenScores[]> {
  const scorer = tokenScorer(workspace, model, temperature), scores: TokenScores[] = [];
  try {
    for (let at = 0; at < documents.length; at += batchSize) {
      scores.push(...await scorer(documents.slice(at, at + batchSize)));
    }
  } finally {
    scorer.close();
  }
  return scores;
}

/** Scores documents in one pass. */
export interface TokenScorer {
  (documents: number[][]): Promise<TokenScores[]>;
  /** Frees its plans; the model stays. */
  close(): void;
}

/** A scorer with a language model. */
export function tokenScorer(workspace: Workspace, model: Model, temperature = 1): TokenScorer {
  const plan = planCache(workspace, (tape, tokens: number) => {
    const hidden = decoder(tape, model, batchInputs(tape, tokens), { frozen: true });
    const targets = tape.input("targets", [tokens], "u32");
    const { logprob, entropy, correct } = logProb(
      tape,
      hidden,
      headOf(tape, model, true),
      targets,
      temperature,
    );
    for (const [name, tensor] of Object.entries({ logprob, entropy, correct })) tape.output(name, tensor);
  });
  const score = async (documents: number[][]): Promise<TokenScores[]> => {
    const { ids, positions, starts, ends, tokens, first, lengths } = packBatch(documents);
    const targets = new Uint32Array(tokens);
    first.forEach((begin, i) => targets.set(ids.subarray(begin + 1, begin + lengths[i]), begin));
    const out = await plan(tokens).run({ ids, positions, starts, ends, targets });
    return documents.map((_, i) => {
      const begin = first[i], end = begin + lengths[i] - 1;
      return {
        logprobs: out.logprob.slice(begin, end),
        entropy: out.entropy.slice(begin, end),
        correct: out.correct.slice(begin, end),
      };
    });
  };
  return Object.assign(score, { close: () => plan.destroy() });
}

/** Documents scored in one pass by a reward model. */
const REWARD_BATCH = 128;

/** Returns a reward model's score of each document, read at its last token. */
export interface DocumentScorer {
  (documents: number[][]): Promise<number[]>;
  /** Frees its plans; the model stays. */
  close(): void;
}

/** A scorer with a reward model. */
export function documentScorer(workspace: Workspace, model: Model): DocumentScorer {
  const plan = planCache(workspace, (tape, tokens: number, rows: number) => {
    const hidden = decoder(tape, model, batchInputs(tape, tokens), { frozen: true });
    const scores = scalarHead(tape, hidden, weightOf(tape, model, "score", true));
    tape.output("scores", gather(tape, scores, tape.input("last", [rows], "u32")));
  });
  const score = async (documents: number[][]): Promise<number[]> => {
    const scores: number[] = [];
    for (let at = 0; at < documents.length; at += REWARD_BATCH) {
      const part = documents.slice(at, at + REWARD_BATCH);
      const { ids, positions, starts, ends, tokens, first, lengths } = packBatch(part);
      const last = first.map((start, i) => start + lengths[i] - 1);
      const out = await plan(tokens, part.length).run({ ids, positions, starts, ends, last });
      scores.push(...out.scores.subarray(0, part.length));
    }
    return scores;
  };
  return Object.assign(score, { close: () => plan.destroy() });
}
