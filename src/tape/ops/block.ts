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
import { padded, rowStride } from "../../../kernels/kernel.ts";
import { norm as normKernel, normBackward, type NormKind } from "../../../kernels/norm.ts";
import { rope as ropeKernel } from "../../../kernels/rope.ts";
import type { Tape, Tensor } from "../tape.ts";

/**
 * Rows of `table` [vocab, cols] by id: [tokens, cols]. `order` lists the tokens sorted by id and is needed for a gradient.
 */
export function embedding(tape: Tape, table: Tensor, ids: Tensor, order?: Tensor): Tensor {
  const [tokens] = ids.shape, [vocab, cols] = table.shape;
  const y = tape.tensor("embedding", [tokens, cols]);
  const shape = { tokens, vocab, cols };
  tape.push(embeddingKernel(tape.profile, { ids, table, y }, shape));
  tape.record("embedding", y, [table], (dy) => {
    if (!order) throw new Error("An embedding with a gradient needs the tokens' order by id.");
    tape.push(embeddingBackward(tape.profile, { ids, order, dy, dtable: table.gradient! }, shape));
  });
  return y;
}

/** RMSNorm or LayerNorm over the rows of x [rows, cols]; weight and bias [cols]. */
export function norm(
  tape: Tape,
  x: Tensor,
  weight: Tensor,
  { kind = "rms", eps, bias }: { kind?: NormKind; eps: number; bias?: Tensor },
): Tensor {
  const [rows, cols] = x.shape;
  const y = tape.tensor("norm", [rows, cols]);
  const stats = tape.tensor("norm stats", [kind === "rms" ? rows : 2 * rows]);
  const shape = { kind, rows, cols, eps };
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

/** Rotates queries and keys of `qkv` in place; the tables are [positions, headDim/2]. */
export function rope(
  tape: Tape,
  qkv: Tensor,
  positions: Tensor,
  tables: { cos: Tensor; sin: Tensor },
  h: Heads,
): Tensor {
  const [tokens, width] = qkv.shape;
  const shape = {
    tokens,
    ld: rowStride(width),
    heads: h.heads + h.kvHeads,
    headDim: h.headDim,
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

/** Causal attention inside documents: query i sees keys starts[i] … i. Output [tokens, heads·padded(headDim)]. */
export function attention(tape: Tape, qkv: Tensor, starts: Tensor, ends: Tensor, h: Heads): Tensor {
  const [tokens] = qkv.shape;
  const out = tape.tensor("attention", [tokens, h.heads * padded(h.headDim)]);
  const lse = tape.tensor("attention lse", [h.heads * tokens]);
  const shape = { tokens, ...h, scale: 1 / Math.sqrt(h.headDim) };
  tape.push(attentionKernel(tape.profile, { qkv, starts, out, lse }, shape));
  tape.record("attention", out, [qkv], (dout) => {
    const delta = tape.tensor("attention delta", [h.heads * tokens]);
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

/** swiglu: x [rows, 2·padded(cols)] = [gate | up] → [rows, cols]; gelu: [rows, cols] → [rows, cols]. */
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
