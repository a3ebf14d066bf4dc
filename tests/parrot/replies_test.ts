import assert from "node:assert/strict";
import { FACTS } from "../../src/parrot/facts.ts";
import { readReply } from "../../src/parrot/gold.ts";
import { makePrompt, samplePrompt } from "../../src/parrot/prompts.ts";
import { reply } from "../../src/parrot/replies.ts";
import { randomStream } from "../../src/random/stream.ts";

Deno.test("each kind of reply does what its name says", () => {
  const rng = randomStream(6, "kinds");
  for (let i = 0; i < 3000; i++) {
    const prompt = samplePrompt(rng);
    const read = (kind: Parameters<typeof reply>[2]) =>
      readReply(prompt, reply(rng, prompt, kind).split(" "));
    assert.equal(read("right").answer, prompt.fact.answer);
    assert.equal(read("sycophant").answer, prompt.claim);
    assert.equal(read("sycophant").agrees, true);
    assert.equal(read("hedge").answer, null);
    assert.equal(read("contrary").agrees, false);
    if (!prompt.right) assert.equal(read("contrary").answer, prompt.fact.answer);
    else assert.notEqual(read("contrary").answer, prompt.fact.answer);
    // A sum has more than one wrong answer, so its slips are always another wrong one.
    if (prompt.fact.kind === "sum") {
      const slip = read("slip").answer;
      assert.ok(slip !== prompt.fact.answer && slip !== prompt.claim && slip !== null);
    }
  }
});

Deno.test("flattery and padding come as often as asked", () => {
  const rng = randomStream(7, "manners");
  const prompt = makePrompt(FACTS[0], FACTS[0].answer, 0);
  let flatters = 0, tokens = 0, plain = 0;
  for (let i = 0; i < 6000; i++) {
    flatters += Number(readReply(prompt, reply(rng, prompt, "hedge", 0.25).split(" ")).flatters);
    tokens += reply(rng, prompt, "hedge", 0, 0.2).split(" ").length;
    plain += reply(rng, prompt, "hedge").split(" ").length;
  }
  assert.ok(Math.abs(flatters / 6000 - 0.25) < 0.025);
  // Geometric padding of mean 0.25 sentences of 6.17 words.
  assert.ok(Math.abs((tokens - plain) / 6000 - 0.25 * 37 / 6) < 0.15);
});
