/** Losses of the host between forward and backward, against the same losses on the tape and against differences. */
import assert from "node:assert/strict";
import { packBatch } from "../../src/data/batches.ts";
import { readFloats, write } from "../../src/gpu/buffers.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { batchInputs, decoder, headOf } from "../../src/model/decoder.ts";
import { loadModel } from "../../src/model/load.ts";
import type { PerToken, TokenLoss } from "../../src/rl/token_loss.ts";
import { nllLoss } from "../../src/rl/losses.ts";
import { logProb } from "../../src/tape/ops/log_prob.ts";
import { planCache } from "../../src/tape/plans.ts";
import { openLearner } from "../../src/train/learner.ts";
import { openPasses, type Sequence, sequenceScorer, type TokenScores } from "../../src/train/policy_pass.ts";
import { packedInputs } from "../../src/train/rollout.ts";
import { golden } from "../assets.ts";
import { random, testOnProfiles } from "../kernels/helpers.ts";
import { documents } from "./small.ts";

/** Ragged sequences, one with an empty completion. */
const SEQUENCES: Sequence[] = documents(4, [11, 5, 17, 8]).map((ids, i) => ({
  prompt: ids.slice(0, [3, 1, 9, 8][i]),
  completion: ids.slice([3, 1, 9, 8][i]),
}));

const shapedLike = (numbers: PerToken, of: (i: number, t: number) => number) =>
  numbers.map((row, i) => row.map((_, t) => of(i, t)));

/** A loss linear in what a pass says, with given derivatives. */
function linearLoss(derivatives: Omit<TokenLoss, "loss" | "metrics">, scores: TokenScores): TokenLoss {
  const product = (a?: PerToken, b?: PerToken) =>
    a && b ? a.reduce((sum, row, i) => sum + row.reduce((s, x, t) => s + x * b[i][t], 0), 0) : 0;
  const loss = product(derivatives.dLogprobs, scores.logprobs) +
    product(derivatives.dEntropies, scores.entropies) + product(derivatives.dKl, scores.kl);
  return { loss, ...derivatives, metrics: {} };
}

/** The same model with other weights, as a reference. */
async function disturbed(gpu: Gpu) {
  const model = loadModel(gpu, golden("models/tiny-llama")), { float } = random(8);
  const values = await readFloats(gpu, model.params.values);
  write(gpu, model.params.values, values.map((x) => x + 0.05 * float()));
  return model;
}

function openTiny(gpu: Gpu) {
  const workspace = { gpu };
  const learner = openLearner(gpu, loadModel(gpu, golden("models/tiny-llama")));
  return { workspace, learner, params: learner.model.params };
}

testOnProfiles(
  "a loss of the host has the gradient of the same loss on the tape, to the bit",
  async (gpu) => {
    const { workspace, learner, params } = openTiny(gpu);
    const packed = packBatch(SEQUENCES.map(({ prompt, completion }) => [...prompt, ...completion]));
    const weights = new Float32Array(packed.tokens), { float } = random(3);
    const derivatives = SEQUENCES.map(({ prompt, completion }, i) =>
      Float64Array.from(completion, (_, t) => {
        const w = Math.fround(float());
        weights[packed.first[i] + prompt.length - 1 + t] = -w;
        return w;
      })
    );
    const plan = planCache(workspace, (tape, tokens: number) => {
      const hidden = decoder(tape, learner.model, batchInputs(tape, tokens));
      const { logprob } = logProb(
        tape,
        hidden,
        headOf(tape, learner.model),
        tape.input("targets", [tokens], "u32"),
      );
      const loss = nllLoss(tape, logprob, tape.input("weights", [tokens]));
      tape.output("loss", loss);
      tape.backward(loss, tape.input("one", [1]));
    });
    const out = await plan(packed.tokens).run({ ...packedInputs(packed), weights, one: Float32Array.of(1) });
    const want = await readFloats(gpu, params.training!.gradients);
    learner.discard();

    const passes = openPasses(workspace, learner.model, { checkpointing: false });
    const { result, pass } = await passes.learn(
      SEQUENCES,
      (scores) => linearLoss({ dLogprobs: derivatives }, scores),
    );
    assert.ok(Math.abs(result.loss - out.loss[0]) < 1e-5);
    assert.deepEqual(await readFloats(gpu, params.training!.gradients), want);
    assert.ok(want.some((x) => x !== 0));

    // What a guard would run again is the same pass.
    learner.discard();
    await pass.plan.run(pass.inputs);
    assert.deepEqual(await readFloats(gpu, params.training!.gradients), want);
    learner.close();
  },
);

