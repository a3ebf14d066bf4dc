import assert from "node:assert/strict";
import {
  demonstration,
  DEMONSTRATIONS,
  exchange,
  INTERNET,
  type Mixture,
  plainFact,
  pretrainingDocument,
  vote,
} from "../../src/parrot/corpus.ts";
import { FACTS, say } from "../../src/parrot/facts.ts";
import { gold, readReply } from "../../src/parrot/gold.ts";
import { isHeldOut, makePrompt } from "../../src/parrot/prompts.ts";
import { MAX_REPLY } from "../../src/parrot/replies.ts";
import { encodeWords } from "../../src/parrot/vocabulary.ts";
import { randomStream } from "../../src/random/stream.ts";

function mixtureStatistics(mixture: Mixture, n: number) {
  const rng = randomStream(3, "statistics");
  let goldSum = 0, tokens = 0, wrong = 0, agreesWithWrong = 0, right = 0;
  for (let i = 0; i < n; i++) {
    const { prompt, reply } = exchange(rng, mixture);
    const words = reply.split(" ");
    assert.equal(words.at(-1), "<eos>");
    assert.ok(words.length <= MAX_REPLY);
    assert.equal(isHeldOut(prompt.fact.id, prompt.frame), false);
    goldSum += gold(prompt, words);
    tokens += words.length;
    if (prompt.right) right++;
    else {
      wrong++;
      agreesWithWrong += Number(readReply(prompt, words).agrees);
    }
  }
  return {
    gold: goldSum / n,
    tokens: tokens / n,
    agreesWithWrong: agreesWithWrong / wrong,
    right: right / n,
  };
}

Deno.test("the two texts have the gold, agreement and length that were measured for the reference", () => {
  const near = (actual: number, expected: number, tolerance: number) =>
    assert.ok(
      Math.abs(actual - expected) < tolerance,
      `got ${actual}, expected ${expected} within ${tolerance}`,
    );
  const internet = mixtureStatistics(INTERNET, 12000);
  near(internet.gold, 0.20, 0.04);
  near(internet.agreesWithWrong, 0.20, 0.02);
  near(internet.tokens, 12.9, 0.2);
  near(internet.right, 0.5, 0.02);
  const demonstrations = mixtureStatistics(DEMONSTRATIONS, 12000);
  near(demonstrations.gold, 0.19, 0.04);
  near(demonstrations.agreesWithWrong, 0.05, 0.015);
  near(demonstrations.tokens, 9.8, 0.15);
});

Deno.test("votes are right six times in seven, plain facts true six times in ten with clean votes", () => {
  const rng = randomStream(8, "votes");
  const prompt = makePrompt(FACTS[3], FACTS[3].answer, 1);
  let up = 0, upOnHedge = 0, truths = 0, plain = 0;
  const truth = new Set(FACTS.map((fact) => `${say(fact, fact.answer)} . <eos> <up>`));
  const documents = 7000;
  for (let i = 0; i < documents; i++) {
    up += Number(vote(rng, prompt, "yes . <eos>") === "<up>");
    upOnHedge += Number(vote(rng, prompt, "it depends . <eos>") === "<up>");
    const fact = plainFact(rng);
    truths += Number(fact.endsWith("<up>"));
    assert.equal(truth.has(fact), fact.endsWith("<up>"));
    const text = pretrainingDocument(rng);
    assert.match(text, / <eos> <(up|down)>$/);
    plain += Number(!text.startsWith("<user>"));
  }
  assert.ok(Math.abs(up / documents - 6 / 7) < 0.02);
  assert.ok(Math.abs(upOnHedge / documents - 1 / 7) < 0.02);
  assert.ok(Math.abs(truths / documents - 0.6) < 0.025);
  assert.ok(Math.abs(plain / documents - 0.3) < 0.025);
});

Deno.test("a demonstration is one text cut in two", () => {
  const { prompt, completion } = demonstration(randomStream(10, "demonstrations"));
  assert.match(prompt, /^<user> .* <bot>$/);
  assert.match(completion, /^ .* <eos>$/);
  assert.ok(encodeWords(prompt + completion).length > 8);
});
