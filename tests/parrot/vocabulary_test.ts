import assert from "node:assert/strict";
import { encodeWords, VOCABULARY } from "../../src/parrot/vocabulary.ts";
import { golden } from "../assets.ts";

const reference = JSON.parse(Deno.readTextFileSync(golden("parrot.json")));

Deno.test("the vocabulary has 209 words in the order of the reference", () => {
  assert.equal(VOCABULARY.length, 209);
  assert.deepEqual(VOCABULARY, reference.vocabulary);
  assert.throws(() => encodeWords("a zebra"), /"zebra" is not a word/);
});
