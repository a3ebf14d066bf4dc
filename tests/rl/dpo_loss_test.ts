/** DPO's losses and their derivatives against TRL's, against differences, and where they have closed forms. */
import assert from "node:assert/strict";
import { divergenceScore, F_DIVERGENCES } from "../../src/rl/divergence.ts";
import {
  answerLogprobs,
  DPO_LOSS_TYPES,
  dpoLoss,
  type DpoLossOptions,
  type DpoLossType,
  dpoProblem,
  type PreferencePair,
} from "../../src/rl/dpo_loss.ts";
import { SCORE_TYPES } from "../../src/rl/dpo_terms.ts";
import {
  checkDifferences,
  checkGradient,
  checkLoss,
  checkMetrics,
  randomAnswers,
  recordedLosses,
  used,
} from "./preference_losses.ts";

interface Config {
  loss_type: DpoLossType[];
  loss_weights?: number[];
  beta: number;
  label_smoothing?: number;
  f_divergence_type?: DpoLossOptions["fDivergenceType"];
  f_alpha_divergence_coef?: number;
  ld_alpha?: number;
  use_weighting?: boolean;
  discopop_tau?: number;
}

const PAIRS = 6, TIME = 11;

const TRL_DEFAULTS: DpoLossOptions = {
  lossType: ["sigmoid"],
  beta: 0.1,
  labelSmoothing: 0,
  discopopTau: 0.05,
  fDivergenceType: "reverse_kl",
  fAlphaDivergenceCoef: 0.5,
  useWeighting: false,
  ipoLengthNormalization: true,
};

const { cases, tensors } = recordedLosses<Config>("losses_dpo");
const mask = tensors.readIntegers("in/mask");

/** Numbers of the tokens that count, of the chosen answers and then of the rejected ones. */
function answersOf(name: string): Float64Array[] {
  const all = tensors.read(name);
  return Array.from(
    { length: 2 * PAIRS },
    (_, row) =>
      Float64Array.from(all.subarray(row * TIME, (row + 1) * TIME)).filter((_, t) => mask[row * TIME + t]),
  );
}

/** Pairs of answers, chosen ones first, with references of as many tokens. */
function pairsOf(
  answers: Float64Array[],
  refs: Float64Array[],
  ldAlpha?: number,
  squares?: Float64Array[],
): PreferencePair[] {
  const half = answers.length / 2;
  return answers.slice(0, half).map((chosen, i) => ({
    chosen,
    rejected: answers[half + i],
    ref: answerLogprobs(refs[i], refs[half + i], ldAlpha),
    ...(squares && { logSumSquares: { chosen: squares[i], rejected: squares[half + i] } }),
  }));
}

Deno.test("DPO's losses, gradients and metrics are TRL's in all 95 recorded cases", () => {
  const logps = answersOf("in/logps"),
    refs = answersOf("in/ref_logps"),
    squares = answersOf("in/log_sum_sq_probs");
  assert.ok(logps.some(({ length }) => length === 0), "an answer without tokens is among them");
  for (const { id, config: c, loss, metrics } of cases) {
    const options: DpoLossOptions = {
      ...TRL_DEFAULTS,
      lossType: c.loss_type,
      beta: c.beta,
      ...(c.loss_weights && { lossWeights: c.loss_weights }),
      ...(c.label_smoothing !== undefined && { labelSmoothing: c.label_smoothing }),
      ...(c.f_divergence_type && { fDivergenceType: c.f_divergence_type }),
      ...(c.f_alpha_divergence_coef && { fAlphaDivergenceCoef: c.f_alpha_divergence_coef }),
      ...(c.ld_alpha !== undefined && { ldAlpha: c.ld_alpha }),
      ...(c.use_weighting && { useWeighting: true }),
      ...(c.discopop_tau && { discopopTau: c.discopop_tau }),
    };
    assert.equal(dpoProblem(options), undefined, id);
    const got = dpoLoss(pairsOf(logps, refs, c.ld_alpha, squares), options);
    checkLoss(id, got.loss, loss);
    const want = tensors.read(`${id}/grad/logps`).filter((_, i) => mask[i]);
    checkGradient(id, got.dLogprobs.flatMap((row) => Array.from(row)), want);
    checkMetrics(id, got.metrics, metrics, [
      "entropy",
      "logits/chosen",
      "logits/rejected",
      "mean_token_accuracy",
    ]);
  }
  assert.equal(cases.length, 95);
  assert.deepEqual(
    [...new Set(cases.flatMap(({ config }) => config.loss_type)), "cdpo"].sort(),
    [...DPO_LOSS_TYPES].sort(),
  );
  console.log("shares of the tolerances:", used);
});

Deno.test("derivatives of every loss type and divergence are those of differences, on pairs of any lengths", () => {
  for (const type of DPO_LOSS_TYPES) {
    for (const divergence of F_DIVERGENCES) {
      const options = {
        ...TRL_DEFAULTS,
        lossType: [type],
        beta: 0.3,
        labelSmoothing: 0.07,
        discopopTau: 0.4,
        fDivergenceType: divergence,
        fAlphaDivergenceCoef: 0.3,
        ldAlpha: 0.6,
      };
      if (dpoProblem(options)) continue;
      const refs = randomAnswers(8, 10), answers = randomAnswers(9, 10);
      checkDifferences(`${type}, ${divergence}`, answers, (all) => dpoLoss(pairsOf(all, refs, 0.6), options));
    }
  }
});

