import assert from "node:assert/strict";
import { rowStride } from "../../kernels/kernel.ts";
import { sampleTokens, type Sampling } from "../../kernels/sample.ts";
import { philox } from "../../src/random/stream.ts";
import type { Gpu } from "../../src/gpu/device.ts";
import { run, words } from "./launches.ts";
import { random, relativeError, testOnProfiles } from "./helpers.ts";

const SEED = [12345, 678] as const;
const PLAIN: Sampling = { temperature: 1, topK: 0, topP: 1, stopIds: [] };
const GREEDY: Sampling = { ...PLAIN, temperature: 0 };

interface Rows {
  vocab: number;
  /** Logits of each row. */
  logits: ArrayLike<number>[];
  samples?: number[];
  counts?: number[];
  done?: number[];
  most?: number;
  random?: readonly [number, number];
}

/** Draws once for every row. Padding logits are huge, so that drawing one would be seen. */
async function draw(gpu: Gpu, sampling: Sampling, given: Rows) {
  const { vocab, logits, most = 1 } = given;
  const rows = logits.length, ld = rowStride(vocab);
  const stored = new Float32Array(rows * ld).fill(99);
  logits.forEach((row, r) => stored.set(row, r * ld));
  const each = (values: number[] | undefined, usual: (r: number) => number) =>
    Uint32Array.from(logits, (_, r) => values?.[r] ?? usual(r));
  const data = {
    logits: stored,
    tokens: each(undefined, () => 55),
    positions: each(undefined, (r) => 10 + r),
    counts: each(given.counts, () => 0),
    done: each(given.done, () => 0),
    random: new Uint32Array([...given.random ?? SEED, ...each(given.samples, (r) => r)]),
    out: new Uint32Array(rows * most).fill(77),
    logprobs: new Float32Array(rows * most).fill(77),
  };
  const got = await run(gpu, data, (b) => sampleTokens(gpu.profile, b, { rows, vocab, most }, sampling));
  return {
    tokens: [...words(got.tokens)],
    positions: [...words(got.positions)],
    counts: [...words(got.counts)],
    done: [...words(got.done)],
    out: [...words(got.out)],
    logprobs: [...got.logprobs],
  };
}

/** Probabilities after temperature, top-k and top-p, in float64; ties at a cut are kept. */
function distribution(logits: ArrayLike<number>, { temperature, topK, topP }: Sampling): number[] {
  const scaled = Array.from(logits, (z) => z / temperature);
  const top = Math.max(...scaled);
  const weights = scaled.map((z) => Math.exp(z - top));
  const sorted = [...weights].sort((a, b) => b - a);
  let cut = topK > 0 ? sorted[Math.min(topK, sorted.length) - 1] : 0;
  if (topP < 1) {
    const wanted = topP * weights.reduce((sum, w) => sum + (w >= cut ? w : 0), 0);
    let sofar = 0;
    cut = Math.max(cut, sorted.find((w) => (sofar += w) >= wanted)!);
  }
  const kept = weights.map((w) => w >= cut ? w : 0);
  const total = kept.reduce((a, b) => a + b);
  return kept.map((w) => w / total);
}

const HOW: [string, Sampling][] = [
  ["temperature 1", PLAIN],
  ["temperature 0.7", { ...PLAIN, temperature: 0.7 }],
  ["temperature 2.5", { ...PLAIN, temperature: 2.5 }],
  ["top-k 5", { ...PLAIN, topK: 5 }],
  ["top-k past the vocabulary", { ...PLAIN, topK: 1000 }],
  ["top-p 0.8", { ...PLAIN, topP: 0.8 }],
  ["top-p 0.01", { ...PLAIN, topP: 0.01 }],
  ["temperature 1.3, top-k 9 and top-p 0.6", { temperature: 1.3, topK: 9, topP: 0.6, stopIds: [] }],
];

