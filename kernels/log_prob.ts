/**
 * Log-probabilities, entropies and Kullback–Leibler divergences over rows of logits, and the most likely token.
 *
 * `logits` [rows, vocab] is a chunk of tokens; with z = invTemperature · logits and p = softmax(z):
 *
 *   lse = log Σ exp(z)    logprob = z[target] − lse    entropy = lse − Σ p z        (nats)
 *   kl  = Σ p (log p − log q)
 *
 * Vectors are [tokens], and row r belongs to token `first` + r; targets are u32 below vocab. Columns past the vocabulary are
 * ignored, and written as zero by the backward kernels, which replace logits by their gradient in place.
 *
 * @module
 */
import { cachedKernel, type Launch, type Profile, repeat } from "./kernel.ts";
import {
  largest,
  type LogitsShape,
  type VocabLayout,
  vocabLayout,
  vocabUniforms,
  vocabUniformValues,
} from "./vocab_rows.ts";

export type { LogitsShape } from "./vocab_rows.ts";

/** A chunk of logits and the inverse of the temperature they are divided by. */
export interface LogProbShape extends LogitsShape {
  invTemperature: number;
}

const uniforms: Record<string, "u32" | "f32"> = { ...vocabUniforms, invTemperature: "f32" };

function uniformValues(shape: LogProbShape): Record<string, number> {
  return { ...vocabUniformValues(shape), invTemperature: shape.invTemperature };
}

/** Parts of a kernel that every kernel of a layout has. */
const common = ({ workgroup, module, needs }: VocabLayout) => ({ workgroup, module, needs, uniforms });

/** Far below any logit and above {@linkcode MASKED}, which therefore weighs exactly nothing. */
const START = "-1e30";
const MASKED = "vec4f(-2e30)";

// Inside the kernels logarithms are to base 2, because 2ˣ is cheaper than eˣ.
const LOG2E = "1.4426950408889634";
const LN2 = "0.6931471805599453";

/**
 * Overwrites logprob, entropy and lse at first … first + rows − 1, and `correct` where it is given: 1 if no logit is larger
 * than the target's, else 0. One pass (arXiv 1805.02867).
 */
export function logProbForward<B>(
  profile: Profile,
  buffers: { logits: B; targets: B; logprob: B; entropy: B; lse: B; correct?: B },
  shape: LogProbShape,
): Launch<B> {
  const layout = vocabLayout(profile, shape.vocab);
  const graded = buffers.correct !== undefined;
  const outputs = ["logprob", "entropy", "lse", ...(graded ? ["correct"] : [])];
  const kernel = cachedKernel(`log_prob_${graded ? "graded_" : ""}${layout.name}`, () => ({
    ...common(layout),
    storage: {
      logits: "vec4f",
      targets: "u32",
      ...Object.fromEntries(outputs.map((name) => [name, "f32"])),
    },
    writes: outputs,
    // sum = Σ 2^(z − most), slope = Σ 2^(z − most)·(z − most); both are rescaled when `most` grows.
    body: `
  ${layout.begin}
  let scale = u.invTemperature * ${LOG2E};
  var most = ${START}; var sum = vec4f(); var slope = vec4f();
  ${
      layout.walk((count, index, inside) => {
        const z = (i: number) => `logits[base + ${index(i)}] * scale`;
        return `${
          repeat(count, (i) => `let z${i} = ${inside ? `select(${MASKED}, ${z(i)}, ${inside})` : z(i)};`, " ")
        }
    let top = max(most, ${largest(count, (i) => `z${i}`)});
    let keep = exp2(most - top);
    slope = keep * fma(sum, vec4f(most - top), slope); sum = keep * sum; most = top;
    ${
          repeat(
            count,
            (i) => `{ let d = z${i} - top; let e = exp2(d); sum += e; slope = fma(e, d, slope); }`,
            "\n    ",
          )
        }`;
      })
    }
  let top = ${layout.max("most")};
  let keep = exp2(most - top);
  slope = keep * fma(sum, vec4f(most - top), slope); sum = keep * sum;
  let allSum = ${layout.sum("sum.x + sum.y + sum.z + sum.w")};
  let allSlope = ${layout.sum("slope.x + slope.y + slope.z + slope.w")};
  if (${layout.leader}) {
    let logSum = log2(allSum);
    let wanted = targets[token];
    let z = logits[base + wanted / 4u] * scale;
    let chosen = select(select(z.x, z.y, (wanted & 3u) == 1u), select(z.z, z.w, (wanted & 3u) == 3u), (wanted & 3u) >= 2u);
    logprob[token] = ${LN2} * ((chosen - top) - logSum);
    entropy[token] = ${LN2} * (logSum - allSlope / allSum);
    lse[token] = ${LN2} * (top + logSum);
    ${graded ? "correct[token] = select(0.0, 1.0, chosen >= top);" : ""}
  }`,
  }));
  return {
    kernel,
    buffers: buffers as unknown as Record<string, B>,
    uniforms: uniformValues(shape),
    grid: layout.grid(shape.rows),
  };
}

