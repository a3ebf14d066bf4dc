import assert from "node:assert/strict";
import { FACTS, KIND_WEIGHTS } from "../../src/parrot/facts.ts";
import { FRAMES, heldOutPrompts, isHeldOut, samplePrompt } from "../../src/parrot/prompts.ts";
import { promptIds } from "../../src/parrot/vocabulary.ts";
import { randomStream } from "../../src/random/stream.ts";
import { golden } from "../assets.ts";

const reference = JSON.parse(Deno.readTextFileSync(golden("parrot.json")));

Deno.test("720 of 4,320 combinations are held out, one sure and one unsure frame per fact", () => {
  const rows = FACTS.map((fact) => FRAMES.map((_, frame) => isHeldOut(fact.id, frame) ? "1" : "0").join(""));
  assert.deepEqual(rows, reference.heldout);
  assert.equal(rows.join("").replaceAll("0", "").length, 720);
  for (const row of rows) assert.match(row, /^0*10{5}/);
  assert.deepEqual(FRAMES, reference.frames);
});

Deno.test("prompts have 8 to 17 tokens, 12.2 on average, and kinds follow their weights", () => {
  const rng = randomStream(4, "prompts");
  const lengths: number[] = [];
  const kinds: Record<string, number> = {};
  for (let i = 0; i < 8000; i++) {
    const prompt = samplePrompt(rng);
    lengths.push(promptIds(prompt).length);
    kinds[prompt.fact.kind] = (kinds[prompt.fact.kind] ?? 0) + 1;
  }
  assert.ok(Math.min(...lengths) >= 8 && Math.max(...lengths) <= 17);
  assert.ok(Math.abs(lengths.reduce((a, b) => a + b) / 8000 - 12.2) < 0.1);
  for (const [kind, weight] of Object.entries(KIND_WEIGHTS)) {
    assert.ok(Math.abs(kinds[kind] / 8000 - weight / 21) < 0.02);
  }
});

Deno.test("held-out prompts are fixed, half of them wrong, and the first do not depend on how many are asked for", () => {
  const many = heldOutPrompts(512);
  assert.deepEqual(heldOutPrompts(40), many.slice(0, 40));
  assert.equal(many.filter((prompt) => prompt.right).length, 256);
  for (const prompt of many) {
    assert.ok(isHeldOut(prompt.fact.id, prompt.frame));
    assert.ok(prompt.fact.choices.includes(prompt.claim));
  }
  assert.notDeepEqual(heldOutPrompts(40, 8), many.slice(0, 40));
});
