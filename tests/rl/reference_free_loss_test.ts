/** The losses of ORPO, CPO, SimPO and AlphaPO and their derivatives against TRL's and against differences. */
import assert from "node:assert/strict";
import { CPO_LOSS_TYPES, cpoLoss, type CpoLossOptions } from "../../src/rl/cpo_loss.ts";
import { orpoLoss } from "../../src/rl/orpo_loss.ts";
import type { TokenLoss } from "../../src/rl/token_loss.ts";
import {
  checkDifferences,
  checkGradient,
  checkLoss,
  checkMetrics,
  type LossCase,
  randomAnswers,
  recordedLosses,
  used,
} from "./preference_losses.ts";

interface Config {
  alg: "orpo" | "cpo";
  loss_type?: CpoLossOptions["lossType"];
  beta: number;
  label_smoothing?: number;
  cpo_alpha?: number;
  simpo_gamma?: number;
  alpha?: number;
  logps: "avg" | "sum";
  nll: number;
}

const { cases, tensors } = recordedLosses<Config>("losses_orpo_cpo");
const LOGITS = ["logits/chosen", "logits/rejected"];

/** The recorded answers as answers of one token. */
function recorded(how: Config["logps"]) {
  const side = (name: string) =>
    Array.from(tensors.read(`in/${how}_${name}_logps`), (logp) => Float64Array.of(logp));
  const chosen = side("chosen"), rejected = side("rejected");
  return chosen.map((row, i) => ({ chosen: row, promptTokens: 0, rejected: rejected[i] }));
}

/** Compares with a recorded call, where the likelihood was a constant: it and its derivative are taken out and put in. */
function compare({ id, config, loss, metrics }: LossCase<Config>, got: TokenLoss, likelihoodWeight: number) {
  const pairs = recorded(config.logps), count = pairs.length;
  const nll = -pairs.reduce((sum, { chosen }) => sum + chosen[0], 0) / count;
  checkLoss(id, got.loss + likelihoodWeight * (config.nll - nll), loss);
  const [chosen, rejected] = [got.dLogprobs.slice(0, count), got.dLogprobs.slice(count)].map((side) =>
    side.map(([d]) => d)
  );
  checkGradient(id, chosen.map((d) => d + likelihoodWeight / count), tensors.read(`${id}/grad/c`));
  checkGradient(id, rejected, tensors.read(`${id}/grad/r`));
  const { nll_loss, ...others } = got.metrics;
  assert.ok(Math.abs(nll_loss - (likelihoodWeight ? nll : 0)) < 1e-12);
  checkMetrics(id, others, metrics, [...LOGITS, "nll_loss"]);
}

Deno.test("ORPO's, CPO's, SimPO's and AlphaPO's losses, gradients and metrics are TRL's in all 16 recorded cases", () => {
  for (const one of cases) {
    const c = one.config, pairs = recorded(c.logps);
    if (c.alg === "orpo") {
      compare(one, orpoLoss(pairs, c), 1);
      continue;
    }
    const options = {
      lossType: c.loss_type!,
      beta: c.beta,
      labelSmoothing: c.label_smoothing!,
      cpoAlpha: c.cpo_alpha!,
      simpoGamma: c.simpo_gamma!,
      alpha: c.alpha ?? 0,
    };
    compare(one, cpoLoss(pairs, options), c.cpo_alpha!);
    if (c.cpo_alpha === 0 && c.alpha) {
      assert.deepEqual(
        cpoLoss(pairs, { ...options, lossType: "alphapo", cpoAlpha: 1 }),
        cpoLoss(pairs, options),
      );
    }
  }
  assert.equal(cases.length, 16);
  console.log("shares of the tolerances:", used);
});

/** Pairs of answers of several tokens. */
const pairsOf = (answers: Float64Array[]) => {
  const half = answers.length / 2;
  return answers.slice(0, half).map((chosen, i) => ({ chosen, rejected: answers[half + i] }));
};

Deno.test("derivatives of CPO's losses are those of differences, on pairs of any lengths", () => {
  for (const lossType of CPO_LOSS_TYPES) {
    for (const alpha of [0, 0.25, -0.5]) {
      const options = { lossType, beta: 0.7, labelSmoothing: 0.1, cpoAlpha: 0.4, simpoGamma: 0.9, alpha };
      checkDifferences(
        `${lossType}, alpha ${alpha}`,
        randomAnswers(21, 8),
        (all) => cpoLoss(pairsOf(all), options),
      );
    }
  }
});

Deno.test("derivatives of ORPO's loss are those of differences, with prompts that are learnt, too", () => {
  // The chosen texts have 1 to 3 tokens of prompt before at least one of the answer.
  const answers = randomAnswers(22, 8).map((row, i) => i < 4 ? Float64Array.of(-0.3, -0.8, ...row) : row);
  checkDifferences(
    "orpo",
    answers,
    (all) => orpoLoss(pairsOf(all).map((pair, i) => ({ ...pair, promptTokens: i % 3 })), { beta: 0.6 }),
  );
});

Deno.test("ORPO's likelihood is of prompt and answer, its odds are of the answer alone", () => {
  const answer = { chosen: Float64Array.of(-0.5, -1), rejected: Float64Array.of(-2) };
  const alone = orpoLoss([{ ...answer, promptTokens: 0 }], { beta: 1 });
  const after = orpoLoss([{ ...answer, chosen: Float64Array.of(-4.5, ...answer.chosen), promptTokens: 1 }], {
    beta: 1,
  });
  assert.equal(after.metrics.log_odds_chosen, alone.metrics.log_odds_chosen);
  assert.deepEqual([alone.metrics.nll_loss, after.metrics.nll_loss], [0.75, 2]);
});

Deno.test("ORPO's loss has derivatives where the policy is certain of the chosen answer", () => {
  const pair = { chosen: Float64Array.of(0, 0), promptTokens: 0, rejected: Float64Array.of(-1) };
  const { loss, dLogprobs } = orpoLoss([pair], { beta: 0.5 });
  assert.ok(Math.abs(loss) < 1e-15);
  // d/dc of ln(1 + a/b) at a = 0 is −1/b, and each of the two tokens has half of it, besides that of the likelihood.
  const want = -0.5 / (Math.E - 1) / 2 - 0.5;
  assert.ok(Math.abs(dLogprobs[0][0] - want) < 1e-12, `${dLogprobs[0][0]} is not ${want}`);
  assert.ok(dLogprobs[1][0] === 0);
});