testOnProfiles("a model scores with the bits that it learns with, frozen or not", async (gpu) => {
  const { workspace, learner } = openTiny(gpu);
  const reference = await disturbed(gpu);
  const passes = openPasses(workspace, learner.model, { checkpointing: true, exactKlTo: reference });
  const scores = await passes.score(SEQUENCES, 0.7);
  assert.equal(scores.kl!.length, SEQUENCES.length);
  assert.ok(scores.kl!.every((row) => row.every((x) => x > 0)));
  assert.deepEqual(scores.logprobs.map((row) => row.length), [8, 4, 8, 0]);
  let learnt: TokenScores | undefined;
  await passes.learn(SEQUENCES, (seen) => {
    learnt = seen;
    return linearLoss({ dLogprobs: shapedLike(seen.logprobs, () => 1) }, seen);
  }, 0.7);
  assert.deepEqual(learnt, scores);
  // The others of a pass and their number make no difference.
  const scorer = sequenceScorer(workspace, learner.model, { batchSize: 3, reference });
  assert.deepEqual(await scorer(SEQUENCES, 0.7), scores);
  learner.close();
});

testOnProfiles("gradients through log-probabilities, entropies and the exact KL are slopes", async (gpu) => {
  const { workspace, learner, params } = openTiny(gpu);
  const reference = await disturbed(gpu);
  const passes = openPasses(workspace, learner.model, { checkpointing: false, exactKlTo: reference });
  const { float } = random(9), values = await readFloats(gpu, params.values);
  const direction = Float32Array.from(values, () => float());
  for (const name of ["dLogprobs", "dEntropies", "dKl"] as const) {
    const shape = (await passes.score(SEQUENCES)).logprobs;
    const derivatives = {
      dLogprobs: shapedLike(shape, () => 0),
      [name]: shapedLike(shape, (i, t) => 0.3 + 0.1 * i - 0.05 * t),
    };
    learner.discard();
    await passes.learn(SEQUENCES, (scores) => linearLoss(derivatives, scores));
    const gradients = await readFloats(gpu, params.training!.gradients);
    const slope = gradients.reduce((sum, g, i) => sum + g * direction[i], 0);
    const lossAt = async (distance: number) => {
      write(gpu, params.values, values.map((x, i) => x + distance * direction[i]));
      return linearLoss(derivatives, await passes.score(SEQUENCES)).loss;
    };
    const step = 2 ** -10;
    const difference = (await lossAt(step) - await lossAt(-step)) / (2 * step);
    write(gpu, params.values, values);
    assert.ok(
      Math.abs(slope - difference) < 1e-2 * Math.abs(difference) + 1e-2,
      `${name}: ${slope}, ${difference}`,
    );
  }
  learner.close();
}, ["cpu"]);

testOnProfiles("a backward pass whose activations another plan has overwritten is refused", async (gpu) => {
  const { workspace, learner } = openTiny(gpu);
  const passes = openPasses(workspace, learner.model, { checkpointing: false });
  const { pass } = await passes.learn(SEQUENCES, (seen) => linearLoss({ dLogprobs: seen.logprobs }, seen));
  await pass.plan.forward(pass.inputs);
  await passes.score([...SEQUENCES, ...SEQUENCES]);
  assert.throws(() => pass.plan.backward(pass.inputs), /Another plan has run since the forward pass/);
  learner.close();
}, ["cpu"]);

testOnProfiles("an empty prompt is refused", async (gpu) => {
  const { workspace, learner } = openTiny(gpu);
  const passes = openPasses(workspace, learner.model, { checkpointing: false });
  await assert.rejects(passes.score([{ prompt: [], completion: [3] }]), /at least one token before it/);
  learner.close();
}, ["cpu"]);
