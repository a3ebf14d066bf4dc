/**
 * The pieces of a transformer block: embedding, norm, rotary embedding, attention, activation.
 *
 * @module
 */
import {
  type Activation,
  activation as activationKernel,
  activationBackward,
} from "../../../kernels/activation.ts";
import { attention as attentionKernel } from "../../../kernels/attention.ts";
import { attentionBackward } from "../../../kernels/attention_backward.ts";
import { columnSumPartials, columnSums } from "../../../kernels/column_sums.ts";
import { embedding as embeddingKernel, embeddingBackward } from "../../../kernels/embedding.ts";
import { headNorm as headNormKernel, headNormBackward, headNormGains } from "../../../kernels/head_norm.ts";
import { padded, rowStride } from "../../../kernels/kernel.ts";
import { norm as normKernel, normBackward, type NormKind } from "../../../kernels/norm.ts";
import { rope as ropeKernel } from "../../../kernels/rope.ts";
import { narrow } from "../../../kernels/window.ts";
import type { Tape, Tensor } from "../tape.ts";

/**
 * Rows of the table [vocab, cols] by id, times `scale`: [tokens, cols]. `order` lists the tokens sorted by id and is needed for a
 * gradient. A table that is too large for one binding comes in parts, one after the other.
 */
export function embedding(
  tape: Tape,
  table: Tensor | Tensor[],
  ids: Tensor,
  { order, scale = 1 }: { order?: Tensor; scale?: number } = {},
): Tensor {
  const parts = [table].flat(), [tokens] = ids.shape, [, cols] = parts[0].shape;
  const y = tape.tensor("embedding", [tokens, cols]);
  const of = parts.reduce((rows, part) => rows + part.shape[0], 0);
  let first = 0;
  const shapes = parts.map(({ shape: [vocab], storage }) => {
    const shape = { tokens, vocab, cols, scale, storage, part: { first, of } };
    first += vocab;
    return shape;
  });
  parts.forEach((part, i) => tape.push(embeddingKernel(tape.profile, { ids, table: part, y }, shapes[i])));
  tape.record("embedding", y, parts, (dy) => {
    if (!order) throw new Error("An embedding with a gradient needs the tokens' order by id.");
    parts.forEach(({ gradient }, i) =>
      tape.push(embeddingBackward(tape.profile, { ids, order, dy, dtable: gradient! }, shapes[i]))
    );
  });
  return y;
}

/** RMSNorm or LayerNorm over the rows of x [rows, cols]; weight and bias [cols]. With `plusOne` the gain is 1 + weight. */
export function norm(
  tape: Tape,
  x: Tensor,
  weight: Tensor,
  { kind = "rms", eps, bias, plusOne }: { kind?: NormKind; eps: number; bias?: Tensor; plusOne?: boolean },
): Tensor {
  const [rows, cols] = x.shape;
  const y = tape.tensor("norm", [rows, cols]);
  const stats = tape.tensor("norm stats", [kind === "rms" ? rows : 2 * rows]);
  const shape = { kind, rows, cols, eps, plusOne };
  tape.push(normKernel(tape.profile, { x, w: weight, ...(bias ? { b: bias } : {}), y, stats }, shape));
  tape.record("norm", y, [x, weight, ...(bias ? [bias] : [])], (dy) => {
    const sums = (
      kind: "plain" | "rms" | "layer",
      buffers: { x: Tensor; s?: Tensor; dy?: Tensor },
      out: Tensor,
    ) => {
      const partials = tape.tensor("norm partials", [columnSumPartials(rows, cols)]);
      tape.push(...columnSums(tape.profile, kind, { ...buffers, partials, out }, { rows, cols }));
    };
    if (weight.gradient) sums(kind, { x, s: stats, dy }, weight.gradient);
    if (bias?.gradient) sums("plain", { x: dy }, bias.gradient);
    tape.contribute(
      x,
      (dx, accumulate) =>
        tape.push(normBackward(tape.profile, { x, w: weight, stats, dy, dx }, shape, accumulate)),
    );
  });
  return y;
}

/** Heads of a fused projection [tokens, (heads + 2·kvHeads)·padded(headDim)]. */
export interface Heads {
  heads: number;
  kvHeads: number;
  headDim: number;
}

