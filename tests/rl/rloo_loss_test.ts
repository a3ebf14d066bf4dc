/** RLOO's loss of whole sequences: TRL's values and gradients, and differences. */
import assert from "node:assert/strict";
import { rlooLoss } from "../../src/rl/rloo_loss.ts";
import { random } from "../kernels/helpers.ts";
import { checkSlopes, comparison, trlCases } from "./trl_cases.ts";

Deno.test("RLOO's losses and their gradients are TRL's", () => {
  const { cases, rows, lengths, tensors } = trlCases("losses_rloo");
  assert.equal(cases.length, 5);
  const sizes = lengths("in/mask", 6), kept = lengths("in/mask_truncated", 6), compare = comparison();
  for (const { id, config, loss, metrics, grad } of cases) {
    const c = config as Record<string, number>;
    const got = rlooLoss({
      logprobs: rows("in/logps", sizes),
      entropies: rows("in/entropies", sizes),
      advantages: tensors.read("in/advantages"),
      ...(!config.old_is_current && { oldLogprobs: rows("in/old_logps", sizes) }),
      counted: kept.map((n) => !config.mask_truncated_completions || n > 0),
    }, { epsilon: c.epsilon, epsilonHigh: c.epsilon_high, passes: 1 });
    compare.close(`${id}: loss`, got.loss, loss, 2e-6 + 1e-5 * Math.abs(loss));
    compare.gradient(`${id}: d logps`, got.dLogprobs, rows(grad.logps, sizes));
    for (const [name, want] of Object.entries(metrics)) {
      compare.close(`${id}: ${name}`, got.metrics[name], want, name === "entropy" ? 1e-5 : 1e-7);
    }
  }
  console.log(`at most ${compare.worst.toFixed(3)} of a tolerance used`);
});

Deno.test("the derivatives of RLOO's loss are its slopes", () => {
  for (let seed = 1; seed <= 8; seed++) {
    const { float, below } = random(seed);
    const logprobs = Array.from(
      { length: 5 },
      () => Float64Array.from({ length: 1 + below(9) }, () => -1.5 + float()),
    );
    const inputs = {
      entropies: logprobs,
      oldLogprobs: logprobs.map((row) => row.map((x) => x + 0.2 * float())),
      advantages: logprobs.map(() => 2 * float()),
      counted: logprobs.map((_, i) => i !== seed % 5),
    };
    const lossOf = (moved: Float64Array[]) =>
      rlooLoss({ ...inputs, logprobs: moved }, { epsilon: 0.1, epsilonHigh: 0.2, passes: 2 });
    const { dLogprobs } = lossOf(logprobs);
    checkSlopes(`seed ${seed}`, logprobs, dLogprobs, (moved) => lossOf(moved).loss);
    assert.ok(dLogprobs[seed % 5].every((x) => x === 0));
  }
});
