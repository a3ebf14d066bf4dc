/** The losses of GRPO's kin and their gradients: TRL's values, and differences on random batches. */
import assert from "node:assert/strict";
import { appliedEntropyCoef, updateEntropyCoef } from "../../src/rl/entropy_control.ts";
import {
  GRPO_DEFAULTS,
  type GrpoInputs,
  grpoLoss,
  type GrpoLossOptions,
  learntEntropy,
} from "../../src/rl/grpo_loss.ts";
import type { GrpoLossType } from "../../src/rl/grpo_terms.ts";
import type { KlEstimator } from "../../src/rl/kl.ts";
import type { PerToken } from "../../src/rl/token_loss.ts";
import { random } from "../kernels/helpers.ts";
import { camelCase } from "../../src/train/options/names.ts";
import { checkSlopes, comparison, trlCases } from "./trl_cases.ts";

const ROWS = 6;
/** The row that `mask_truncated_completions` masks. */
const TRUNCATED = 4;
/** Fields of a case's config that are no option of the loss. */
const OTHERS = [
  "mask_truncated_completions",
  "old_is_current",
  "is_correction",
  "advantages_per_token",
  "adaptive_entropy",
  "last_world_entropy",
  "entropy_target",
  "num_items_in_batch",
  "steps_per_generation",
  "accum",
  "eval",
  "max_completion_length",
];

Deno.test("all 118 losses of GRPO's kin and their gradients are TRL's", () => {
  const { cases, rows, lengths, tensors } = trlCases("losses_grpo");
  assert.equal(cases.length, 118);
  const sizes = lengths("in/mask", ROWS), compare = comparison();
  for (const { id, config, loss, metrics, grad } of cases) {
    const c = config as Record<string, number>;
    const given = (name: string) => rows(`in/${name}`, sizes);
    const one = (name: string) => Array.from(tensors.read(`in/${name}`), (x) => Float64Array.of(x));
    // The recorded weights are not 1 in the padding, and vespo multiplies those of the whole width.
    const wholeProducts = () => {
      const all = tensors.read("in/is_ratio_token"), width = all.length / ROWS;
      return given("is_ratio_token").map((row, i) => {
        const padding = all.subarray(i * width + row.length, (i + 1) * width);
        row[row.length - 1] *= padding.reduce((a, b) => a * b, 1);
        return row;
      });
    };
    const counted = sizes.map((_, i) => !(config.mask_truncated_completions && i === TRUNCATED));
    const tokens = sizes.reduce((n, size, i) => n + (counted[i] ? size : 0), 0);
    const inputs: GrpoInputs = {
      logprobs: given("logps"),
      entropies: given("entropies"),
      refLogprobs: given("ref_logps"),
      advantages: config.advantages_per_token ? given("advantages_per_token") : one("advantages"),
      counted,
      ...(!config.old_is_current && { oldLogprobs: given("old_logps") }),
      ...(config.is_correction === "token" && {
        samplingWeights: config.loss_type === "vespo" ? wholeProducts() : given("is_ratio_token"),
        samplingLogprobs: given("sampling_logps"),
      }),
      ...(config.is_correction === "sequence" && {
        samplingWeights: one("is_ratio_sequence"),
        samplingLogprobs: given("sampling_logps"),
      }),
    };
    const control = { entropyCoef: c.entropy_coef ?? 0, lastEntropy: c.last_world_entropy ?? 0 };
    const adaptive = {
      entropyTarget: c.entropy_target ?? Infinity,
      entropyCoefDelta: 0.005,
      entropyCoefMin: 0,
      entropyCoefMax: 1,
    };
    const options = {
      ...GRPO_DEFAULTS,
      ...Object.fromEntries(
        Object.entries(config).filter(([name]) => !OTHERS.includes(name)).map(([name, value]) => [
          camelCase(name),
          value,
        ]),
      ),
      entropyCoef: config.adaptive_entropy ? appliedEntropyCoef(control, adaptive) : control.entropyCoef,
    } as GrpoLossOptions;
    const passes = config.eval ? 1 : c.accum ?? 2, steps = c.steps_per_generation ?? 2;
    const items = c.num_items_in_batch ?? (config.eval ? 1 : 2) * tokens;
    const got = grpoLoss(inputs, options, {
      passes,
      tokens: config.eval ? items : items * passes / steps,
      maxCompletionLength: c.max_completion_length ?? 16,
    });
    compare.close(`${id}: loss`, got.loss, loss, 2e-6 + 1e-5 * Math.abs(loss));
    compare.gradient(`${id}: d logps`, got.dLogprobs, rows(grad.logps, sizes));
    if (grad.entropies) {
      compare.gradient(`${id}: d entropies`, got.dEntropies!, rows(grad.entropies, sizes));
    }
    const { entropy_coef, ...others } = metrics;
    for (const [name, want] of Object.entries(others)) {
      const exact = name.startsWith("clip") || name.startsWith("cispo");
      compare.close(
        `${id}: ${name}`,
        got.metrics[name],
        want,
        exact ? 1e-7 : 1e-5 * Math.max(1, Math.abs(want)),
      );
    }
    if (config.adaptive_entropy) {
      const next = updateEntropyCoef(control, got.metrics.entropy, adaptive);
      compare.close(`${id}: entropy_coef`, next.entropyCoef, entropy_coef, 1e-12);
    }
  }
  console.log(`at most ${compare.worst.toFixed(3)} of a tolerance used`);
});