testOnProfiles("draws invert the cumulative distribution at the row's own Philox number", async (gpu) => {
  for (const vocab of [1, 7, 115]) {
    const { floats, below } = random(vocab);
    const logits = Array.from({ length: 40 }, () => floats(vocab).map((z) => 4 * z));
    const samples = logits.map(() => below(2 ** 32)), counts = logits.map(() => below(6));
    for (const [name, sampling] of HOW) {
      const got = await draw(gpu, sampling, { vocab, logits, samples, counts, most: 9 });
      logits.forEach((row, r) => {
        const [word] = philox([SEED[0], SEED[1]], [samples[r], counts[r], 0, 0]);
        const goal = ((word >>> 9) + 0.5) / 2 ** 23;
        const kept = distribution(row, sampling);
        const token = got.tokens[r];
        assert.ok(token < vocab && kept[token] > 0, `${name}: row ${r} drew ${token}, which is cut off`);
        // The interval that the token owns, a little wider where f32 may round across its ends.
        const below = kept.slice(0, token).reduce((a, b) => a + b, 0);
        assert.ok(goal >= below - 1e-5 && goal <= below + kept[token] + 1e-5, `${name}: row ${r}`);
        const whole = distribution(row, { ...sampling, topK: 0, topP: 1 });
        const at = r * 9 + counts[r];
        assert.equal(got.out[at], token);
        assert.ok(Math.abs(got.logprobs[at] - Math.log(whole[token])) < 1e-5, `${name}: logprob of row ${r}`);
      });
    }
  }
});

testOnProfiles("many draws have the distribution of their settings", async (gpu) => {
  const vocab = 23, rows = 800;
  const logits = random(8).floats(vocab).map((z) => 3 * z);
  for (const [name, sampling] of HOW) {
    const got = await draw(gpu, sampling, { vocab, logits: new Array(rows).fill(logits) });
    const want = distribution(logits, sampling);
    const counts = new Array(vocab).fill(0);
    got.tokens.forEach((token) => counts[token]++);
    let chiSquare = 0, cells = 0, rareWant = 0, rareGot = 0;
    want.forEach((p, token) => {
      if (p === 0) assert.equal(counts[token], 0, `${name} drew the token ${token}, which is cut off`);
      if (p * rows >= 5) {
        chiSquare += (counts[token] - p * rows) ** 2 / (p * rows);
        cells++;
      } else [rareWant, rareGot] = [rareWant + p * rows, rareGot + counts[token]];
    });
    if (rareWant > 0) [chiSquare, cells] = [chiSquare + (rareGot - rareWant) ** 2 / rareWant, cells + 1];
    // Beyond this a true sample comes once in a million times; the seed is fixed, so it either always passes or never.
    const freedom = Math.max(1, cells - 1);
    assert.ok(
      chiSquare < freedom + 7 * Math.sqrt(2 * freedom) + 12,
      `${name}: chi-square ${chiSquare}, ${cells} cells`,
    );
  }
});

testOnProfiles("greedy takes the largest logit, the lowest index of equal ones", async (gpu) => {
  const rows = [
    [1, 5, 5, 2, 5, 1, 0],
    [-3, -3, -3, -3, -3, -3, -3],
    [-9, -8, -7, -6, -5, -4, -3.5],
    [1e30, -1e30, 1e30, 0, 0, 0, 0],
    [-1e-30, 0, 1e-30, 1e-30, -5, -5, 1e-31],
  ];
  const got = await draw(gpu, GREEDY, { vocab: 7, logits: rows });
  assert.deepEqual(got.tokens, [1, 0, 6, 0, 2]);
  const { floats } = random(2);
  const many = Array.from({ length: 33 }, () => floats(331));
  const drawn = await draw(gpu, GREEDY, { vocab: 331, logits: many });
  assert.deepEqual(drawn.tokens, many.map((row) => row.indexOf(Math.max(...row))));
  const want = many.map((row, r) => Math.log(distribution(row, PLAIN)[drawn.tokens[r]]));
  assert.ok(relativeError(drawn.logprobs, want) < 1e-6);
});

