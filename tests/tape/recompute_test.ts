/** Checkpointed blocks: the same gradients, bit for bit, for less memory and one more forward pass. */
import assert from "node:assert/strict";
import { readFloats, slice, upload } from "../../src/gpu/buffers.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { activation, attention, norm } from "../../src/tape/ops/block.ts";
import { linear } from "../../src/tape/ops/linear.ts";
import { compile } from "../../src/tape/plan.ts";
import { Tape, type Tensor } from "../../src/tape/tape.ts";
import { random, testOnProfiles } from "../kernels/helpers.ts";
import { weightedTotal } from "./gradients.ts";

const TOKENS = 64, WIDTH = 16, INNER = 64;
const HEADS = { heads: 2, kvHeads: 1, headDim: 8 };
const QKV = (HEADS.heads + 2 * HEADS.kvHeads) * HEADS.headDim;
const SIZES = {
  gain: [WIDTH],
  qkv: [QKV, WIDTH],
  o: [WIDTH, WIDTH],
  up: [INNER, WIDTH],
  down: [WIDTH, INNER],
};
/** Floats of a weight, rounded up so that the next one may be bound. */
const roomOf = (shape: number[]) => Math.ceil(shape.reduce((a, b) => a * b) / 64) * 64;
/** Floats of a block's weights. */
const FLOATS = Object.values(SIZES).reduce((total, shape) => total + roomOf(shape), 0);

/** Gradients and memory of `layers` transformer blocks; `trained: false` freezes all but the first. */
async function train(gpu: Gpu, layers: number, checkpointed: boolean, trained = true) {
  const tape = new Tape(gpu.profile);
  const weights = upload(gpu, random(layers).floats(layers * FLOATS).map((w) => 0.5 * w));
  const gradients = upload(gpu, new Float32Array(layers * FLOATS));
  const index = Uint32Array.from({ length: TOKENS }, (_, i) => i);
  const starts = tape.external("starts", [TOKENS], upload(gpu, index.map((i) => i < 40 ? 0 : 40)));
  const ends = tape.external("ends", [TOKENS], upload(gpu, index.map((i) => i < 40 ? 40 : TOKENS)));

  const block = (x: Tensor, layer: number): Tensor => {
    let at = layer * FLOATS;
    const parameter = (name: keyof typeof SIZES) => {
      const shape = SIZES[name], size = roomOf(shape);
      const window = (of: typeof weights) => slice(of, at * 4, size * 4);
      const out = tape.external(
        name,
        shape,
        window(weights),
        trained || layer === 0 ? window(gradients) : undefined,
      );
      at += size;
      return out;
    };
    const gain = parameter("gain");
    const qkv = linear(tape, norm(tape, x, gain, { eps: 1e-5 }), parameter("qkv"));
    const attended = attention(tape, qkv, { starts, ends }, HEADS, { scale: 1 / Math.sqrt(HEADS.headDim) });
    const middle = linear(tape, attended, parameter("o"), { residual: x });
    const inner = activation(
      tape,
      "gelu",
      linear(tape, norm(tape, middle, gain, { eps: 1e-5 }), parameter("up")),
      INNER,
    );
    return linear(tape, inner, parameter("down"), { residual: middle });
  };
  let x: Tensor = tape.input("x", [TOKENS, WIDTH]);
  for (let layer = 0; layer < layers; layer++) {
    const before = x;
    x = checkpointed ? tape.checkpoint(`block ${layer}`, () => block(before, layer)) : block(before, layer);
  }
  const loss = weightedTotal(tape, x, tape.input("weights", x.shape));
  tape.output("loss", loss);
  tape.backward(loss, tape.input("one", [1]));
  const plan = compile({ gpu }, tape);
  const { floats } = random(7);
  const x0 = floats(TOKENS * WIDTH), w = floats(TOKENS * WIDTH);
  const out = await plan.run({ x: x0, weights: w, one: new Float32Array([1]) });
  return {
    loss: out.loss[0],
    gradients: await readFloats(gpu, gradients),
    bytes: plan.bytes,
    launches: plan.launches,
  };
}

testOnProfiles("a checkpointed block has the gradients of a plain one, bit for bit", async (gpu) => {
  for (const trained of [true, false]) {
    const plain = await train(gpu, 3, false, trained), again = await train(gpu, 3, true, trained);
    assert.equal(again.loss, plain.loss);
    assert.deepEqual(again.gradients, plain.gradients);
    assert.ok(plain.gradients.some((g) => g !== 0));
    assert.ok(again.launches > plain.launches);
  }
});

testOnProfiles(
  "activation memory grows by one tensor per checkpointed layer, not by a block",
  async (gpu) => {
    const growth = async (checkpointed: boolean) =>
      ((await train(gpu, 10, checkpointed)).bytes - (await train(gpu, 4, checkpointed)).bytes) / 6;
    const tensor = TOKENS * WIDTH * 4;
    const plain = await growth(false), checkpointed = await growth(true);
    assert.ok(plain > 8 * tensor, `a plain layer keeps ${plain} bytes`);
    assert.ok(
      checkpointed <= 1.3 * tensor,
      `a checkpointed layer keeps ${checkpointed} bytes, its output ${tensor}`,
    );
    const total = { plain: (await train(gpu, 10, false)).bytes, less: (await train(gpu, 10, true)).bytes };
    assert.ok(total.less < 0.4 * total.plain, JSON.stringify(total));
  },
);

Deno.test("a block without parameters is recorded as it is", () => {
  const tape = new Tape({ kind: "cpu", lanes: 8 });
  const x = tape.input("x", [8, 8]), weight = tape.input("w", [8, 8]);
  const y = tape.checkpoint("frozen", () => linear(tape, x, weight));
  assert.equal(y.differentiable, false);
  assert.equal(tape.launches.length, 1);
});
