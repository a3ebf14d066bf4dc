/**
 * Log-probabilities of given tokens, fused with the output head in chunks of tokens: the logits [tokens, vocab] never exist
 * whole. The backward pass computes each chunk's logits again (as in arXiv 2410.10989).
 *
 * @module
 */
import { fill } from "../../../kernels/elementwise.ts";
import {
  klBackward,
  klForward,
  logitStatistics,
  logProbBackward,
  logProbForward,
} from "../../../kernels/log_prob.ts";
import { rowStride } from "../../../kernels/kernel.ts";
import { physicalSize, type Tape, type Tensor } from "../tape.ts";
import { type Head, logits, logitsBackward, vocabOf } from "./head.ts";

/** Floats of logits in one chunk: what stays in a CPU's cache, or keeps a GPU busy. */
const CHUNK_FLOATS = { cpu: 1 << 20, gpu: 1 << 24 };

/** Per-token results of {@linkcode logProb}, each [tokens]. */
export interface LogProb {
  /** ln p(target). */
  logprob: Tensor;
  /** Entropy of the next-token distribution in nats. */
  entropy: Tensor;
  /** ln Σ exp(logit / T). */
  lse: Tensor;
  /** 1 where the target is the most likely token, else 0. */
  correct: Tensor;
  /** Where they are asked for; constants. */
  statistics?: LogitStatistics;
}

/** What else is known of the next-token distributions p, each [tokens]. */
export interface LogitStatistics {
  /** ln Σ p². */
  logSumSquares: Tensor;
  /** Mean of the logits, not divided by the temperature. */
  meanLogit: Tensor;
}

interface Chunk {
  first: number;
  rows: number;
}

function chunks(tape: Tape, tokens: number, vocab: number): Chunk[] {
  const most = Math.max(32, Math.floor(CHUNK_FLOATS[tape.profile.kind] / rowStride(vocab) / 32) * 32);
  const count = Math.ceil(tokens / most);
  const each = Math.ceil(tokens / count / 32) * 32;
  const out: Chunk[] = [];
  for (let first = 0; first < tokens; first += each) {
    out.push({ first, rows: Math.min(each, tokens - first) });
  }
  return out;
}

/** Log-probability of targets[t] after hidden[t] [tokens, width] under softmax(logits / temperature). */
export function logProb(
  tape: Tape,
  hidden: Tensor,
  head: Head,
  targets: Tensor,
  temperature = 1,
  { withStatistics = false }: { withStatistics?: boolean } = {},
): LogProb {
  const [tokens] = hidden.shape, vocab = vocabOf(head);
  const vector = (label: string) => tape.tensor(label, [tokens]);
  const logprob = vector("logprob"),
    entropy = vector("entropy"),
    lse = vector("lse"),
    correct = vector("correct");
  const statistics = withStatistics
    ? { logSumSquares: vector("log sum squares"), meanLogit: vector("mean logit") }
    : undefined;
  const invTemperature = 1 / temperature;
  const parts = chunks(tape, tokens, vocab);
  const logitsOf = ({ first, rows }: Chunk) => logits(tape, tape.rows(hidden, first, rows), head);
  for (const chunk of parts) {
    const { logits } = logitsOf(chunk);
    const shape = { rows: chunk.rows, vocab, first: chunk.first, invTemperature };
    tape.push(logProbForward(tape.profile, { logits, targets, logprob, entropy, lse, correct }, shape));
    if (statistics) tape.push(logitStatistics(tape.profile, { logits, lse, ...statistics }, shape));
  }
  tape.recordAll("log_prob", [logprob, entropy], [hidden, ...head.parts], (dlogprobGiven, dentropyGiven) => {
    const zeros = () => {
      const t = tape.tensor("zeros", [tokens]);
      tape.push(fill(tape.profile, t, physicalSize(t.shape), 0));
      return t;
    };
    const dlogprob = dlogprobGiven ?? zeros(), dentropy = dentropyGiven ?? zeros();
    headBackward(tape, hidden, head, parts, (chunk) => {
      const { logits, raw } = logitsOf(chunk);
      const shape = { rows: chunk.rows, vocab, first: chunk.first, invTemperature };
      tape.push(logProbBackward(tape.profile, { logits, targets, lse, entropy, dlogprob, dentropy }, shape));
      return { d: logits, raw };
    });
  });
  return { logprob, entropy, lse, correct, ...(statistics && { statistics }) };
}

/** Gradients of hidden and head, chunk by chunk, from the gradients of the logits that `dlogitsOf` makes. */
function headBackward(
  tape: Tape,
  hidden: Tensor,
  head: Head,
  parts: Chunk[],
  dlogitsOf: (chunk: Chunk) => { d: Tensor; raw: Tensor },
): void {
  const emit = (dx?: Tensor, known = false) => {
    for (const chunk of parts) {
      const { first, rows } = chunk;
      const dlogits = dlogitsOf(chunk), to = dx && tape.rows(dx, first, rows);
      logitsBackward(tape, tape.rows(hidden, first, rows), head, dlogits, to, known);
    }
  };
  if (hidden.differentiable) tape.contribute(hidden, emit);
  else emit();
}

/** Exact KL(P‖Q) per token [tokens] over the whole vocabulary, P from `hidden` and `head`, Q (a constant) from the others. */
export function exactKl(
  tape: Tape,
  p: { hidden: Tensor; head: Head; lse: Tensor },
  q: { hidden: Tensor; head: Head; lse: Tensor },
  temperature = 1,
): Tensor {
  const [tokens] = p.hidden.shape, vocab = vocabOf(p.head);
  if (vocabOf(q.head) !== vocab) {
    throw new Error(
      `A KL needs distributions over the same tokens; got vocabularies of ${vocab} and ${vocabOf(q.head)}.`,
    );
  }
  const kl = tape.tensor("kl", [tokens]);
  const parts = chunks(tape, tokens, vocab);
  const logitsOf = (side: typeof p, { first, rows }: Chunk) =>
    logits(tape, tape.rows(side.hidden, first, rows), side.head);
  const shapeOf = ({ first, rows }: Chunk) => ({ rows, vocab, first, invTemperature: 1 / temperature });
  const lses = { lseP: p.lse, lseQ: q.lse };
  for (const chunk of parts) {
    const buffers = { p: logitsOf(p, chunk).logits, q: logitsOf(q, chunk).logits, ...lses, kl };
    tape.push(klForward(tape.profile, buffers, shapeOf(chunk)));
  }
  tape.record("kl", kl, [p.hidden, ...p.head.parts], (dkl) => {
    headBackward(tape, p.hidden, p.head, parts, (chunk) => {
      const { logits, raw } = logitsOf(p, chunk);
      const buffers = { p: logits, q: logitsOf(q, chunk).logits, ...lses, kl, dkl };
      tape.push(klBackward(tape.profile, buffers, shapeOf(chunk)));
      return { d: logits, raw };
    });
  });
  return kl;
}