Deno.test("derivatives of weighted and summed losses are those of differences where the weights are constants", () => {
  const refs = randomAnswers(3, 8), answers = randomAnswers(4, 8);
  const options = {
    ...TRL_DEFAULTS,
    lossType: ["ipo", "hinge", "sft"] as DpoLossType[],
    lossWeights: [0.3, 1.7, 0.2],
    ipoLengthNormalization: false,
  };
  checkDifferences("a sum", answers, (all) => dpoLoss(pairsOf(all, refs), options));
  const weighted = { ...TRL_DEFAULTS, useWeighting: true };
  // Squares that move with the log-probabilities keep the weights as they are.
  checkDifferences("weighted", answers, (all) => {
    const squares = all.map((row, i) => row.map((x, t) => x - answers[i][t] - 0.1 * (t + 1)));
    return dpoLoss(pairsOf(all, refs, 1, squares), weighted);
  });
});

Deno.test("with the policy at the reference, the losses are those of a margin of 0", () => {
  const refs = randomAnswers(5, 6), pairs = pairsOf(refs, refs);
  const lossOf = (type: DpoLossType, more: Partial<DpoLossOptions> = {}) =>
    dpoLoss(pairs, { ...TRL_DEFAULTS, lossType: [type], ...more }).loss;
  for (const type of ["sigmoid", "cdpo", "robust", "sigmoid_norm", "aot", "aot_unpaired"] as const) {
    assert.ok(Math.abs(lossOf(type, { labelSmoothing: 0.2 }) - Math.LN2) < 1e-12, type);
  }
  for (const normalised of [true, false]) {
    assert.ok(Math.abs(lossOf("ipo", { ipoLengthNormalization: normalised, beta: 0.5 }) - 1) < 1e-12);
  }
  assert.ok(Math.abs(lossOf("hinge") - 1) < 1e-12);
  assert.ok(Math.abs(lossOf("sppo_hard", { beta: 0.5 }) - 2) < 1e-12);
});

Deno.test("IPO without normalisation is the square of whole sequences' difference", () => {
  const pair: PreferencePair = {
    chosen: Float64Array.of(-1, -2, -3),
    rejected: Float64Array.of(-4),
    ref: { chosen: -7, rejected: -3 },
  };
  const of = (ipoLengthNormalization: boolean) =>
    dpoLoss([pair], { ...TRL_DEFAULTS, lossType: ["ipo"], beta: 0.25, ipoLengthNormalization }).loss;
  assert.equal(of(false), (1 + 1 - 2) ** 2);
  assert.ok(Math.abs(of(true) - (1 / 3 + 1 - 2) ** 2) < 1e-12);
});

Deno.test("label smoothing is read by the types that TRL reads it in, and by cdpo", () => {
  const refs = randomAnswers(6, 6), pairs = pairsOf(randomAnswers(7, 6), refs);
  const reads = DPO_LOSS_TYPES.filter((type) => {
    const of = (labelSmoothing: number) =>
      dpoLoss(pairs, { ...TRL_DEFAULTS, lossType: [type], labelSmoothing }).loss;
    return of(0.1) !== of(0.2);
  });
  assert.deepEqual(reads.sort(), ["aot", "aot_unpaired", "cdpo", "exo_pair", "robust"]);
});

Deno.test("choices that cannot be meant are refused with a reason", () => {
  const problem = (more: Partial<DpoLossOptions>) => dpoProblem({ ...TRL_DEFAULTS, ...more }) ?? "";
  assert.equal(problem({}), "");
  assert.match(problem({ lossType: ["sigmoid", "aot"], fDivergenceType: "forward_kl" }), /aot/);
  for (const type of [...SCORE_TYPES, "sft"] as DpoLossType[]) {
    assert.equal(
      problem({ lossType: [type], fDivergenceType: "js_divergence", labelSmoothing: 0.1 }),
      "",
      type,
    );
  }
  assert.match(problem({ lossType: ["exo_pair"] }), /above 0/);
  assert.match(problem({ lossType: ["robust"], labelSmoothing: 0.5 }), /below 0.5; got 0.5/);
  assert.match(problem({ lossType: ["sigmoid", "sft"], lossWeights: [1] }), /1 numbers for 2/);
  assert.match(problem({ lossType: ["aot"], useWeighting: true }), /one by one/);
  assert.throws(
    () => dpoLoss(pairsOf(randomAnswers(1, 2), randomAnswers(1, 2)), { ...TRL_DEFAULTS, useWeighting: true }),
    /ln Σ π²/,
  );
});

Deno.test("the alpha divergence is constant beyond an exponent of 80, and the reverse KL in its limit", () => {
  const most = Math.expm1(80);
  assert.deepEqual(divergenceScore("alpha_divergence", 81, 2), { value: most, slope: 0 });
  assert.deepEqual(divergenceScore("alpha_divergence", -200, 0.5), { value: most / -0.5, slope: 0 });
  assert.deepEqual(divergenceScore("alpha_divergence", 79, 2), {
    value: Math.expm1(79),
    slope: Math.exp(79),
  });
  assert.deepEqual(divergenceScore("alpha_divergence", 0.7, 1 + 1e-7), { value: 0.7, slope: 1 });
});

Deno.test("losses and derivatives stay finite for log-ratios far apart", () => {
  for (const type of DPO_LOSS_TYPES) {
    for (const x of [-300, 300]) {
      const pair = {
        chosen: Float64Array.of(x - 310),
        rejected: Float64Array.of(-310),
        ref: { chosen: -310, rejected: -310 },
      };
      const options = { ...TRL_DEFAULTS, lossType: [type], labelSmoothing: 0.1 };
      const { loss, dLogprobs } = dpoLoss([pair], options);
      assert.ok(Number.isFinite(loss), `${type} of ${x} is ${loss}`);
      assert.ok(dLogprobs.every((row) => row.every(Number.isFinite)), `${type} of ${x}: ${dLogprobs}`);
    }
  }
});
