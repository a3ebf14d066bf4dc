/** GPT-2's form in keel's tape: the layout of the weights, a training step, and greedy decoding with a cache. */
import { embedding as embeddingKernel, embeddingBackward } from "../kernels/embedding.ts";
import { padded, rowStride } from "../kernels/kernel.ts";
import { readFloats } from "../src/gpu/buffers.ts";
import type { Gpu } from "../src/gpu/device.ts";
import type { Layout, Slot } from "../src/model/layout.ts";
import {
  type HostTensor,
  makeTrainable,
  type Params,
  slotTensor,
  unpackWeights,
  uploadParams,
} from "../src/model/params.ts";
import { nllLoss } from "../src/rl/losses.ts";
import { activation, attention, embedding, norm as normOp } from "../src/tape/ops/block.ts";
import { linear } from "../src/tape/ops/linear.ts";
import { logProb } from "../src/tape/ops/log_prob.ts";
import { compile, type Plan } from "../src/tape/plan.ts";
import { Tape, type Tensor } from "../src/tape/tape.ts";
import { openOptimizer } from "../src/train/optimizer.ts";
import { ADAM, gpt2Batch, type Gpt2Config, type Gpt2Weight, gpt2Weights, norm } from "./gpt2_data.ts";

/** Every weight in one arena, all of them decayed. */
function layoutOf(weights: Map<string, HostTensor>): Layout {
  const slots = new Map<string, Slot>();
  let count = 0, parameters = 0;
  for (const [label, { shape, data }] of weights) {
    slots.set(label, { label, shape, offset: count, parts: [{ name: label, shape }] });
    const size = shape.length === 2 ? shape[0] * rowStride(shape[1]) : padded(shape[0]);
    count += Math.ceil(size / 64) * 64;
    parameters += data.length;
  }
  return { slots, count, decayEnd: count, parameters };
}

/** GPT-2 stores its matrices [in, out]; keel reads [out, in]. */
function transposed({ shape: [rows, cols], data }: Gpt2Weight): HostTensor {
  const out = new Float32Array(data.length);
  for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) out[c * rows + r] = data[r * cols + c];
  return { shape: [cols, rows], data: out };
}

/** The weights on the GPU. */
export function uploadGpt2(gpu: Gpu, config: Gpt2Config): Params {
  const weights = new Map<string, HostTensor>();
  for (const [name, weight] of gpt2Weights(config)) {
    weights.set(name, name.endsWith(".w") ? transposed(weight) : weight);
  }
  return uploadParams(gpu, layoutOf(weights), (name) => weights.get(name)!);
}

/** What a pass needs beside the weights; `orders` sort tokens by id and by position, for the gradients of the embeddings. */
export interface Gpt2Inputs {
  ids: Tensor;
  positions: Tensor;
  orders?: { ids: Tensor; positions: Tensor };
  attend(layer: number, qkv: Tensor): Tensor;
}

/** x + table[positions] in the memory of x: one launch less than a second embedding and a sum, and two in the gradient. */
function addPositions(tape: Tape, x: Tensor, table: Tensor, positions: Tensor, order?: Tensor): Tensor {
  const [tokens, cols] = x.shape, shape = { tokens, vocab: table.shape[0], cols };
  tape.push(embeddingKernel(tape.profile, { ids: positions, table, y: x }, shape, true));
  const sum = tape.tensor("embedding", x.shape, { sharedWith: x });
  tape.record("positions", sum, [x, table], (dy) => {
    const buffers = { ids: positions, order: order!, dy, dtable: table.gradient! };
    tape.push(embeddingBackward(tape.profile, buffers, shape));
    tape.pass(x, dy);
  });
  return sum;
}

