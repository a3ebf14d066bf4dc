import assert from "node:assert/strict";
import { padded, rowStride } from "../../kernels/kernel.ts";
import {
  argmaxRows,
  klBackward,
  klForward,
  logitStatistics,
  logProbBackward,
  logProbDrawn,
  logProbForward,
  NOT_YET,
} from "../../kernels/log_prob.ts";
import { readFloats, readWords, upload } from "../../src/gpu/buffers.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { runOnce } from "../../src/gpu/run.ts";
import { random, relativeError, stored, testOnProfiles } from "./helpers.ts";

const VOCABULARIES = [5, 209, 331, 1024, 4096, 5000];
const FIRST = 3;

/** softmax of one row in float64. */
function softmax(row: Float32Array, invTemperature: number) {
  const z = Float64Array.from(row, (x) => x * invTemperature);
  const top = z.reduce((a, b) => Math.max(a, b));
  const lse = top + Math.log(z.reduce((a, x) => a + Math.exp(x - top), 0));
  const logp = z.map((x) => x - lse);
  const entropy = -logp.reduce((a, x) => a + Math.exp(x) * x, 0);
  return { logp, lse, entropy };
}

interface Chunk {
  rows: number;
  vocab: number;
  first: number;
  invTemperature: number;
}

const rowOf = (values: Float32Array, r: number, vocab: number) => values.subarray(r * vocab, (r + 1) * vocab);

/** Largest difference; infinite when `got` has a NaN. */
function largestError(got: ArrayLike<number>, want: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < want.length; i++) {
    if (!Number.isFinite(got[i])) return Infinity;
    most = Math.max(most, Math.abs(got[i] - want[i]));
  }
  return most;
}

async function checkLogProb(gpu: Gpu, shape: Chunk, spread: number): Promise<void> {
  const { rows, vocab, first, invTemperature } = shape;
  const name = `${JSON.stringify(shape)} ±${spread}`;
  const { floats, below } = random(rows * 17 + vocab);
  const tokens = first + rows + 2;
  const logits = floats(rows * vocab).map((x) => spread * x);
  const targets = Uint32Array.from({ length: tokens }, () => below(vocab));
  const dlogprob = floats(tokens), dentropy = floats(tokens);
  const ignored = () => upload(gpu, new Float32Array(tokens).fill(7));
  const buffers = {
    logits: upload(gpu, stored(logits, rows, vocab)),
    targets: upload(gpu, targets),
    logprob: ignored(),
    entropy: ignored(),
    lse: ignored(),
    logSumSquares: ignored(),
    meanLogit: ignored(),
    dlogprob: upload(gpu, dlogprob),
    dentropy: upload(gpu, dentropy),
  };
  // The columns past the vocabulary hold anything.
  const ld = rowStride(vocab);
  const poisoned = stored(logits, rows, vocab);
  for (let r = 0; r < rows; r++) poisoned.fill(NaN, r * ld + vocab, (r + 1) * ld);
  gpu.device.queue.writeBuffer(buffers.logits.buffer, 0, poisoned);
  const { logits: l, targets: t, logprob, entropy, lse, logSumSquares, meanLogit } = buffers;
  runOnce(gpu, [
    logProbForward(gpu.profile, { logits: l, targets: t, logprob, entropy, lse }, shape),
    logitStatistics(gpu.profile, { logits: l, lse, logSumSquares, meanLogit }, shape),
    logProbBackward(gpu.profile, {
      logits: l,
      targets: t,
      lse,
      entropy,
      dlogprob: buffers.dlogprob,
      dentropy: buffers.dentropy,
    }, shape),
  ]);

  const want = {
    logprob: [] as number[],
    entropy: [] as number[],
    lse: [] as number[],
    logSumSquares: [] as number[],
    meanLogit: [] as number[],
  };
  const gradient: number[] = [];
  for (let r = 0; r < rows; r++) {
    const { logp, lse, entropy } = softmax(rowOf(logits, r, vocab), invTemperature);
    const at = first + r;
    want.logprob.push(logp[targets[at]]);
    want.entropy.push(entropy);
    want.lse.push(lse);
    want.logSumSquares.push(Math.log(logp.reduce((sum, x) => sum + Math.exp(2 * x), 0)));
    want.meanLogit.push(rowOf(logits, r, vocab).reduce((sum, x) => sum + x, 0) / vocab);
    logp.forEach((x, v) => {
      const hit = v === targets[at] ? 1 : 0, p = Math.exp(x);
      gradient.push(invTemperature * (dlogprob[at] * (hit - p) - dentropy[at] * p * (x + entropy)));
    });
  }
  for (const key of ["logprob", "entropy", "lse", "logSumSquares", "meanLogit"] as const) {
    const got = await readFloats(gpu, buffers[key]);
    const error = largestError(got.slice(first, first + rows), want[key]);
    assert.ok(error < 1e-6 * (4 + spread), `${key} is off by ${error} for ${name}`);
    assert.deepEqual([...got.slice(0, first)], Array(first).fill(7));
    assert.equal(got[first + rows], 7);
  }
  const got = await readFloats(gpu, l);
  const inner = gradient.map((_, i) => got[Math.floor(i / vocab) * ld + i % vocab]);
  const error = relativeError(inner, gradient);
  assert.ok(error < 1e-6 * (2 + spread / 4), `the gradient has a relative error of ${error} for ${name}`);
  for (let r = 0; r < rows; r++) {
    assert.ok(
      got.subarray(r * ld + vocab, r * ld + padded(vocab)).every((x) => x === 0),
      `padding is not zero for ${name}`,
    );
  }
  for (const { buffer } of Object.values(buffers)) buffer.destroy();
}

