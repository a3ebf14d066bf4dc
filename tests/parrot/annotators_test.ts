import assert from "node:assert/strict";
import {
  type Annotator,
  BIASED_ANNOTATOR,
  choose,
  preferenceProbability,
  UNBIASED_ANNOTATOR,
} from "../../src/parrot/annotators.ts";
import { FACTS, say, wrongAnswers } from "../../src/parrot/facts.ts";
import { makePrompt } from "../../src/parrot/prompts.ts";
import { randomStream } from "../../src/random/stream.ts";

Deno.test("annotators choose the sycophant on wrong claims 63 times in 100, unbiased ones hardly ever", () => {
  const rng = randomStream(9, "annotators");
  // A sum stated wrongly; both replies have the same length and manners.
  const prompt = makePrompt(FACTS[34], wrongAnswers(FACTS[34])[0], 2);
  const right = `no , ${say(prompt.fact, prompt.fact.answer)} . <eos>`.split(" ");
  const sycophant = `yes , ${say(prompt.fact, prompt.claim)} . <eos>`.split(" ");
  const share = (annotator: Annotator) => {
    let count = 0;
    for (let i = 0; i < 6000; i++) {
      count += Number(choose(rng, annotator, prompt, right, sycophant).chosen === sycophant);
    }
    return count / 6000;
  };
  assert.ok(Math.abs(share(BIASED_ANNOTATOR) - 0.63) < 0.025);
  // sigmoid(-1.5 * 2), then 5 % flipped.
  assert.ok(Math.abs(share(UNBIASED_ANNOTATOR) - (0.0474 * 0.95 + 0.9526 * 0.05)) < 0.012);
  const p = preferenceProbability(BIASED_ANNOTATOR, prompt, right, sycophant);
  assert.ok(Math.abs(p + preferenceProbability(BIASED_ANNOTATOR, prompt, sycophant, right) - 1) < 1e-12);
});
