/**
 * The output head: hidden states to logits.
 *
 * @module
 */
import { matmul } from "../../../kernels/matmul.ts";
import { rowStride } from "../../../kernels/kernel.ts";
import { softCap, softCapBackward } from "../../../kernels/soft_cap.ts";
import { placed } from "./linear.ts";
import { physicalSize, type Tape, type Tensor } from "../tape.ts";

/** A head of a language model. */
export interface Head {
  /** The matrix [vocab, width], in several parts of whole rows where it is too large for one binding. */
  parts: Tensor[];
  /** Soft cap of the logits (`kernels/soft_cap.ts`). */
  softCap?: number;
}

/** Tokens that a head knows. */
export function vocabOf({ parts }: Head): number {
  return parts.reduce((rows, part) => rows + part.shape[0], 0);
}

/** Logits [rows, vocab] of hidden [rows, width], without a gradient; `raw` are those before the cap. */
export function logits(tape: Tape, hidden: Tensor, head: Head): { logits: Tensor; raw: Tensor } {
  const [rows, width] = hidden.shape, vocab = vocabOf(head), ldc = rowStride(vocab);
  const raw = tape.tensor("logits", [rows, vocab]);
  for (const { part, first, count } of placed(head.parts)) {
    const shape = { m: rows, n: count, k: width, ldc, offsets: { c: first }, storage: part.storage };
    tape.push(matmul(tape.profile, { a: hidden, b: part, c: raw }, { trans: "nt", ...shape }));
  }
  if (head.softCap === undefined) return { logits: raw, raw };
  const capped = tape.tensor("capped logits", [rows, vocab]);
  const shape = { count: physicalSize(raw.shape), cap: head.softCap };
  tape.push(softCap(tape.profile, { x: raw, y: capped }, shape));
  return { logits: capped, raw };
}

/**
 * Adds the gradients of head and hidden, given that of the logits, which it overwrites. `dx` is the gradient of hidden, added to
 * where `accumulate` is true.
 */
export function logitsBackward(
  tape: Tape,
  hidden: Tensor,
  head: Head,
  { d, raw }: { d: Tensor; raw: Tensor },
  dx?: Tensor,
  accumulate = false,
): void {
  const [rows, width] = hidden.shape, ld = rowStride(vocabOf(head));
  if (head.softCap !== undefined) {
    tape.push(
      softCapBackward(tape.profile, { x: raw, d }, { count: physicalSize(d.shape), cap: head.softCap }),
    );
  }
  placed(head.parts).forEach(({ part, first, count }, i) => {
    const shape = { lda: ld, offsets: { a: first } };
    tape.contribute(part, (c, accumulate) =>
      tape.push(
        matmul(tape.profile, { a: d, b: hidden, c }, {
          ...shape,
          trans: "tn",
          m: count,
          n: width,
          k: rows,
          accumulate,
        }),
      ));
    if (!dx) return;
    const over = { m: rows, n: width, k: count, accumulate: accumulate || i > 0, storage: part.storage };
    tape.push(matmul(tape.profile, { a: d, b: part, c: dx }, { trans: "nn", ...shape, ...over }));
  });
}
