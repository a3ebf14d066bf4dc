/**
 * Drawing the next token of each row from its logits, and advancing the row's decoding state on the GPU.
 *
 * Temperature, then top-k, then top-p (arXiv 1904.09751), as Hugging Face orders them; ties at the cut are all kept. The
 * token is found by inverting the cumulative distribution at one Philox number keyed by (seed, stream) and counted by
 * (sample, token index), so it does not depend on the other rows. Temperature 0 takes the largest logit, the lowest index
 * where several are equal.
 *
 * Reads logits [rows, vocab] and updates, for rows not done: tokens, positions (+1), counts (+1), done, out [rows, most] and
 * logprobs [rows, most] (log-probability under the full distribution at this temperature, with the bits that scoring has).
 *
 * @module
 */
import { cachedKernel, type Launch, LINEAR_GROUP, linearGrid, type Profile, rowStride } from "./kernel.ts";
import { logProbDrawn, NOT_YET } from "./log_prob.ts";
import { PHILOX } from "./philox.ts";

/** How tokens are drawn. */
export interface Sampling {
  /** 0 for greedy. */
  temperature: number;
  /** Keep the k largest; 0 keeps all. */
  topK: number;
  /** Keep the smallest set of at least this mass; 1 keeps all. */
  topP: number;
  /** Tokens that end a row; at most four. */
  stopIds: number[];
}

/** Decoding state of the rows, each [rows] unless said otherwise. */
export interface SamplingBuffers<B> {
  logits: B;
  tokens: B;
  positions: B;
  counts: B;
  done: B;
  /** [2 + rows]: seed, stream, then the number that identifies each row's sample. */
  random: B;
  /** [rows, most]. */
  out: B;
  /** [rows, most]. */
  logprobs: B;
}

const NO_TOKEN = 0xffffffff;

// One thread per row on the cpu profile; on the gpu profile a workgroup whose threads own contiguous chunks of the row.
const THREADS = { cpu: 1, gpu: 64 };

/** Draws one token per row. `most`: tokens a row may have. */
export function sampleTokens<B>(
  profile: Profile,
  buffers: SamplingBuffers<B>,
  { rows, vocab, most }: { rows: number; vocab: number; most: number },
  sampling: Sampling,
): Launch<B>[] {
  if (sampling.stopIds.length > 4) {
    throw new Error(`At most four stop tokens; got ${sampling.stopIds.length}.`);
  }
  const threads = THREADS[profile.kind];
  const cuts = sampling.topK > 0 || sampling.topP < 1;
  const greedy = sampling.temperature === 0;
  const workgroup = threads === 1 ? profile.lanes : threads;
  const kernel = cachedKernel(`sample_${greedy ? "greedy" : cuts ? "cut" : "full"}_${profile.kind}`, () => ({
    storage: {
      logits: "f32",
      tokens: "u32",
      positions: "u32",
      counts: "u32",
      done: "u32",
      random: "u32",
      out: "u32",
      logprobs: "f32",
    },
    writes: ["tokens", "positions", "counts", "done", "out", "logprobs"],
    uniforms: {
      rows: "u32",
      vocab: "u32",
      ld: "u32",
      most: "u32",
      inverse: "f32",
      topK: "u32",
      topP: "f32",
      stop0: "u32",
      stop1: "u32",
      stop2: "u32",
      stop3: "u32",
    },
    workgroup,
    module: `${PHILOX}\n${threads === 1 ? "" : SHARED}${ORDERED}`,
    body: `
  let row = ${threads === 1 ? `${LINEAR_GROUP} * ${profile.lanes}u + lane` : LINEAR_GROUP};
  if (row >= u.rows) { return; }
  let base = row * u.ld;
  ${
      threads === 1
        ? "let first = 0u;\n  let last = u.vocab;"
        : `let chunk = (u.vocab + ${threads - 1}u) / ${threads}u;
  let first = min(lane * chunk, u.vocab);
  let last = min(first + chunk, u.vocab);`
    }
  var largest = -3.0e38;
  for (var i = first; i < last; i++) { largest = max(largest, logits[base + i]); }
  ${threads === 1 ? "let top = largest;" : "let top = rowMax(lane, largest);"}
  let inverse = u.inverse;
  ${greedy ? "let cut = orderedBits(top);\n  let kept = 0.0;" : cuts ? findCut(threads) : noCut(threads)}
  ${threads === 1 ? "" : "sums[lane] = kept;\n  workgroupBarrier();\n  if (lane != 0u) { return; }"}
  if (done[row] != 0u) { return; }
  let count = counts[row];
  ${
      greedy
        ? "let goal = -1.0;"
        : "let draw = philox(vec4u(random[2u + row], count, 0u, 0u), vec2u(random[0], random[1]));\n  let goal = unitFloat(draw.x) * total;"
    }
  var chosen = 0u;
  var sofar = 0.0;
  var begin = 0u;
  ${
      threads === 1 || greedy ? "" : `for (var t = 0u; t < ${threads - 1}u; t++) {
    if (sofar + sums[t] > goal) { break; }
    sofar += sums[t];
    begin = min((t + 1u) * chunk, u.vocab);
  }`
    }
  for (var i = begin; i < u.vocab; i++) {
    let z = logits[base + i];
    if (orderedBits(z) < cut) { continue; }
    chosen = i;
    sofar += exp((z - top) * inverse);
    if (sofar > goal) { break; }
  }
  let at = row * u.most + count;
  out[at] = chosen;
  logprobs[at] = ${NOT_YET}.0;
  tokens[row] = chosen;
  positions[row] += 1u;
  counts[row] = count + 1u;
  let stops = chosen == u.stop0 || chosen == u.stop1 || chosen == u.stop2 || chosen == u.stop3;
  done[row] = select(0u, 1u, stops || count + 1u >= u.most);`,
  }));
  const stop = (i: number) => sampling.stopIds[i] ?? NO_TOKEN,
    inverse = greedy ? 1 : 1 / sampling.temperature;
  const drawn: Launch<B> = {
    kernel,
    buffers: buffers as unknown as Record<string, B>,
    uniforms: {
      rows,
      vocab,
      ld: rowStride(vocab),
      most,
      inverse,
      topK: sampling.topK > 0 ? Math.min(sampling.topK, vocab) : vocab,
      topP: sampling.topP,
      stop0: stop(0),
      stop1: stop(1),
      stop2: stop(2),
      stop3: stop(3),
    },
    grid: linearGrid(threads === 1 ? Math.ceil(rows / profile.lanes) : rows),
  };
  return [drawn, logProbDrawn(profile, buffers, { rows, vocab, most, invTemperature: inverse })];
}