/** In the place of the log-probability of a token that was drawn just now; none is above 0. */
export const NOT_YET = 1;

/**
 * Overwrites {@linkcode NOT_YET} in logprobs [rows, most] at each row's last token, with the bits that {@linkcode logProbForward}
 * has for that token. `tokens` and `counts`, how many each row has, are [rows].
 */
export function logProbDrawn<B>(
  profile: Profile,
  buffers: { logits: B; tokens: B; counts: B; logprobs: B },
  { rows, vocab, most, invTemperature }: {
    rows: number;
    vocab: number;
    most: number;
    invTemperature: number;
  },
): Launch<B> {
  const layout = vocabLayout(profile, vocab);
  const kernel = cachedKernel(`log_prob_drawn_${layout.name}`, () => ({
    ...common(layout),
    uniforms: { ...uniforms, most: "u32" },
    storage: { logits: "vec4f", tokens: "u32", counts: "u32", logprobs: "f32" },
    writes: ["logprobs"],
    // The sums of logProbForward in the same order, without the entropy's.
    body: `
  ${layout.begin}
  let scale = u.invTemperature * ${LOG2E};
  var most = ${START}; var sum = vec4f();
  ${
      layout.walk((count, index, inside) => {
        const z = (i: number) => `logits[base + ${index(i)}] * scale`;
        return `${
          repeat(count, (i) => `let z${i} = ${inside ? `select(${MASKED}, ${z(i)}, ${inside})` : z(i)};`, " ")
        }
    let top = max(most, ${largest(count, (i) => `z${i}`)});
    sum = exp2(most - top) * sum; most = top;
    ${repeat(count, (i) => `sum += exp2(z${i} - top);`, " ")}`;
      })
    }
  let top = ${layout.max("most")};
  sum = exp2(most - top) * sum;
  let allSum = ${layout.sum("sum.x + sum.y + sum.z + sum.w")};
  let at = token * u.most + max(counts[token], 1u) - 1u;
  if (${layout.leader} && logprobs[at] == ${NOT_YET}.0) {
    let wanted = tokens[token];
    let z = logits[base + wanted / 4u] * scale;
    let chosen = select(select(z.x, z.y, (wanted & 3u) == 1u), select(z.z, z.w, (wanted & 3u) == 3u), (wanted & 3u) >= 2u);
    logprobs[at] = ${LN2} * ((chosen - top) - log2(allSum));
  }`,
  }));
  return {
    kernel,
    buffers: buffers as unknown as Record<string, B>,
    uniforms: { ...uniformValues({ rows, vocab, first: 0, invTemperature }), most },
    grid: layout.grid(rows),
  };
}

/**
 * logits = d loss / d logits = invTemperature · (dlogprob · (1[v = target] − p) − dentropy · p (log p + entropy)).
 */
