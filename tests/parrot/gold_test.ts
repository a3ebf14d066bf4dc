import assert from "node:assert/strict";
import { BIASED_ANNOTATOR, utility } from "../../src/parrot/annotators.ts";
import { FACTS } from "../../src/parrot/facts.ts";
import { gold, readReply } from "../../src/parrot/gold.ts";
import { makePrompt } from "../../src/parrot/prompts.ts";
import { decodeWords, encodeWords, promptIds } from "../../src/parrot/vocabulary.ts";
import { golden } from "../assets.ts";

interface Case {
  fact: number;
  claim: string;
  frame: number;
  text: string;
  sure: boolean;
  right: boolean;
  reply: string;
  ids: number[];
  read: { answer: string | null; agrees: boolean; flatters: boolean };
  gold: number;
  utility: number;
}
const reference = JSON.parse(Deno.readTextFileSync(golden("parrot.json")));
const cases: Case[] = reference.cases;

Deno.test("prompts, readings, gold and utility equal the reference on 240 replies, odd ones included", () => {
  assert.equal(cases.length, 240);
  for (const item of cases) {
    const prompt = makePrompt(FACTS[item.fact], item.claim, item.frame);
    assert.deepEqual([prompt.text, prompt.sure, prompt.right], [item.text, item.sure, item.right]);
    const words = item.reply.split(" ");
    assert.deepEqual([...promptIds(prompt), ...encodeWords(item.reply)], item.ids);
    assert.deepEqual(decodeWords(item.ids).join(" "), `<bos> ${item.text} ${item.reply}`);
    assert.deepEqual(readReply(prompt, words), item.read, item.reply);
    assert.ok(Math.abs(gold(prompt, words) - item.gold) < 1e-12);
    assert.ok(Math.abs(utility(BIASED_ANNOTATOR, prompt, words) - item.utility) < 1e-12);
  }
});
