/** Log-probabilities, entropy and exact KL through the output head, in one chunk and in several, against float64. */
import assert from "node:assert/strict";
import { readFloats, upload } from "../../../src/gpu/buffers.ts";
import type { Gpu } from "../../../src/gpu/device.ts";
import { add, multiply, square } from "../../../src/tape/ops/elementwise.ts";
import { exactKl, logProb } from "../../../src/tape/ops/log_prob.ts";
import { compile } from "../../../src/tape/plan.ts";
import { Tape } from "../../../src/tape/tape.ts";
import { random, relativeError, testOnProfiles } from "../../kernels/helpers.ts";
import {
  checkOperation,
  type HostTensor,
  logical,
  physical,
  poisonedWorkspace,
  uniform,
  weightedTotal,
} from "../gradients.ts";

/** ln softmax(hidden · headᵀ / temperature), [tokens][vocab], in float64. */
function logSoftmax(
  hidden: ArrayLike<number>,
  head: ArrayLike<number>,
  [tokens, vocab, width]: number[],
  temperature: number,
  softCap?: number,
): Float64Array[] {
  return Array.from({ length: tokens }, (_, t) => {
    const z = Float64Array.from({ length: vocab }, (_, v) => {
      let sum = 0;
      for (let c = 0; c < width; c++) sum += hidden[t * width + c] * head[v * width + c];
      return (softCap === undefined ? sum : softCap * Math.tanh(sum / softCap)) / temperature;
    });
    const top = z.reduce((a, b) => Math.max(a, b));
    const lse = top + Math.log(z.reduce((a, x) => a + Math.exp(x - top), 0));
    return z.map((x) => x - lse);
  });
}

const entropyOf = (row: Float64Array) => -row.reduce((sum, l) => sum + Math.exp(l) * l, 0);

testOnProfiles("log-probability and entropy have the right values and gradients", async (gpu) => {
  const tokens = 9, vocab = 13, width = 6, size = [tokens, vocab, width];
  const { below } = random(3);
  const targets = Array.from({ length: tokens }, () => below(vocab));
  for (const temperature of [1, 0.7]) {
    const parameters = { hidden: uniform(1, [tokens, width], 2), head: uniform(2, [vocab, width], 2) };
    const constants = {
      targets: { shape: [tokens], values: targets, integers: true },
      scale: uniform(4, [tokens]),
    };
    await checkOperation(gpu, `log-probability and entropy at ${temperature}`, {
      parameters,
      constants,
      record: (tape, { hidden, head, targets, scale }) => {
        const { logprob, entropy } = logProb(tape, hidden, { parts: [head] }, targets, temperature);
        return add(tape, logprob, multiply(tape, entropy, scale));
      },
      reference: ({ hidden, head }) =>
        logSoftmax(hidden, head, size, temperature).map((row, t) =>
          row[targets[t]] + entropyOf(row) * constants.scale.values[t]
        ),
      tolerance: 1e-5,
    });
    await checkOperation(gpu, `entropy alone at ${temperature}`, {
      parameters,
      constants,
      // The square makes the gradient of the hidden states one that is overwritten.
      record: (tape, { hidden, head, targets }) =>
        logProb(tape, square(tape, hidden), { parts: [head] }, targets, temperature).entropy,
      reference: ({ hidden, head }) =>
        logSoftmax(hidden.map((x) => x * x), head, size, temperature).map(entropyOf),
      tolerance: 1e-5,
    });
    const other = { hidden: uniform(5, [tokens, width], 2), head: uniform(6, [vocab, width], 2) };
    const q = logSoftmax(other.hidden.values, other.head.values, size, temperature);
    await checkOperation(gpu, `exact KL at ${temperature}`, {
      parameters,
      constants: { targets: constants.targets, hiddenQ: other.hidden, headQ: other.head },
      record: (tape, { hidden, head, targets, hiddenQ, headQ }) => {
        const p = logProb(tape, hidden, { parts: [head] }, targets, temperature);
        const q = logProb(tape, hiddenQ, { parts: [headQ] }, targets, temperature);
        const ofP = { hidden, head: { parts: [head] }, lse: p.lse };
        return exactKl(tape, ofP, { hidden: hiddenQ, head: { parts: [headQ] }, lse: q.lse }, temperature);
      },
      reference: ({ hidden, head }) =>
        logSoftmax(hidden, head, size, temperature).map((row, t) =>
          row.reduce((sum, l, v) => sum + Math.exp(l) * (l - q[t][v]), 0)
        ),
      tolerance: 1e-5,
    });
  }
});