/** RMSNorm of every query and key head of `qkv`; the gains are [headDim]. */
export function headNorm(
  tape: Tape,
  qkv: Tensor,
  wq: Tensor,
  wk: Tensor,
  { heads, kvHeads, headDim, eps }: Heads & { eps: number },
): Tensor {
  const [tokens] = qkv.shape;
  const y = tape.tensor("head norm", qkv.shape),
    stats = tape.tensor("head stats", [tokens * (heads + kvHeads)]);
  const shape = { tokens, heads, kvHeads, headDim, eps };
  tape.push(headNormKernel(tape.profile, { x: qkv, wq, wk, y, stats }, shape));
  tape.record("head norm", y, [qkv, wq, wk], (d) => {
    for (const [weight, of] of [[wq, "queries"], [wk, "keys"]] as const) {
      if (!weight.gradient) continue;
      const gains = tape.tensor("head gains", [tokens, headDim]);
      tape.push(headNormGains(tape.profile, { x: qkv, stats, d, gains }, shape, of));
      const partials = tape.tensor("head gain partials", [columnSumPartials(tokens, headDim)]);
      const buffers = { x: gains, partials, out: weight.gradient };
      tape.push(...columnSums(tape.profile, "plain", buffers, { rows: tokens, cols: headDim }));
    }
    tape.push(headNormBackward(tape.profile, { x: qkv, wq, wk, stats, d }, shape));
    tape.pass(qkv, d);
  });
  return y;
}

/** Rotates the first `rotaryDims` columns of queries and keys in `qkv`, in place; the tables are [positions, rotaryDims/2]. */
export function rope(
  tape: Tape,
  qkv: Tensor,
  positions: Tensor,
  tables: { cos: Tensor; sin: Tensor },
  h: Heads & { rotaryDims: number },
): Tensor {
  const [tokens, width] = qkv.shape;
  const shape = {
    tokens,
    ld: rowStride(width),
    heads: h.heads + h.kvHeads,
    rotaryDims: h.rotaryDims,
    headStride: padded(h.headDim),
  };
  tape.push(ropeKernel(tape.profile, { x: qkv, positions, ...tables }, shape, false));
  const rotated = tape.tensor("rope", qkv.shape, { sharedWith: qkv });
  tape.record("rope", rotated, [qkv], (d) => {
    tape.push(ropeKernel(tape.profile, { x: d, positions, ...tables }, shape, true));
    tape.pass(qkv, d);
  });
  return rotated;
}

/** What the queries of a packed batch see: query i the keys starts[i] … i, key j is seen by the queries j … ends[j] − 1. */
export interface View {
  starts: Tensor;
  ends: Tensor;
}

/** The view of a sliding window: what `view` lets a query see, of that the last `window` tokens. */
export function slidingWindow(tape: Tape, { starts, ends }: View, window: number): View {
  const [tokens] = starts.shape;
  const vector = (label: string) => tape.tensor(label, [tokens], { dtype: "u32" });
  const narrowStarts = vector("window starts"), narrowEnds = vector("window ends");
  tape.push(narrow(tape.profile, { starts, ends, narrowStarts, narrowEnds }, { tokens, window }));
  return { starts: narrowStarts, ends: narrowEnds };
}

/** How attention weighs: factor and soft cap of the scores. */
export interface Scores {
  scale: number;
  softCap?: number;
}

/** Causal attention inside documents. Output [tokens, heads·padded(headDim)]. */
export function attention(
  tape: Tape,
  qkv: Tensor,
  { starts, ends }: View,
  { heads, kvHeads, headDim }: Heads,
  { scale, softCap }: Scores,
): Tensor {
  const [tokens] = qkv.shape;
  const out = tape.tensor("attention", [tokens, heads * padded(headDim)]);
  const lse = tape.tensor("attention lse", [heads * tokens]);
  const shape = { tokens, heads, kvHeads, headDim, scale, softCap };
  tape.push(attentionKernel(tape.profile, { qkv, starts, out, lse }, shape));
  tape.record("attention", out, [qkv], (dout) => {
    const delta = tape.tensor("attention delta", [heads * tokens]);
    tape.contributeOverwriting(
      qkv,
      (dqkv) =>
        tape.push(
          ...attentionBackward(tape.profile, { qkv, starts, ends, out, lse, dout, delta, dqkv }, shape),
        ),
    );
  });
  return out;
}

/** Gated: x [rows, 2·padded(cols)] = [gate | up] → [rows, cols]; others: [rows, cols] → [rows, cols]. */
export function activation(tape: Tape, kind: Activation, x: Tensor, cols: number): Tensor {
  const [rows] = x.shape;
  const y = tape.tensor(kind, [rows, cols]);
  tape.push(activationKernel(tape.profile, kind, { x, y }, { rows, cols }));
  tape.record(kind, y, [x], (dy) => {
    tape.contributeOverwriting(
      x,
      (dx) => tape.push(activationBackward(tape.profile, kind, { x, dy, dx }, { rows, cols })),
    );
  });
  return y;
}
