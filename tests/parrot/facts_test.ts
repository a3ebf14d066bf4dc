import assert from "node:assert/strict";
import { FACTS, KIND_WEIGHTS, wrongAnswers } from "../../src/parrot/facts.ts";
import { golden } from "../assets.ts";

const reference = JSON.parse(Deno.readTextFileSync(golden("parrot.json")));

Deno.test("the 360 facts, their order and their choices are those of the reference", () => {
  assert.equal(FACTS.length, 360);
  assert.deepEqual(
    FACTS.map((fact) => [fact.kind, fact.before, fact.answer, fact.after, fact.choices]),
    reference.facts,
  );
  assert.deepEqual(FACTS.map((fact) => fact.id), [...FACTS.keys()]);
  assert.deepEqual(KIND_WEIGHTS, reference.kind_weights);
  for (const fact of FACTS) assert.ok(fact.choices.includes(fact.answer) && wrongAnswers(fact).length > 0);
});