// Maps floats to integers of the same order, so that a cut can be found by bisection over bits.
const ORDERED = `fn orderedBits(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  return select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u);
}`;

/** Keeps every token. */
function noCut(threads: number): string {
  return `let cut = 0u;
  var kept = 0.0;
  for (var i = first; i < last; i++) { kept += exp((logits[base + i] - top) * inverse); }
  let total = ${threads === 1 ? "kept" : "rowSum(lane, kept)"};`;
}

/** The largest cut that keeps at least k tokens, raised to the largest that keeps the mass topP of those. */
function findCut(threads: number): string {
  const combined = (value: string) => threads === 1 ? value : `rowSum(lane, ${value})`;
  return `var cut = 0u;
  for (var bit = 0x80000000u; bit > 0u; bit = bit >> 1u) {
    let tried = cut | bit;
    var number = 0.0;
    for (var i = first; i < last; i++) { number += select(0.0, 1.0, orderedBits(logits[base + i]) >= tried); }
    if (${combined("number")} >= f32(u.topK)) { cut = tried; }
  }
  let byCount = cut;
  var massByCount = 0.0;
  for (var i = first; i < last; i++) {
    let z = logits[base + i];
    massByCount += select(0.0, exp((z - top) * inverse), orderedBits(z) >= byCount);
  }
  let wanted = u.topP * ${combined("massByCount")};
  cut = 0u;
  for (var bit = 0x80000000u; bit > 0u; bit = bit >> 1u) {
    let tried = max(cut | bit, byCount);
    var part = 0.0;
    for (var i = first; i < last; i++) {
      let z = logits[base + i];
      part += select(0.0, exp((z - top) * inverse), orderedBits(z) >= tried);
    }
    if (${combined("part")} >= wanted) { cut = cut | bit; }
  }
  cut = max(cut, byCount);
  var kept = 0.0;
  for (var i = first; i < last; i++) {
    let z = logits[base + i];
    kept += select(0.0, exp((z - top) * inverse), orderedBits(z) >= cut);
  }
  let total = ${combined("kept")};`;
}

const SHARED = `var<workgroup> sums: array<f32, 64>;
fn rowSum(lane: u32, value: f32) -> f32 {
  workgroupBarrier();
  sums[lane] = value;
  workgroupBarrier();
  for (var width = 32u; width > 0u; width = width / 2u) {
    if (lane < width) { sums[lane] = sums[lane] + sums[lane + width]; }
    workgroupBarrier();
  }
  let result = sums[0];
  workgroupBarrier();
  return result;
}
fn rowMax(lane: u32, value: f32) -> f32 {
  workgroupBarrier();
  sums[lane] = value;
  workgroupBarrier();
  for (var width = 32u; width > 0u; width = width / 2u) {
    if (lane < width) { sums[lane] = max(sums[lane], sums[lane + width]); }
    workgroupBarrier();
  }
  let result = sums[0];
  workgroupBarrier();
  return result;
}
`;