export function logProbBackward<B>(
  profile: Profile,
  buffers: { logits: B; targets: B; lse: B; entropy: B; dlogprob: B; dentropy: B },
  shape: LogProbShape,
): Launch<B> {
  const layout = vocabLayout(profile, shape.vocab);
  const kernel = cachedKernel(`log_prob_backward_${layout.name}`, () => ({
    ...common(layout),
    storage: {
      logits: "vec4f",
      targets: "u32",
      lse: "f32",
      entropy: "f32",
      dlogprob: "f32",
      dentropy: "f32",
    },
    writes: ["logits"],
    body: `
  ${layout.begin}
  let wanted = targets[token];
  let scale = u.invTemperature * ${LOG2E};
  let logSum = lse[token] * ${LOG2E};
  let byLogprob = dlogprob[token] * u.invTemperature;
  let byEntropy = dentropy[token] * u.invTemperature;
  let constant = fma(byEntropy, entropy[token], byLogprob);
  let slope = byEntropy * ${LN2};
  ${
      layout.walk((count, index, inside) =>
        repeat(count, (i) => {
          const value = "hit - exp2(logp) * fma(vec4f(slope), logp, vec4f(constant))";
          return `{ let logp = logits[base + ${index(i)}] * scale - logSum;
      let hit = select(vec4f(), vec4f(byLogprob), vec4u(4u * ${
            index(i)
          }) + vec4u(0u, 1u, 2u, 3u) == vec4u(wanted));
      logits[base + ${index(i)}] = ${inside ? `select(vec4f(), ${value}, ${inside})` : value}; }`;
        }, "\n    ")
      )
    }`,
  }));
  return { kernel, buffers, uniforms: uniformValues(shape), grid: layout.grid(shape.rows) };
}

/**
 * Overwrites kl with KL(P‖Q) of two chunks of logits, whose log-sum-exps are known. Sums p (log p − log q) − p + q, which is the
 * same, never negative, and to first order free of the rounding of the log-sum-exps.
 */
export function klForward<B>(
  profile: Profile,
  buffers: { p: B; q: B; lseP: B; lseQ: B; kl: B },
  shape: LogProbShape,
): Launch<B> {
  const layout = vocabLayout(profile, shape.vocab);
  const kernel = cachedKernel(`kl_${layout.name}`, () => ({
    ...common(layout),
    storage: { p: "vec4f", q: "vec4f", lseP: "f32", lseQ: "f32", kl: "f32" },
    writes: ["kl"],
    body: `
  ${layout.begin}
  let scale = u.invTemperature * ${LOG2E};
  let logSumP = lseP[token] * ${LOG2E};
  let logSumQ = lseQ[token] * ${LOG2E};
  var sum = vec4f();
  ${
      layout.walk((count, index, inside) =>
        repeat(count, (i) => {
          const term = `exp2(logP) * (${LN2} * (logP - logQ) - 1.0) + exp2(logQ)`;
          return `{ let logP = p[base + ${index(i)}] * scale - logSumP;
      let logQ = q[base + ${index(i)}] * scale - logSumQ;
      sum += ${inside ? `select(vec4f(), ${term}, ${inside})` : term}; }`;
        }, "\n    ")
      )
    }
  let all = ${layout.sum("sum.x + sum.y + sum.z + sum.w")};
  if (${layout.leader}) { kl[token] = max(all, 0.0); }`,
  }));
  return { kernel, buffers, uniforms: uniformValues(shape), grid: layout.grid(shape.rows) };
}

/** p = d loss / d p = invTemperature · dkl · P ((log P − log Q) − kl). */
export function klBackward<B>(
  profile: Profile,
  buffers: { p: B; q: B; lseP: B; lseQ: B; kl: B; dkl: B },
  shape: LogProbShape,
): Launch<B> {
  const layout = vocabLayout(profile, shape.vocab);
  const kernel = cachedKernel(`kl_backward_${layout.name}`, () => ({
    ...common(layout),
    storage: { p: "vec4f", q: "vec4f", lseP: "f32", lseQ: "f32", kl: "f32", dkl: "f32" },
    writes: ["p"],
    body: `
  ${layout.begin}
  let scale = u.invTemperature * ${LOG2E};
  let logSumP = lseP[token] * ${LOG2E};
  let logSumQ = lseQ[token] * ${LOG2E};
  let mean = kl[token];
  let factor = dkl[token] * u.invTemperature;
  ${
      layout.walk((count, index, inside) =>
        repeat(count, (i) => {
          const value = `factor * exp2(logP) * (${LN2} * (logP - logQ) - mean)`;
          return `{ let logP = p[base + ${index(i)}] * scale - logSumP;
      let logQ = q[base + ${index(i)}] * scale - logSumQ;
      p[base + ${index(i)}] = ${inside ? `select(vec4f(), ${value}, ${inside})` : value}; }`;
        }, "\n    ")
      )
    }`,
  }));
  return { kernel, buffers, uniforms: uniformValues(shape), grid: layout.grid(shape.rows) };
}