testOnProfiles("ties at the cut of top-k and top-p are all kept", async (gpu) => {
  const logits = new Array(400).fill([2, 1, 1, 1, 0, -1]);
  for (const sampling of [{ ...PLAIN, topK: 2 }, { ...PLAIN, topP: 0.6 }]) {
    const { tokens } = await draw(gpu, sampling, { vocab: 6, logits });
    assert.deepEqual([...new Set(tokens)].sort(), [0, 1, 2, 3]);
  }
});

testOnProfiles(
  "a row's state advances by one token, ends at a stop token or when it is full",
  async (gpu) => {
    const pick = (token: number) => [0, 1, 2, 3, 4].map((t) => t === token ? 9 : 0);
    const got = await draw(gpu, { ...GREEDY, stopIds: [3, 1] }, {
      vocab: 5,
      logits: [2, 3, 1, 4, 2, 3].map(pick),
      counts: [0, 1, 2, 3, 1, 2],
      done: [0, 0, 0, 0, 1, 1],
      most: 4,
    });
    assert.deepEqual(got.tokens, [2, 3, 1, 4, 55, 55]);
    assert.deepEqual(got.positions, [11, 12, 13, 14, 14, 15]);
    assert.deepEqual(got.counts, [1, 2, 3, 4, 1, 2]);
    assert.deepEqual(got.done, [0, 1, 1, 1, 1, 1]);
    const untouched = [77, 77, 77, 77];
    assert.deepEqual(got.out, [
      ...[2, 77, 77, 77],
      ...[77, 3, 77, 77],
      ...[77, 77, 1, 77],
      ...[77, 77, 77, 4],
      ...untouched,
      ...untouched,
    ]);
    assert.deepEqual(got.logprobs.map((x) => x === 77), got.out.map((x) => x === 77));
  },
);

testOnProfiles("a draw depends on its row's logits and numbers alone", async (gpu) => {
  const vocab = 61, { floats } = random(4);
  const logits = Array.from({ length: 37 }, () => floats(vocab).map((z) => 2 * z));
  const samples = logits.map((_, r) => 1000 + r), counts = logits.map((_, r) => r % 3);
  const bits = (x: number) => new Uint32Array(new Float32Array([x]).buffer)[0];
  for (const [name, sampling] of HOW) {
    const all = await draw(gpu, sampling, { vocab, logits, samples, counts, most: 3 });
    for (const part of [[5], [36, 2, 5, 11], [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]]) {
      const some = await draw(gpu, sampling, {
        vocab,
        logits: part.map((r) => logits[r]),
        samples: part.map((r) => samples[r]),
        counts: part.map((r) => counts[r]),
        most: 3,
      });
      assert.deepEqual(some.tokens, part.map((r) => all.tokens[r]), name);
      part.forEach((r, i) => {
        const at = 3 * i + counts[r], was = 3 * r + counts[r];
        assert.equal(bits(some.logprobs[at]), bits(all.logprobs[was]), `${name}: logprob of row ${r}`);
      });
    }
  }
  const drawn = async (change: Partial<Rows>) =>
    (await draw(gpu, PLAIN, { vocab, logits, samples, counts, most: 3, ...change })).tokens;
  const usual = await drawn({});
  for (
    const change of [{ random: [1, 678] }, { random: [12345, 1] }, { samples: samples.map((s) => s + 500) }, {
      counts: counts.map((c) => (c + 1) % 3),
    }] as Partial<Rows>[]
  ) {
    const same = (await drawn(change)).filter((token, r) => token === usual[r]).length;
    assert.ok(same < 20, `${JSON.stringify(Object.keys(change))} changed ${37 - same} of 37 draws`);
  }
});

Deno.test("more than four stop tokens are refused", () => {
  // deno-lint-ignore no-explicit-any
  const buffers = {} as any;
  assert.throws(
    () =>
      sampleTokens({ kind: "cpu", lanes: 8 }, buffers, { rows: 1, vocab: 8, most: 1 }, {
        ...PLAIN,
        stopIds: [1, 2, 3, 4, 5],
      }),
    /At most four stop tokens; got 5/,
  );
});
