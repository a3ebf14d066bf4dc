/**
 * A decoder's block, the same for training, scoring, prefill and decoding: all but how attention finds its keys, which differs
 * with a cache. What differs between families is decided here.
 *
 * @module
 */
import { isGated } from "../../kernels/activation.ts";
import { activation, embedding, headNorm, norm } from "../tape/ops/block.ts";
import { add } from "../tape/ops/elementwise.ts";
import { linear } from "../tape/ops/linear.ts";
import { adaptedLinear } from "../tape/ops/lora.ts";
import type { Tape, Tensor } from "../tape/tape.ts";
import type { Model } from "./decoder.ts";
import { FAMILIES } from "./families.ts";
import { slotParts, slotTensor } from "./params.ts";

/** What is looked up, each [tokens]; the orders sort the tokens by id and by position, and are needed for gradients. */
export interface EmbeddedTokens {
  ids: Tensor;
  positions: Tensor;
  order?: Tensor;
  positionOrder?: Tensor;
}

/** The operations of one model on one tape. */
export interface BlockOps {
  /** The residual stream [tokens, width] before the first layer. */
  embed(tokens: EmbeddedTokens): Tensor;
  /** A norm of the residual stream. */
  norm(x: Tensor, label: string): Tensor;
  /** Layer `layer`: `attend` turns queries, keys and values [tokens, (heads + 2·kv)·stride] into [tokens, heads·stride]. */
  block(layer: number, x: Tensor, attend: (qkv: Tensor) => Tensor): Tensor;
}

/** How the operations are recorded. */
export interface BlockOptions {
  /** Records no gradients for this model's weights. */
  frozen?: boolean;
  /** Key of the random numbers of adapters' dropout, [2] u32; none for no dropout. */
  dropoutKey?: Tensor;
}

/** The weight `label`, the adapter's own where it is trained whole. */
export function weightOf(tape: Tape, { params, adapter }: Model, label: string, frozen = false): Tensor {
  if (adapter?.params.layout.slots.has(label)) return slotTensor(tape, adapter.params, label, frozen);
  return slotTensor(tape, params, label, frozen);
}

/** The same in as many parts as it takes to bind each at once. */
export function weightParts(tape: Tape, { params, adapter }: Model, label: string, frozen = false): Tensor[] {
  if (adapter?.params.layout.slots.has(label)) return slotParts(tape, adapter.params, label, frozen);
  return slotParts(tape, params, label, frozen);
}

/** The operations of `model` on `tape`. */
export function blockOps(tape: Tape, model: Model, { frozen, dropoutKey }: BlockOptions = {}): BlockOps {
  const { config, adapter } = model;
  const traits = FAMILIES[config.family];
  const weight = (label: string) => weightOf(tape, model, label, frozen);
  const kind = traits.norm, plusOne = traits.normPlusOne;

  const embed: BlockOps["embed"] = ({ ids, positions, order, positionOrder }) => {
    const scale = traits.scaledEmbedding ? Math.fround(Math.sqrt(config.hiddenSize)) : 1;
    const tokens = embedding(tape, weightParts(tape, model, "embed", frozen), ids, { order, scale });
    if (!traits.learnedPositions) return tokens;
    return add(tape, tokens, embedding(tape, weight("positions"), positions, { order: positionOrder }));
  };
  const norm_: BlockOps["norm"] = (x, label) =>
    norm(tape, x, weight(label), {
      kind,
      plusOne,
      eps: config.normEps,
      ...(kind === "layer" && { bias: weight(`${label}_bias`) }),
    });
  const project = (label: string, x: Tensor, bias: boolean, residual?: Tensor): Tensor => {
    const added = {
      label: label.replace(/^\d+\./, ""),
      residual,
      ...(bias && { bias: weight(`${label}_bias`) }),
    };
    const targets = adapter?.targets.get(label);
    const matrix = weightParts(tape, model, label, frozen);
    if (!targets) return linear(tape, x, matrix, added);
    const part = (label: string) => slotTensor(tape, adapter!.params, label, frozen);
    const adapters = targets.map(({ a, b, magnitude, ...rest }) => ({
      ...rest,
      a: part(a),
      b: part(b),
      ...(magnitude && { magnitude: part(magnitude) }),
    }));
    const rate = adapter!.config.loraDropout;
    const drop = dropoutKey && rate > 0 ? { rate, key: dropoutKey } : undefined;
    return adaptedLinear(tape, x, matrix, adapters, added, drop);
  };
  /** `label`'s projection of `x` is added to `to`, normed before where the family does that. */
  const addTo = (to: Tensor, label: string, x: Tensor, bias: boolean, postNorm: string): Tensor => {
    if (!traits.postNorms) return project(label, x, bias, to);
    return add(tape, to, norm_(project(label, x, bias), postNorm));
  };

  const block: BlockOps["block"] = (layer, x, attend) => {
    const { biases } = config;
    const at = (label: string) => `${layer}.${label}`;
    let qkv = project(at("qkv"), norm_(x, at("attn_norm")), biases.qkv);
    if (traits.headNorms) {
      qkv = headNorm(tape, qkv, weight(at("q_norm")), weight(at("k_norm")), {
        ...config,
        eps: config.normEps,
      });
    }
    const middle = addTo(x, at("o"), attend(qkv), biases.out, at("post_attn_norm"));
    const normed = norm_(config.parallelResidual ? x : middle, at("mlp_norm"));
    const up = project(at(isGated(config.activation) ? "gate_up" : "up"), normed, biases.mlp);
    const inner = activation(tape, config.activation, up, config.intermediateSize); // [tokens, inner]
    return addTo(middle, at("down"), inner, biases.mlp, at("post_mlp_norm"));
  };
  return { embed, norm: norm_, block };
}