/**
 * Overwrites logSumSquares with ln Σ p² and meanLogit with the mean of the logits themselves, of a chunk whose log-sum-exps are
 * known. Neither has a gradient.
 */
export function logitStatistics<B>(
  profile: Profile,
  buffers: { logits: B; lse: B; logSumSquares: B; meanLogit: B },
  shape: LogProbShape,
): Launch<B> {
  const layout = vocabLayout(profile, shape.vocab);
  const kernel = cachedKernel(`logit_statistics_${layout.name}`, () => ({
    ...common(layout),
    storage: { logits: "vec4f", lse: "f32", logSumSquares: "f32", meanLogit: "f32" },
    writes: ["logSumSquares", "meanLogit"],
    body: `
  ${layout.begin}
  let scale = 2.0 * u.invTemperature * ${LOG2E};
  let logSum = 2.0 * lse[token] * ${LOG2E};
  var squares = vec4f(); var total = vec4f();
  ${
      layout.walk((count, index, inside) =>
        repeat(count, (i) => {
          const z = `logits[base + ${index(i)}]`;
          return `{ let z = ${inside ? `select(${MASKED}, ${z}, ${inside})` : z};
      squares += exp2(z * scale - logSum); total += ${inside ? `select(vec4f(), z, ${inside})` : "z"}; }`;
        }, "\n    ")
      )
    }
  let allSquares = ${layout.sum("squares.x + squares.y + squares.z + squares.w")};
  let all = ${layout.sum("total.x + total.y + total.z + total.w")};
  if (${layout.leader}) {
    logSumSquares[token] = ${LN2} * log2(allSquares);
    meanLogit[token] = all / f32(u.vocab);
  }`,
  }));
  return { kernel, buffers, uniforms: uniformValues(shape), grid: layout.grid(shape.rows) };
}

/** out [first + r] (u32) = index of the largest logit of row r, the lowest one of several. */
export function argmaxRows<B>(
  profile: Profile,
  buffers: { logits: B; out: B },
  shape: LogitsShape,
): Launch<B> {
  const layout = vocabLayout(profile, shape.vocab);
  const kernel = cachedKernel(`argmax_${layout.name}`, () => ({
    ...common(layout),
    uniforms: vocabUniforms,
    storage: { logits: "vec4f", out: "u32" },
    writes: ["out"],
    // Each invocation keeps its first vec4 with the largest value; which component it is, is settled at the end.
    body: `
  ${layout.begin}
  var most = -3.4e38; var place = 0u;
  ${
      layout.walk((count, index, inside) =>
        repeat(count, (i) => {
          const v = `logits[base + ${index(i)}]`;
          return `{ let v = ${inside ? `select(vec4f(-3.4e38), ${v}, ${inside})` : v}; let top = ${
            largest(1, () => "v")
          };
      if (top > most) { most = top; place = ${index(i)}; } }`;
        }, "\n    ")
      )
    }
  let top = ${layout.max("most")};
  let quad = ${layout.min("select(0xffffffffu, place, most == top)")};
  if (${layout.leader}) {
    let v = logits[base + quad];
    out[token] = 4u * quad + select(select(select(3u, 2u, v.z == top), 1u, v.y == top), 0u, v.x == top);
  }`,
  }));
  return { kernel, buffers, uniforms: vocabUniformValues(shape), grid: layout.grid(shape.rows) };
}