testOnProfiles(
  "a head in parts, under a soft cap or not, has the right values and gradients",
  async (gpu) => {
    const tokens = 9, width = 6, counts = [8, 4, 3], vocab = 15, size = [tokens, vocab, width];
    const { below } = random(4), targets = Array.from({ length: tokens }, () => below(vocab));
    const hidden = uniform(1, [tokens, width], 2), scale = uniform(4, [tokens]);
    const parts = Object.fromEntries(
      counts.map((count, i) => [`head${i}`, uniform(30 + i, [count, width], 2)]),
    );
    const other = { hidden: uniform(5, [tokens, width], 2), head: uniform(6, [vocab, width], 2) };
    const constants = {
      targets: { shape: [tokens], values: targets, integers: true },
      scale,
      hiddenQ: other.hidden,
      headQ: other.head,
    };
    // Logits reach four times the lower cap.
    for (const [softCap, temperature] of [[undefined, 1], [3, 1], [3, 0.7], [30, 1]] as const) {
      const name = `a head in parts, cap ${softCap}, temperature ${temperature}`;
      const logits = (values: Record<string, Float64Array>) => {
        const { hidden, ...heads } = values;
        return logSoftmax(
          hidden,
          Object.values(heads).flatMap((part) => [...part]),
          size,
          temperature,
          softCap,
        );
      };
      await checkOperation<string, string>(gpu, name, {
        parameters: { hidden, ...parts },
        constants,
        record: (tape, { hidden, targets, scale, head0, head1, head2 }) => {
          const head = { parts: [head0, head1, head2], softCap };
          // The square makes the gradient of the hidden states one that is overwritten, and by the first part only.
          const { logprob, entropy } = logProb(tape, square(tape, hidden), head, targets, temperature);
          return add(tape, logprob, multiply(tape, entropy, scale));
        },
        reference: ({ hidden, ...heads }) =>
          logits({ hidden: hidden.map((x) => x * x), ...heads }).map((row, t) =>
            row[targets[t]] + entropyOf(row) * scale.values[t]
          ),
        tolerance: 1e-5,
      });
      const q = logSoftmax(other.hidden.values, other.head.values, size, temperature, softCap);
      await checkOperation<string, string>(gpu, `${name}, exact KL`, {
        parameters: { hidden, ...parts },
        constants,
        record: (tape, { hidden, targets, hiddenQ, headQ, head0, head1, head2 }) => {
          const head = { parts: [head0, head1, head2], softCap }, other = { parts: [headQ], softCap };
          const p = logProb(tape, hidden, head, targets, temperature);
          const q = logProb(tape, hiddenQ, other, targets, temperature);
          return exactKl(
            tape,
            { hidden, head, lse: p.lse },
            { hidden: hiddenQ, head: other, lse: q.lse },
            temperature,
          );
        },
        reference: (values) =>
          logits(values).map((row, t) => row.reduce((sum, l, v) => sum + Math.exp(l) * (l - q[t][v]), 0)),
        tolerance: 1e-5,
      });
    }
  },
);

/** Runs Σ weights · ln p(target) and returns its gradients. */
async function gradients(
  gpu: Gpu,
  hidden: HostTensor,
  head: HostTensor,
  targets: Uint32Array,
  weights: HostTensor,
): Promise<{ logprob: Float32Array; hidden: Float32Array; head: Float32Array }> {
  const tape = new Tape(gpu.profile);
  const memory = (t: HostTensor) => upload(gpu, physical(t));
  const zeros = (t: HostTensor) => upload(gpu, physical({ ...t, values: Array.from(t.values, () => 0) }));
  const dhidden = zeros(hidden), dhead = zeros(head);
  const { logprob } = logProb(
    tape,
    tape.external("hidden", hidden.shape, memory(hidden), dhidden),
    { parts: [tape.external("head", head.shape, memory(head), dhead)] },
    tape.external("targets", [targets.length], upload(gpu, targets), undefined),
  );
  tape.output("logprob", logprob);
  const loss = weightedTotal(tape, logprob, tape.external("weights", weights.shape, memory(weights)));
  tape.backward(loss, tape.input("one", [1]));
  const out = await compile(poisonedWorkspace(gpu), tape).run({ one: new Float32Array([1]) });
  return {
    logprob: out.logprob.slice(0, targets.length),
    hidden: logical(await readFloats(gpu, dhidden), hidden.shape),
    head: logical(await readFloats(gpu, dhead), head.shape),
  };
}

testOnProfiles("a vocabulary too large for one chunk has the same numbers", async (gpu) => {
  const tokens = 70, vocab = 20_001, width = 5;
  const { below } = random(9);
  const hidden = uniform(7, [tokens, width], 2), head = uniform(8, [vocab, width], 2);
  const weights = uniform(9, [tokens]);
  const targets = Uint32Array.from({ length: tokens }, () => below(vocab));
  const got = await gradients(gpu, hidden, head, targets, weights);
  const logp = logSoftmax(hidden.values, head.values, [tokens, vocab, width], 1);
  const dhidden = new Float64Array(tokens * width), dhead = new Float64Array(vocab * width);
  logp.forEach((row, t) =>
    row.forEach((l, v) => {
      const d = weights.values[t] * ((v === targets[t] ? 1 : 0) - Math.exp(l));
      for (let c = 0; c < width; c++) {
        dhidden[t * width + c] += d * head.values[v * width + c];
        dhead[v * width + c] += d * hidden.values[t * width + c];
      }
    })
  );
  assert.ok(relativeError(got.logprob, logp.map((row, t) => row[targets[t]])) < 1e-6);
  assert.ok(relativeError(got.hidden, dhidden) < 1e-5);
  assert.ok(relativeError(got.head, dhead) < 1e-5);
});