async function checkKl(gpu: Gpu, shape: Chunk, spread: number, distance: number): Promise<void> {
  const { rows, vocab, first, invTemperature } = shape;
  const name = `${JSON.stringify(shape)} ±${spread}`;
  const { floats } = random(rows * 19 + vocab);
  const tokens = first + rows;
  const p = floats(rows * vocab).map((x) => spread * x);
  const noise = floats(rows * vocab);
  const q = p.map((x, i) => x + distance * noise[i]);
  const dkl = floats(tokens);
  const lses = { p: new Float32Array(tokens), q: new Float32Array(tokens) };
  const want: number[] = [], gradient: number[] = [];
  for (let r = 0; r < rows; r++) {
    const P = softmax(rowOf(p, r, vocab), invTemperature), Q = softmax(rowOf(q, r, vocab), invTemperature);
    lses.p[first + r] = P.lse;
    lses.q[first + r] = Q.lse;
    const kl = P.logp.reduce((a, x, v) => a + Math.exp(x) * (x - Q.logp[v]), 0);
    want.push(kl);
    P.logp.forEach((x, v) =>
      gradient.push(invTemperature * dkl[first + r] * Math.exp(x) * (x - Q.logp[v] - kl))
    );
  }
  const buffers = {
    p: upload(gpu, stored(p, rows, vocab)),
    q: upload(gpu, stored(q, rows, vocab)),
    lseP: upload(gpu, lses.p),
    lseQ: upload(gpu, lses.q),
    kl: upload(gpu, new Float32Array(tokens)),
    dkl: upload(gpu, dkl),
  };
  const { p: P, q: Q, lseP, lseQ, kl } = buffers;
  runOnce(gpu, [
    klForward(gpu.profile, { p: P, q: Q, lseP, lseQ, kl }, shape),
    klBackward(gpu.profile, buffers, shape),
  ]);
  const got = (await readFloats(gpu, kl)).slice(first, first + rows);
  const error = largestError(got, want);
  // A log-sum-exp near `spread` is rounded by spread · 2⁻²⁴, and scales the divergence.
  assert.ok(error < 1e-6 * (1 + spread / 8 * Math.max(...want)), `kl is off by ${error} for ${name}`);
  const ld = rowStride(vocab), all = await readFloats(gpu, P);
  const inner = gradient.map((_, i) => all[Math.floor(i / vocab) * ld + i % vocab]);
  assert.ok(
    largestError(inner, gradient) < 1e-6 * (2 + spread) * (1 + distance),
    `the gradient of kl is off for ${name}`,
  );
  for (let r = 0; r < rows; r++) {
    assert.ok(
      all.subarray(r * ld + vocab, r * ld + padded(vocab)).every((x) => x === 0),
      `padding is not zero for ${name}`,
    );
  }
  for (const { buffer } of Object.values(buffers)) buffer.destroy();
}

testOnProfiles("log-probabilities, entropies and their gradient equal float64", async (gpu) => {
  for (const vocab of VOCABULARIES) {
    for (const [spread, invTemperature] of [[5, 1], [5, 1 / 0.7], [80, 1], [80, 1 / 0.7]]) {
      await checkLogProb(gpu, { rows: 13, vocab, first: FIRST, invTemperature }, spread);
    }
  }
});