const LOSS_TYPES: GrpoLossType[] = [
  "grpo",
  "bnpo",
  "dr_grpo",
  "dapo",
  "cispo",
  "sapo",
  "luspo",
  "vespo",
  "gmpo",
];

/** A random ragged batch with everything in it. */
function batch(seed: number, lengths: number[], perToken: boolean): GrpoInputs {
  const { float } = random(seed);
  const numbers = (of: (i: number, t: number) => number): PerToken =>
    lengths.map((length, i) => Float64Array.from({ length }, (_, t) => of(i, t)));
  const logprobs = numbers(() => -1.5 + float());
  const near = (by: number) => logprobs.map((row) => row.map((x) => x + by * float()));
  return {
    logprobs,
    oldLogprobs: near(0.4),
    refLogprobs: near(0.5),
    samplingLogprobs: near(0.3),
    exactKl: numbers(() => 0.2 + 0.1 * float()),
    entropies: numbers(() => 1.2 + float()),
    advantages: perToken ? numbers(() => 2 * float()) : lengths.map(() => Float64Array.of(2 * float())),
    samplingWeights: perToken
      ? numbers(() => 1 + 0.3 * float())
      : lengths.map(() => Float64Array.of(1 + float())),
    counted: lengths.map((_, i) => i !== 1),
  };
}

for (const lossType of LOSS_TYPES) {
  Deno.test(`the derivatives of ${lossType} are slopes of its loss`, () => {
    let seed = 1;
    for (const importanceSamplingLevel of ["token", "sequence"] as const) {
      for (const klEstimator of ["k1", "k2", "k3", "exact"] as KlEstimator[]) {
        for (const perToken of [false, true]) {
          const inputs = batch(seed++, [7, 3, 1, 12, 5], perToken);
          const options: GrpoLossOptions = {
            ...GRPO_DEFAULTS,
            lossType,
            importanceSamplingLevel,
            klEstimator,
            beta: 0.3,
            epsilonHigh: lossType === "cispo" ? 1.1 : 0.3,
            delta: 1.6,
            entropyCoef: 0.05,
            offPolicyMaskThreshold: 0.05,
            topEntropyQuantile: 0.6,
            useBiasCorrectionKl: seed % 3 > 0,
          };
          // What carries no gradient is held where it is.
          const scale = { passes: 3, tokens: 17, maxCompletionLength: 12 };
          const held = (moved: Partial<GrpoInputs>) => grpoLoss({ ...inputs, ...moved }, options, scale);
          const got = held({});
          const loose = lossType === "cispo" || lossType === "vespo";
          const what = `${lossType} ${importanceSamplingLevel} ${klEstimator} ${perToken}`;
          if (!loose) {
            checkSlopes(what, inputs.logprobs, got.dLogprobs, (logprobs) => held({ logprobs }).loss);
          }
          if (klEstimator === "exact") {
            checkSlopes(`${what}, KL`, inputs.exactKl!, got.dKl!, (exactKl) => held({ exactKl }).loss);
          } else assert.equal(got.dKl, undefined);
          // The tokens that are chosen stay the same where entropies move by little.
          checkSlopes(
            `${what}, entropy`,
            inputs.entropies,
            got.dEntropies!,
            (entropies) => held({ entropies }).loss,
          );
          assert.ok(got.dLogprobs[1].every((x) => x === 0), "a sequence that does not count teaches nothing");
        }
      }
    }
  });
}

