/** KTO's losses and their derivatives against TRL's and against differences. */
import assert from "node:assert/strict";
import {
  type KtoAnswer,
  ktoLoss,
  type KtoLossOptions,
  mismatchedKl,
  weightAdvice,
} from "../../src/rl/kto_loss.ts";
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
  loss_type: KtoLossOptions["lossType"];
  beta: number;
  kl: "pos" | "neg" | "none";
  desirable_weight?: number;
  undesirable_weight?: number;
  label: number[];
}

const ROWS = 6, TIME = 11;

Deno.test("KTO's losses, gradients and metrics are TRL's in all 12 recorded cases", () => {
  const { cases, tensors } = recordedLosses<Config>("losses_kto");
  const mask = tensors.readIntegers("in/mask");
  const answersOf = (name: string) => {
    const all = tensors.read(name);
    return Array.from(
      { length: ROWS },
      (_, row) =>
        Float64Array.from(all.subarray(row * TIME, (row + 1) * TIME)).filter((_, t) => mask[row * TIME + t]),
    );
  };
  const sums = (name: string) =>
    Array.from(
      { length: ROWS },
      (_, row) => tensors.read(name).subarray(row * TIME, (row + 1) * TIME).reduce((a, b) => a + b, 0),
    );
  const logps = answersOf("in/logps"), refs = sums("in/ref_logps");
  for (const { id, config: c, loss, metrics } of cases) {
    const kl = c.kl === "none" ? 0 : mismatchedKl(sums("in/kl_logps"), sums(`in/kl_ref_logps_${c.kl}`));
    const got = ktoLoss(
      logps.map((logprobs, i) => ({ logprobs, refLogprob: refs[i], desirable: c.label[i] === 1 })),
      kl,
      {
        lossType: c.loss_type,
        beta: c.beta,
        desirableWeight: c.desirable_weight ?? 1,
        undesirableWeight: c.undesirable_weight ?? 1,
      },
    );
    checkLoss(id, got.loss, loss);
    const want = tensors.read(`${id}/grad/logps`).filter((_, i) => mask[i]);
    checkGradient(id, got.dLogprobs.flatMap((row) => Array.from(row)), want);
    checkMetrics(id, got.metrics, metrics, ["entropy", "logits/chosen", "logits/rejected"]);
  }
  assert.equal(cases.length, 12);
  console.log("shares of the tolerances:", used);
});

Deno.test("derivatives of KTO's losses are those of differences, with weights and on answers of any lengths", () => {
  for (const lossType of ["kto", "apo_zero_unpaired"] as const) {
    const options = { lossType, beta: 0.4, desirableWeight: 1.3, undesirableWeight: 0.7 };
    checkDifferences(lossType, randomAnswers(11, 7), (all) =>
      ktoLoss(
        all.map((logprobs, i): KtoAnswer => ({ logprobs, refLogprob: -2 + i / 3, desirable: i % 3 !== 1 })),
        0.35,
        options,
      ));
  }
});

Deno.test("the estimate of the KL is never below 0", () => {
  assert.equal(mismatchedKl([-3, -4], [-1, -1]), 0);
  assert.equal(mismatchedKl([-1, -2], [-2, -2]), 0.5);
});

Deno.test("weights are advised where one kind of answers outweighs the other, and the advice makes up for it", () => {
  const advise = (good: number, bad: number, desirableWeight = 1, undesirableWeight = 1) =>
    weightAdvice(good, bad, { desirableWeight, undesirableWeight });
  assert.equal(advise(10, 10), undefined);
  assert.equal(advise(5, 4), undefined);
  const said = advise(10, 40)!;
  assert.match(
    said,
    /10 good and 40 bad .* desirable_weight of 4.00 to 5.33, or an undesirable_weight of 0.19 to 0.25/,
  );
  for (const [desirable, undesirable] of [[4, 1], [5.33, 1], [1, 0.19], [1, 0.25]]) {
    assert.equal(advise(10, 40, desirable, undesirable), undefined);
  }
  assert.ok(advise(10, 40, 3.9) && advise(10, 40, 5.4) && advise(5, 4, 1, 1.5));
  assert.match(advise(3, 0)!, /All 3 answers are good ones/);
});