/** Final hidden states [tokens, width]. */
export function gpt2(tape: Tape, config: Gpt2Config, params: Params, inputs: Gpt2Inputs): Tensor {
  const weight = (name: string) => slotTensor(tape, params, name);
  const normed = (x: Tensor, name: string) =>
    normOp(tape, x, weight(`${name}.g`), { kind: "layer", eps: 1e-5, bias: weight(`${name}.b`) });
  const map = (x: Tensor, name: string, residual?: Tensor) =>
    linear(tape, x, weight(`${name}.w`), { bias: weight(`${name}.b`), residual, label: name });
  const tokens = embedding(tape, weight("wte"), inputs.ids, { order: inputs.orders?.ids }); // [tokens, width]
  let x = addPositions(tape, tokens, weight("wpe"), inputs.positions, inputs.orders?.positions);
  for (let layer = 0; layer < config.layers; layer++) {
    const h = `h${layer}`;
    const qkv = map(normed(x, `${h}.ln1`), `${h}.qkv`); // [tokens, 3·width]
    const middle = map(inputs.attend(layer, qkv), `${h}.o`, x);
    const inner = activation(tape, "gelu", map(normed(middle, `${h}.ln2`), `${h}.fc`), config.inner);
    x = map(inner, `${h}.proj`, middle);
  }
  return normed(x, "lnf");
}

/** A training step of keel. */
export interface Gpt2Training {
  plan: Plan;
  /** Forward, backward and AdamW; the loss before the update. */
  step(): Promise<number>;
  /** Norm of each gradient at the present weights. */
  gradientNorms(): Promise<Map<string, number>>;
}

/** Records and compiles the training step of a configuration. */
export function openGpt2Training(gpu: Gpu, config: Gpt2Config): Gpt2Training {
  const { rows, time, width, heads } = config, tokens = rows * time;
  const params = makeTrainable(gpu, uploadGpt2(gpu, config));
  const tape = new Tape(gpu.profile);
  const input = (name: string) => tape.input(name, [tokens], "u32");
  const starts = input("starts"), ends = input("ends");
  const shape = { heads, kvHeads: heads, headDim: width / heads };
  const hidden = gpt2(tape, config, params, {
    ids: input("ids"),
    positions: input("positions"),
    orders: { ids: input("order"), positions: input("positionOrder") },
    attend: (_layer, qkv) =>
      attention(tape, qkv, { starts, ends }, shape, { scale: 1 / Math.sqrt(shape.headDim) }),
  });
  const { logprob } = logProb(tape, hidden, { parts: [slotTensor(tape, params, "wte")] }, input("targets"));
  const loss = nllLoss(tape, logprob, tape.input("weights", [tokens]));
  tape.output("loss", loss);
  tape.backward(loss, tape.input("one", [1]));
  const plan = compile({ gpu }, tape);
  const optimizer = openOptimizer(gpu, params);

  const { ids, next } = gpt2Batch(config);
  const words = (value: (token: number) => number) =>
    Uint32Array.from({ length: tokens }, (_, i) => value(i));
  const sorted = (keys: ArrayLike<number>) =>
    Uint32Array.from([...words((i) => i)].sort((a, b) => keys[a] - keys[b] || a - b));
  const inputs = {
    ids: Uint32Array.from(ids),
    targets: Uint32Array.from(next),
    positions: words((i) => i % time),
    starts: words((i) => i - i % time),
    ends: words((i) => i - i % time + time),
    order: sorted(ids),
    positionOrder: sorted(words((i) => i % time)),
    weights: new Float32Array(tokens).fill(1 / tokens),
    one: new Float32Array([1]),
  };
  const settings = {
    learningRate: config.learningRate,
    adamBeta1: ADAM.beta1,
    adamBeta2: ADAM.beta2,
    adamEpsilon: ADAM.epsilon,
    weightDecay: ADAM.decay,
    maxGradNorm: 0,
  };
  return {
    plan,
    async step() {
      const out = await plan.run(inputs);
      await optimizer.step(settings);
      return out.loss[0];
    },
    async gradientNorms() {
      await plan.run(inputs);
      const gradients = unpackWeights(params.layout, await readFloats(gpu, params.training.gradients));
      optimizer.discard();
      return new Map(Object.entries(gradients).map(([name, { data }]) => [name, norm(data)]));
    },
  };
}