Deno.test("weights that carry no gradient are held: cispo and vespo are weighted log-likelihoods", () => {
  for (const lossType of ["cispo", "vespo"] as const) {
    const inputs = { ...batch(77, [4, 6, 9], false), counted: undefined };
    const options = { ...GRPO_DEFAULTS, lossType, epsilonHigh: 1.1 };
    const scale = { passes: 1, tokens: 19, maxCompletionLength: 9 };
    const { loss, dLogprobs } = grpoLoss(inputs, options, scale);
    const linear = dLogprobs.reduce(
      (sum, row, i) => sum + row.reduce((s, x, t) => s + x * inputs.logprobs[i][t], 0),
      0,
    );
    assert.ok(Math.abs(linear - loss) < 1e-12, `${lossType}: ${linear}, ${loss}`);
  }
});

Deno.test("without older log-probabilities the ratio is 1 and nothing is clipped", () => {
  for (const lossType of LOSS_TYPES) {
    const { logprobs, entropies, advantages } = batch(5, [3, 8, 2], false);
    const options = {
      ...GRPO_DEFAULTS,
      lossType,
      epsilon: 1e-9,
      epsilonHigh: lossType === "cispo" ? 2 : 1e-9,
    };
    const scale = { passes: 1, tokens: 13, maxCompletionLength: 8 };
    const { metrics, dLogprobs } = grpoLoss({ logprobs, entropies, advantages }, options, scale);
    for (const [name, value] of Object.entries(metrics)) {
      if (name.includes("clip")) assert.equal(value, 0, `${lossType}: ${name}`);
    }
    assert.ok(dLogprobs.every((row, i) => row.every((x) => Math.sign(x) === -Math.sign(advantages[i][0]))));
  }
});

Deno.test("a pass in which no sequence counts has no loss and finite metrics", () => {
  for (const lossType of LOSS_TYPES) {
    const inputs = { ...batch(6, [3, 2], false), counted: [false, false] };
    const options = { ...GRPO_DEFAULTS, lossType, beta: 0.1, entropyCoef: 0.1, topEntropyQuantile: 0.5 };
    const { loss, metrics, dLogprobs } = grpoLoss(inputs, options, {
      passes: 1,
      tokens: 0,
      maxCompletionLength: 3,
    });
    assert.equal(Math.abs(loss), 0);
    assert.ok(Object.values(metrics).every(Number.isFinite), JSON.stringify(metrics));
    assert.ok(dLogprobs.flatMap((row) => [...row]).every((x) => x === 0));
  }
});

Deno.test("delta bounds what an unlikely token costs once it has become likely", () => {
  const one = (x: number) => [Float64Array.of(x)];
  const at = (delta?: number) =>
    grpoLoss(
      { logprobs: one(-1), oldLogprobs: one(-1 - Math.log(3)), entropies: one(1), advantages: one(-1) },
      { ...GRPO_DEFAULTS, delta },
      { passes: 1, tokens: 1, maxCompletionLength: 1 },
    );
  assert.ok(Math.abs(at().loss - 3) < 1e-12 && Math.abs(at().dLogprobs[0][0] - 3) < 1e-12);
  assert.deepEqual([at(2).loss, Math.abs(at(2).dLogprobs[0][0])], [2, 0]);
});

Deno.test("the controller looks at the tokens that are learnt from", () => {
  const entropies = [Float64Array.of(1, 4, 2), Float64Array.of(9), Float64Array.of(3)],
    counted = [true, false, true];
  assert.deepEqual(learntEntropy({ entropies, counted }, 1), { sum: 10, count: 4 });
  assert.deepEqual(learntEntropy({ entropies, counted }, 0.5), { sum: 7, count: 2 });
});

Deno.test("a KL term without a reference is refused", () => {
  const { logprobs, entropies, advantages } = batch(8, [3], false);
  const scale = { passes: 1, tokens: 3, maxCompletionLength: 3 };
  const inputs = { logprobs, entropies, advantages };
  assert.throws(
    () => grpoLoss(inputs, { ...GRPO_DEFAULTS, beta: 0.1 }, scale),
    /log-probabilities of a reference/,
  );
  assert.throws(
    () => grpoLoss(inputs, { ...GRPO_DEFAULTS, beta: 0.1, klEstimator: "exact" }, scale),
    /exact KL/,
  );
});