testOnProfiles("tokens that were drawn have the log-probabilities of scoring, to the bit", async (gpu) => {
  const rows = 13, most = 4;
  for (const vocab of VOCABULARIES) {
    for (const invTemperature of [1, 1 / 0.7]) {
      const { floats, below } = random(vocab), none = (n: number) => upload(gpu, new Float32Array(n));
      const logits = upload(
        gpu,
        stored(floats(rows * vocab).map((x) => 20 * x), rows, vocab, { outside: 99 }),
      );
      const drawn = Uint32Array.from({ length: rows }, () => below(vocab));
      const counts = Uint32Array.from({ length: rows }, () => below(most + 1));
      // Of a row that was done before, the last token's number is there already.
      const fresh = counts.map((count, r) => count > 0 && r % 3 ? 1 : 0);
      const logprobs = new Float32Array(rows * most).fill(-7);
      fresh.forEach((is, r) => {
        if (is) logprobs[r * most + counts[r] - 1] = NOT_YET;
      });
      const buffers = {
        tokens: upload(gpu, drawn),
        counts: upload(gpu, counts),
        logprobs: upload(gpu, logprobs),
      };
      const scored = { targets: buffers.tokens, logprob: none(rows), entropy: none(rows), lse: none(rows) };
      runOnce(gpu, [
        logProbDrawn(gpu.profile, { logits, ...buffers }, { rows, vocab, most, invTemperature }),
        logProbForward(gpu.profile, { logits, ...scored }, { rows, vocab, first: 0, invTemperature }),
      ]);
      const got = await readFloats(gpu, buffers.logprobs), want = await readFloats(gpu, scored.logprob);
      fresh.forEach((is, r) => {
        const row = got.slice(r * most, (r + 1) * most), at = counts[r] - 1;
        if (is) assert.equal(row[at], want[r], `vocabulary ${vocab}, row ${r}`);
        assert.ok(row.every((x, i) => x === -7 || (is && i === at)), `row ${r} is ${row}`);
      });
      assert.ok(fresh.some((is) => is) && fresh.some((is) => !is));
    }
  }
});

testOnProfiles("the exact KL divergence and its gradient equal float64", async (gpu) => {
  for (const vocab of VOCABULARIES) {
    for (const [spread, distance, invTemperature] of [[5, 1, 1], [5, 0.01, 1 / 0.7], [80, 30, 1]]) {
      await checkKl(gpu, { rows: 13, vocab, first: FIRST, invTemperature }, spread, distance);
    }
  }
});

testOnProfiles("the KL divergence of a distribution from itself is zero", async (gpu) => {
  const rows = 3, vocab = 331;
  const logits = random(4).floats(rows * vocab).map((x) => 20 * x);
  const lse = Float32Array.from({ length: rows }, (_, r) => softmax(rowOf(logits, r, vocab), 1).lse);
  const kl = upload(gpu, new Float32Array(rows).fill(7));
  const p = upload(gpu, stored(logits, rows, vocab)), q = upload(gpu, stored(logits, rows, vocab));
  const buffers = { p, q, lseP: upload(gpu, lse), lseQ: upload(gpu, lse), kl };
  runOnce(gpu, [klForward(gpu.profile, buffers, { rows, vocab, first: 0, invTemperature: 1 })]);
  assert.ok((await readFloats(gpu, kl)).slice(0, rows).every((x) => x < 1e-7));
});

testOnProfiles("argmax finds the largest logit, the lowest index of equal ones", async (gpu) => {
  const { floats, below } = random(8);
  for (const vocab of VOCABULARIES) {
    const rows = 21;
    const logits = floats(rows * vocab);
    const want: number[] = [];
    for (let r = 0; r < rows; r++) {
      const row = rowOf(logits, r, vocab);
      for (let twice = 0; twice < r % 3; twice++) row[below(vocab)] = 1.5;
      if (r === 5) row.fill(-4);
      want.push(row.indexOf(row.reduce((a, b) => Math.max(a, b))));
    }
    const buffers = {
      logits: upload(gpu, stored(logits, rows, vocab)),
      out: upload(gpu, new Uint32Array(rows + FIRST)),
    };
    runOnce(gpu, [argmaxRows(gpu.profile, buffers, { rows, vocab, first: FIRST })]);
    assert.deepEqual([...(await readWords(gpu, buffers.out)).slice(FIRST, FIRST + rows)], want);
  }
});

testOnProfiles("a row of logits has the same bits in every batch", async (gpu) => {
  for (const vocab of [331, 5000]) {
    const rows = 11, { floats } = random(vocab);
    const logits = floats(rows * vocab).map((x) => 9 * x);
    const run = async (part: Float32Array, count: number) => {
      const vector = () => upload(gpu, new Float32Array(count));
      const buffers = {
        logits: upload(gpu, stored(part, count, vocab)),
        targets: upload(gpu, new Uint32Array(count)),
        logprob: vector(),
        entropy: vector(),
        lse: vector(),
      };
      runOnce(gpu, [
        logProbForward(gpu.profile, buffers, { rows: count, vocab, first: 0, invTemperature: 1 }),
      ]);
      return (await readFloats(gpu, buffers.entropy)).slice(0, count);
    };
    const all = await run(logits, rows);
    for (const r of [0, 6, 10]) {
      assert.deepEqual(await run(rowOf(logits, r, vocab), 1), all.slice(r, r + 1));
    }
  }
});
